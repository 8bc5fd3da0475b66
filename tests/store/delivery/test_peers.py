"""During an outage of TheEye the processes of one store take turns to probe, and one's success is all's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import StoreUnavailable
from bridge.core.job import Job, JobState, Outcome
from bridge.delivery.target import PEERS_INTERVAL, PEERS_TIMEOUT, TURN_SECONDS, Target
from bridge.outbox.store import Outbox
from tests.support.delivery import TASK
from tests.support.sending import ENDS
from tests.support.tables import NOW, Clock, attempt_of, claim_jobs, make_job, make_table, make_webhook

TABLE = make_table(tasks=[TASK])
AWAY = AttemptResult(0.1, Outcome.UNAVAILABLE, 503, "503 maintenance", None)
#: The start of a turn of the first of two or three processes.
START = NOW - NOW % (6 * TURN_SECONDS)


class Fleet:
    """Processes a, b, … at one store, whose outage began at once."""

    def __init__(self, outbox: Outbox, clock: Clock, names: str) -> None:
        self.outbox, self.clock = outbox, clock
        clock.now = START - 10
        (stored,) = outbox.store(make_webhook(make_job("main"))).jobs
        clock.now = START
        self.job: Job = outbox.job(stored.id)
        self.targets = {name: Target(TABLE, clock, outbox, name) for name in names}
        for target in self.targets.values():
            target.claimed(self.job)
            target.attempt_finished(TABLE, self.job, TASK, AWAY)
        self.beat()

    def beat(self) -> None:
        for name, target in self.targets.items():
            self.outbox.heartbeat(name, target.trouble)

    def probing(self) -> str:
        """The names of the processes that start a probe now, all of which are not answered."""
        names = ""
        for name, target in self.targets.items():
            probe = target.start_probe()
            if probe is not None:
                names += name
                target.probe_finished(probe, False, "no answer")
        return names


@pytest.fixture
def monotonic(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.delivery.target.time.monotonic", clock)


@pytest.fixture
def fleet(outbox: Outbox, clock: Clock, monotonic: None) -> Callable[[str], Fleet]:
    return lambda names: Fleet(outbox, clock, names)


def test_one_process_probes_at_a_time_and_each_has_its_turn(fleet: Callable[[str], Fleet]) -> None:
    three = fleet("abc")
    looks = int(TURN_SECONDS / PEERS_INTERVAL)
    turns = ["", "", ""]
    for look in range(1, 3 * looks):
        three.clock.now += PEERS_INTERVAL
        three.beat()
        turns[look // looks] += three.probing()
    assert [set(each) for each in turns] == [{"a"}, {"b"}, {"c"}]


def test_who_has_no_turn_waits_for_the_next_look(fleet: Callable[[str], Fleet]) -> None:
    two = fleet("ab")
    two.clock.now += 1
    assert two.probing() == "a"
    waits = two.targets["b"].seconds_to_probe
    assert waits == PEERS_INTERVAL


def test_one_that_ended_gives_its_turn_away(fleet: Callable[[str], Fleet]) -> None:
    two = fleet("ab")
    del two.targets["a"]
    two.clock.now += 1
    assert two.probing() == ""
    two.clock.now += PEERS_TIMEOUT
    assert two.probing() == "b"


def test_alone_it_probes_at_once(fleet: Callable[[str], Fleet]) -> None:
    one = fleet("a")
    one.clock.now += 1
    assert one.probing() == "a"


def test_one_without_an_outage_has_no_turn(fleet: Callable[[str], Fleet]) -> None:
    one = fleet("b")
    one.outbox.heartbeat("a", None)
    one.outbox.heartbeat("0", "another trouble")
    one.clock.now += 1
    assert one.probing() == "b"


def accept(fleet: Fleet, at: float) -> None:
    """Let the job be accepted, in an attempt that started at this time."""
    fleet.clock.now, now = at, fleet.clock.now
    token, (job,) = claim_jobs(fleet.outbox)
    fleet.clock.now = now
    attempt = attempt_of(fleet.outbox, job)
    outcome, decision = ENDS[JobState.ACCEPTED]
    fleet.outbox.record(job, token, attempt, AttemptResult(0.1, outcome, 200, "", None), decision)


def test_once_one_has_delivered_the_others_probe_at_once(fleet: Callable[[str], Fleet]) -> None:
    """Only their own trial ends their outage: one of them may be cut off."""
    two = fleet("ab")
    two.clock.now += 1
    accept(two, START + 0.5)
    assert two.probing() == "ab"
    for target in two.targets.values():
        assert target.trouble is not None
        assert target.claim_limit(16) == 0


def test_what_was_delivered_in_the_future_proves_nothing(fleet: Callable[[str], Fleet]) -> None:
    """A clock that was ahead recorded it."""
    two = fleet("ab")
    two.clock.now += 1
    accept(two, START + 3600)
    assert two.probing() == "a"


def test_what_was_delivered_before_proves_nothing(fleet: Callable[[str], Fleet]) -> None:
    two = fleet("ab")
    two.clock.now += 1
    accept(two, START - 1)
    assert two.probing() == "a"
    assert two.targets["b"].trouble is not None


def test_a_store_that_does_not_answer_is_raised_and_asked_again(
    fleet: Callable[[str], Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fleet("a")

    def fail() -> float:
        raise StoreUnavailable("away")

    one.clock.now += 1
    with monkeypatch.context() as broken:
        broken.setattr(one.outbox, "last_accepted_at", fail)
        with pytest.raises(StoreUnavailable):
            one.targets["a"].start_probe()
    one.clock.now += PEERS_INTERVAL
    assert one.probing() == "a"
