"""The memory that bodies share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.core.errors import BodyMemoryFull
from bridge.web.large_body_limiter import (
    PROGRESS_BYTES,
    STALL_TIMEOUT_SECONDS,
    ArrivingBody,
    LargeBodyLimiter,
)
from bridge.web.processing_limiter import ProcessingLimiter
from tests.support.tables import wait_until

#: Seconds after which something that should have happened counts as not happening.
PATIENCE = 10.0


@pytest.fixture
def inside() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def body(inside: ExitStack, room: LargeBodyLimiter, largest: int, network: str = "a") -> ArrivingBody:
    """One that gives its room back as soon as its guard fires, as its thread would."""
    holding = ExitStack()
    guard: Any = SimpleNamespace(fire=holding.close)
    arrival = holding.enter_context(room.arriving(largest, network, guard))
    inside.enter_context(holding)
    return arrival


def started(work: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


class TestRoom:
    def test_small_bodies_need_none(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=0)
        body(inside, room, 10).grow(5)
        body(inside, room, 4).grow(4)

    def test_a_body_needs_room_once_more_than_a_small_ones_bytes_have_come(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=0)
        for _ in range(3):
            body(inside, room, 10).grow(4)
        body(inside, room, 10).grow(5)
        with pytest.raises(BodyMemoryFull, match="no memory for a body of 10 bytes"):
            body(inside, room, 10).grow(5)

    def test_large_ones_wait_for_each_other(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=PATIENCE)
        second = body(inside, room, 10)
        with room.arriving(8, "a", None) as first:
            first.grow(5)
            waiting = started(second.grow, 5)
            wait_until(lambda: len(room._waiting) == 1, "the second to wait")
            assert len(room._arriving) == 1
        waiting.join(PATIENCE)
        assert second.reserved == 10

    def test_a_whole_one_has_no_more_than_its_size(self, inside: ExitStack) -> None:
        """It may have come in chunks, of unknown length."""
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=0)
        first = body(inside, room, 10)
        first.grow(5)
        first.finish(6)
        body(inside, room, 4).grow(4)
        with pytest.raises(BodyMemoryFull):
            body(inside, room, 5).grow(5)

    def test_one_that_is_larger_than_all_that_is_shared_takes_it_all(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=0)
        body(inside, room, 50).grow(5)
        with pytest.raises(BodyMemoryFull):
            body(inside, room, 5).grow(5)

    def test_one_that_has_stalled_gives_way(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=PATIENCE)
        moving, stalled, third = (body(inside, room, 5) for _ in range(3))
        moving.grow(5)
        stalled.grow(5)
        moving.since -= STALL_TIMEOUT_SECONDS / 2
        for each in (stalled, third):
            each.since -= 2 * STALL_TIMEOUT_SECONDS
        third.grow(5)
        assert [each.reserved for each in (moving, stalled, third)] == [5, 0, 5]
        assert third.since > moving.since  # it could not arrive while it waited for room

    def test_one_that_drips_has_stalled(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=5 * PROGRESS_BYTES, small=0, wait_timeout=0)
        drips = body(inside, room, 5 * PROGRESS_BYTES)
        drips.grow(1)
        drips.since = 0
        drips.grow(PROGRESS_BYTES - 1)
        assert drips.since == 0
        drips.grow(PROGRESS_BYTES)
        assert drips.since > 0

    def test_a_whole_one_has_not_stalled(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=0.01)
        first = body(inside, room, 10)
        first.grow(5)
        first.finish(10)
        first.since -= 2 * STALL_TIMEOUT_SECONDS
        with pytest.raises(BodyMemoryFull):
            body(inside, room, 10).grow(5)
        assert first.reserved == 10

    @pytest.mark.parametrize(("network", "left"), [("b", 5), ("a", 10)])
    def test_a_network_gives_way_to_another_that_has_less(
        self, inside: ExitStack, network: str, left: int
    ) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=2 * STALL_TIMEOUT_SECONDS)
        mine = [body(inside, room, 5) for _ in range(2)]
        moves = threading.Event()

        def advance() -> None:
            while not moves.wait(STALL_TIMEOUT_SECONDS / 10):
                for number, each in enumerate(mine):
                    each.since += STALL_TIMEOUT_SECONDS / 10 + number / 1000

        for each in mine:
            each.grow(5)
        moving = started(advance)
        other = body(inside, room, 5, network)
        if left == 10:
            with pytest.raises(BodyMemoryFull):
                other.grow(5)
        else:
            other.grow(5)
        moves.set()
        moving.join(PATIENCE)
        assert sum(each.reserved for each in mine) == left

    def test_but_not_at_once(self, inside: ExitStack) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=STALL_TIMEOUT_SECONDS / 10)
        large = body(inside, room, 10)
        large.grow(5)
        with pytest.raises(BodyMemoryFull):
            body(inside, room, 5, "b").grow(5)
        assert large.reserved == 10

    def test_of_too_many_that_wait_the_newest_of_the_network_with_the_most_is_refused(
        self, inside: ExitStack
    ) -> None:
        room = LargeBodyLimiter(shared=10, small=4, wait_timeout=PATIENCE, max_waiting=2)
        first = body(inside, room, 10)
        first.grow(5)
        first.finish(10)
        refused: list[str] = []

        def wait(name: str, arrival: ArrivingBody) -> None:
            try:
                arrival.grow(5)
            except BodyMemoryFull:
                refused.append(name)

        threads = []
        for name, network in [("old", "a"), ("new", "a"), ("other", "b")]:
            threads.append(started(wait, name, body(inside, room, 5, network)))
            wait_until(lambda: len(room._waiting) == min(2, len(threads)), "it to wait")
        wait_until(lambda: refused == ["new"], "the refusal")
        first._limiter.release(first, 0)
        for thread in threads:
            thread.join(PATIENCE)
        assert refused == ["new"]


class TestProcessing:
    def test_so_many_bytes_at_once_or_a_larger_body_alone(self) -> None:
        processing = ProcessingLimiter(limit=10, wait_timeout=0, unqueued=0)
        with (
            processing.turn(6),
            processing.turn(4),
            pytest.raises(BodyMemoryFull, match="a body of 1 bytes"),
            processing.turn(1),
        ):
            pass
        with processing.turn(100), pytest.raises(BodyMemoryFull), processing.turn(1):
            pass
        with processing.turn(10):
            pass

    def test_a_small_body_needs_no_turn(self) -> None:
        processing = ProcessingLimiter(limit=10, wait_timeout=0, unqueued=5)
        with processing.turn(10), processing.turn(4), pytest.raises(BodyMemoryFull), processing.turn(5):
            pass

    def test_first_come_first_served(self) -> None:
        """Small ones that fit do not hold up a large one for ever."""
        processing = ProcessingLimiter(limit=10, wait_timeout=PATIENCE, unqueued=0)
        order: list[int] = []

        def process(size: int) -> None:
            with processing.turn(size):
                order.append(size)

        threads = []
        with processing.turn(5):
            for size in (10, 1):
                threads.append(started(process, size))
                wait_until(lambda: len(processing._queue) == len(threads), "it to wait")
            assert order == []
        for thread in threads:
            thread.join(PATIENCE)
        assert order == [10, 1]
