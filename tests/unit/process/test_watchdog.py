"""The watchdog, on real connections."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from bridge.process.watchdog import RELEASED_LIMIT, Guard, Watchdog

#: Seconds after which something that should have happened counts as not happening.
PATIENCE = 10.0

#: The two ends of a connection.
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The two ends of a connection; reading from either gives up after PATIENCE."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        theirs.settimeout(PATIENCE)
        yield ours, theirs


def soon(seconds: float = 0.0) -> float:
    return time.monotonic() + seconds


def test_at_the_deadline_the_connection_is_shut_down(watchdog: Watchdog, pair: Pair) -> None:
    ours, theirs = pair
    deadline = soon(0.05)
    guard = watchdog.watch(ours, deadline)
    assert ours.recv(1) == b""
    assert time.monotonic() >= deadline
    assert guard.fired
    assert theirs.recv(1) == b""


def test_a_deadline_that_has_passed_fires_at_once(watchdog: Watchdog, pair: Pair) -> None:
    watchdog.watch(pair[0], soon(-1))
    assert pair[0].recv(1) == b""


def test_one_can_be_shut_down_before_its_deadline(watchdog: Watchdog, pair: Pair) -> None:
    guard = watchdog.watch(pair[0], soon(3600))
    guard.fire()
    assert pair[0].recv(1) == b""
    assert (guard.fired, guard.early) == (True, True)
    guard.release()


def test_but_not_once_it_is_released(watchdog: Watchdog, pair: Pair) -> None:
    guard = watchdog.watch(pair[0], soon(3600))
    guard.release()
    guard.fire()
    pair[1].sendall(b"x")
    assert pair[0].recv(1) == b"x"
    assert (guard.fired, guard.early) == (False, False)


def test_those_shut_down_early_do_not_pile_up(watchdog: Watchdog) -> None:
    for _ in range(5 * RELEASED_LIMIT):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            watchdog.watch(ours, soon(3600)).fire()
    watchdog.watch(ours, soon(3600)).release()
    assert len(watchdog._heap) <= 2 * RELEASED_LIMIT


def test_a_released_connection_is_left_alone(watchdog: Watchdog, pair: Pair) -> None:
    ours, theirs = pair
    with watchdog.watch(ours, soon(0.02)) as guard:
        pass
    later, _ = socket.socketpair()
    with later, _:
        later.settimeout(PATIENCE)
        watchdog.watch(later, soon(0.05))
        assert later.recv(1) == b""  # so the watchdog has been past the released one
    assert not guard.fired
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"


def test_releasing_twice_or_after_it_fired_does_nothing(watchdog: Watchdog, pair: Pair) -> None:
    guard = watchdog.watch(pair[0], soon())
    assert pair[0].recv(1) == b""
    guard.release()
    guard.release()
    assert guard.fired


def test_an_earlier_deadline_that_comes_later_is_kept(watchdog: Watchdog, pair: Pair) -> None:
    ours, theirs = pair
    far = watchdog.watch(theirs, soon(3600))
    watchdog.watch(ours, soon(0.02))
    assert ours.recv(1) == b""
    assert not far.fired


def test_only_the_reading_side_is_shut_down_where_that_is_asked(watchdog: Watchdog, pair: Pair) -> None:
    ours, theirs = pair
    watchdog.watch(ours, soon(0.02), socket.SHUT_RD)
    assert ours.recv(1) == b""
    ours.sendall(b"408")
    assert theirs.recv(3) == b"408"


def test_a_closed_socket_does_not_end_the_watch_over_the_others(watchdog: Watchdog, pair: Pair) -> None:
    closed, other = socket.socketpair()
    other.close()
    watchdog.watch(closed, soon(0.02))
    closed.close()
    watchdog.watch(pair[0], soon(0.05))
    assert pair[0].recv(1) == b""


def test_the_thread_that_uses_tls_sees_an_end_and_no_broken_object(watchdog: Watchdog, pair: Pair) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with context.wrap_socket(pair[0], server_hostname="a.test", do_handshake_on_connect=False) as tls:
        tls.settimeout(PATIENCE)
        watchdog.watch(tls, soon(0.02))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls.do_handshake()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls.do_handshake()


def test_released_entries_do_not_pile_up(watchdog: Watchdog, pair: Pair) -> None:
    kept = [watchdog.watch(pair[0], soon(3600)) for _ in range(3)]
    guards: weakref.WeakSet[Guard] = weakref.WeakSet()
    for _ in range(20 * RELEASED_LIMIT):
        guard = watchdog.watch(pair[0], soon(3600))
        guards.add(guard)
        guard.release()
    del guard
    assert len(guards) <= 2 * RELEASED_LIMIT
    assert not any(guard.fired for guard in kept)


def test_those_still_watched_stay_in_order_when_the_released_are_cleared_away(
    watchdog: Watchdog, pair: Pair
) -> None:
    first = watchdog.watch(pair[1], soon(0.15))
    watchdog.watch(pair[1], soon(3600))
    watchdog.watch(pair[0], soon(0.2))
    first.release()  # without it, the two must change places
    for _ in range(5 * RELEASED_LIMIT):
        watchdog.watch(pair[1], soon(7200)).release()
    assert pair[0].recv(1) == b""


def test_a_released_socket_is_let_go(watchdog: Watchdog) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = watchdog.watch(ours, soon(3600))
        guard.release()
    gone = weakref.ref(ours)
    del ours
    assert gone() is None


def test_many_threads_at_once(watchdog: Watchdog) -> None:
    fired: list[bool] = []

    def use() -> None:
        for number in range(50):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.settimeout(PATIENCE)
                theirs.sendall(b"x")
                with watchdog.watch(ours, soon(0.01 if number % 10 == 0 else PATIENCE)) as guard:
                    ours.recv(1)
                    if number % 10 == 0:
                        ours.recv(1)
                fired.append(guard.fired)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fired.count(True) == 8 * 5
    assert fired.count(False) == 8 * 45


def test_closing_ends_the_thread_and_a_closed_one_says_so(pair: Pair) -> None:
    watchdog = Watchdog()
    watchdog.start()
    assert [thread.name for thread in threading.enumerate()].count("watchdog") == 1
    guard = watchdog.watch(pair[0], soon(3600))
    watchdog.close()
    watchdog.close()
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]
    guard.release()
    with pytest.raises(RuntimeError, match="closed"):
        watchdog.watch(pair[0], soon())


def test_one_that_was_never_used_can_be_closed() -> None:
    Watchdog().close()
