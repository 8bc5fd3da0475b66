"""How often a client may try the password."""

from __future__ import annotations

import pytest

from bridge.core.secrets import Secret
from bridge.web.page import sign_in
from bridge.web.page.sign_in import FORGET_SECONDS, FREE_TRIES, LONGEST_WAIT_SECONDS, TryLimiter, is_password
from tests.support.tables import Clock


@pytest.fixture
def tries(clock: Clock) -> TryLimiter:
    return TryLimiter(clock)


def fail(tries: TryLimiter, times: int, client: str = "192.0.2.1") -> None:
    for _ in range(times):
        tries.failed(client)


def test_the_first_tries_are_free(tries: TryLimiter) -> None:
    fail(tries, FREE_TRIES)
    assert tries.wait("192.0.2.1") == 0


def test_waits_double_up_to_a_limit(tries: TryLimiter, clock: Clock) -> None:
    fail(tries, FREE_TRIES)
    waits = []
    for _ in range(8):
        fail(tries, 1)
        waits.append(tries.wait("192.0.2.1"))
        clock.now += waits[-1]
        assert tries.wait("192.0.2.1") == 0
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_no_client_waits_for_another(tries: TryLimiter) -> None:
    fail(tries, 20, "192.0.2.1")
    assert tries.wait("192.0.2.2") == 0


def test_an_ipv6_network_is_one_client(tries: TryLimiter) -> None:
    fail(tries, 20, "2001:db8::1")
    assert tries.wait("2001:db8::ffff") > 0
    assert tries.wait("2001:db8:0:1::1") == 0


def test_a_success_and_time_forget_the_failures(tries: TryLimiter, clock: Clock) -> None:
    fail(tries, 20)
    tries.succeeded("192.0.2.1")
    assert tries.wait("192.0.2.1") == 0
    fail(tries, 20)
    clock.now += LONGEST_WAIT_SECONDS + FORGET_SECONDS + 1
    fail(tries, 1)
    assert tries.wait("192.0.2.1") == 0


def test_many_clients_take_bounded_memory(tries: TryLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "CLIENTS_LIMIT", 10)
    for number in range(100):
        fail(tries, 5, f"192.0.2.{number}")
    assert len(tries._of_client) == 10
    assert tries.wait("192.0.2.99") > 0


@pytest.mark.parametrize("given", ["", "correct", "correct horse ", "Correct horse", "\ud800"])
def test_another_password_is_wrong(given: str) -> None:
    assert not is_password(given, Secret("correct horse"))


def test_the_password(tries: TryLimiter) -> None:
    assert is_password("correct horse", Secret("correct horse"))
    assert is_password("Übung", Secret("Übung"))


def test_another_password_makes_another_key() -> None:
    assert sign_in.session_key(Secret("one")) != sign_in.session_key(Secret("two"))
    assert sign_in.session_key(Secret("one")) == sign_in.session_key(Secret("one"))
