"""One run: everything is started, pushed to and broken, then left alone until nothing waits, and judged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from bridge.core.errors import StoreUnavailable
from bridge.core.job import JobState, Outcome
from bridge.outbox.store import Outbox
from tests.chaos import faults
from tests.chaos.load import Load
from tests.chaos.oracle import Arrival, Cause, History, Resolved, Saved, Violation, commit_of, violations
from tests.chaos.schedule import BY_THEEYE, HARMLESS, SUDDEN, WITH_STATUS, Action, What, schedule
from tests.chaos.system import System
from tests.chaos.table import ENVIRONMENT, LEASE, TIMEOUT, stand_in, write_table
from tests.support.delivery import posts
from tests.support.postgresql import Cluster
from tests.support.theeye import StandIn

#: Clients that push at the same time.
CLIENTS = 8
#: How long the last pushes may take to be taken, seconds.
TAKEN_WITHIN = 60.0
#: How long all that waits may take to get through, seconds: a lease, and as much again and more.
SETTLED_WITHIN = 3.0 * LEASE
#: What a process had in flight when it froze is over after so many seconds.
CALM = TIMEOUT + 1.0
#: What comes suddenly has come within so many seconds.
AT_ONCE = 1.0
#: More jobs than any run makes.
ALL = 1_000_000


@dataclass(frozen=True)
class Report:
    """What a run was, and what came of it."""

    #: How often what happened.
    happened: Counter[What]
    #: How often which status was answered; 0 where no answer came.
    statuses: Counter[int]
    #: Pushes that were taken.
    taken: int
    #: Orders that TheEye read.
    sent: int
    #: Jobs that TheEye has.
    saved: int
    #: Those beyond the first of each push.
    doubled: int
    #: Attempts whose answer was lost.
    unknown: int
    #: Unknown jobs that a person resolved.
    resolved: int
    #: How long it took until nothing waited any more, seconds.
    settling: float
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        statuses = ", ".join(f"{status or 'none'}: {count}" for status, count in self.statuses.most_common())
        numbers = (
            f"{self.taken} pushes taken (answers: {statuses}); {self.sent} orders sent, {self.saved} jobs at "
            f"TheEye, {self.doubled} of them doubles; {self.unknown} answers lost, {self.resolved} jobs "
            f"resolved by a person; settled after {self.settling:.0f} s"
        )
        return "\n".join([numbers, *(f"BROKEN: {violation}" for violation in self.violations)])


class Person:
    """Who looks into TheEye, and says of each unknown job whether it is there."""

    def __init__(self, outbox: Outbox, theeye: StandIn, system: System) -> None:
        self._outbox = outbox
        self._theeye = theeye
        self._system = system
        self.resolved: list[Resolved] = []

    def resolve(self) -> None:
        """Resolve every unknown job, as far as the store is there. TheEye has no fault meanwhile."""
        with self._system.thawed:
            time.sleep(CALM)
            try:
                unknown = self._outbox.jobs(state=JobState.UNKNOWN, limit=ALL)
                there = {job.values[0] for job in self._theeye.jobs}
                for job in unknown:
                    sent = commit_of(job) in there
                    self.resolved.append(Resolved(job.id, time.time(), sent))
                    self._outbox.resolve(job.id, sent=sent)
            except StoreUnavailable:
                pass  # a person comes again


class Lane:
    """A thread in which one action follows another, each not before its time."""

    def __init__(self, actions: tuple[Action, ...], do: Callable[[Action], None]) -> None:
        self._actions = actions
        self._do = do
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: What was begun.
        self.happened: Counter[What] = Counter()
        #: What it may have cost.
        self.causes: list[Cause] = []
        self._thread.start()

    def finish(self, timeout: float) -> None:
        """Begin nothing more, and wait for what is on. Raises what an action raised."""
        self._ended.set()
        self._thread.join(timeout)
        if self._error:
            raise self._error
        assert not self._thread.is_alive(), f"what was done last has no end: {dict(self.happened)}"

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            for action in self._actions:
                if self._ended.wait(max(0.0, begun + action.at - time.monotonic())):
                    return
                self.happened[action.what] += 1
                at = time.time()
                self._do(action)
                self.causes += causes_of(action, at, time.time())
        except BaseException as error:  # noqa: BLE001 - raised in `finish`
            self._error = error


def causes_of(action: Action, begun: float, ended: float) -> list[Cause]:
    """What that may have cost: empty where it costs no answer."""
    if action.what in HARMLESS:
        return []
    ended = begun + AT_ONCE if action.what in SUDDEN else ended
    return [Cause(begun, ended, WITH_STATUS.get(action.what), action.kind)]


def run(
    folder: Path,
    cluster: Cluster | None,
    seed: int,
    seconds: float,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Break everything for so many seconds, on PostgreSQL where a `cluster` is given, else on SQLite.

    With an even seed web processes end by themselves, too. `tell` hears of each thing that happens.
    Raises AssertionError where a process does not come up again, or a push is not taken in the end.
    """
    with (
        stand_in() as theeye,
        System(write_table(folder, theeye.url), cluster, ends=seed % 2 == 0) as system,
        closing(Outbox(system.database_url, beside_a_server=True)) as outbox,
    ):
        for what in system.lacking:
            tell(f"some of it is left out, as this machine lacks {what}")
        faults.begin(theeye)
        return _run(system, theeye, outbox, seed, seconds, tell)


def _run(
    system: System, theeye: StandIn, outbox: Outbox, seed: int, seconds: float, tell: Callable[[str], None]
) -> Report:
    person = Person(outbox, theeye, system)
    ended = threading.Event()
    begun = time.monotonic()

    def happen(action: Action) -> None:
        tell(f"{time.monotonic() - begun:6.1f} s  {action}")
        if action.what is What.PERSON:
            person.resolve()
        elif action.what in BY_THEEYE:
            faults.happen(theeye, action, ended)
        else:
            system.happen(action, ended)

    load = Load(system.server.port, seed, CLIENTS)
    load.start()
    lanes = [Lane(schedule(seed, seconds, whats), happen) for whats in (BY_THEEYE, system.whats)]
    time.sleep(seconds)
    ended.set()
    for lane in lanes:
        lane.finish(TAKEN_WITHIN)
    system.revive()
    load.finish(TAKEN_WITHIN)
    settling = settle(outbox, person)
    happened = lanes[0].happened + lanes[1].happened
    causes = (*lanes[0].causes, *lanes[1].causes)
    return judge(system, theeye, outbox, load, happened, tuple(person.resolved), settling, causes)


def settle(outbox: Outbox, person: Person) -> float:
    """Wait until nothing waits any more, with a person's help; how long it took, seconds.

    What does not settle in time is the oracle's to tell.
    """
    begun = time.monotonic()
    while (still := _unsettled(outbox)) and time.monotonic() - begun < SETTLED_WITHIN:
        if JobState.UNKNOWN in still:
            person.resolve()
        time.sleep(0.1)
    return time.monotonic() - begun


def _unsettled(outbox: Outbox) -> set[JobState]:
    try:
        return outbox.counts().keys() & {JobState.WAITING, JobState.SENDING, JobState.UNKNOWN}
    except StoreUnavailable:
        # A connection of before the database's last end.
        return {JobState.WAITING}


def judge(
    system: System,
    theeye: StandIn,
    outbox: Outbox,
    load: Load,
    happened: Counter[What] | None = None,
    resolved: tuple[Resolved, ...] = (),
    settling: float = 0.0,
    causes: tuple[Cause, ...] = (),
) -> Report:
    """What came of it, once nothing waits."""
    assert load.taken, f"nothing was taken: {dict(load.statuses)}"
    history = History(
        taken=load.taken,
        arrivals=tuple(
            Arrival(orjson.loads(one.body)["task_arguments"][0]["value"], one.at) for one in posts(theeye)
        ),
        saved=tuple(Saved(str(job.values[0]), job.at, job.id) for job in theeye.jobs),
        jobs=tuple(jobs := outbox.jobs(limit=ALL)),
        attempts={job.id: outbox.attempts(job.id) for job in jobs},
        resolved=resolved,
        causes=causes,
    )
    attempts = [attempt for several in history.attempts.values() for attempt in several]
    return Report(
        happened=happened or Counter(),
        statuses=load.statuses,
        taken=len(history.taken),
        sent=len(history.arrivals),
        saved=len(history.saved),
        doubled=len(history.saved) - len({saved.commit for saved in history.saved}),
        unknown=sum(attempt.outcome is Outcome.UNKNOWN for attempt in attempts),
        resolved=len(resolved),
        settling=settling,
        violations=(
            *violations(history),
            *(Violation("ended by itself", said) for said in system.crashed),
            *written(system.log),
        ),
    )


def written(log: str) -> list[Violation]:
    """What must stand in no log."""
    found = [
        Violation("secret", f"the log shows {name}") for name, value in ENVIRONMENT.items() if value in log
    ]
    at = log.find("Traceback")
    return found if at < 0 else [*found, Violation("traceback", log[max(0, at - 500) : at + 2500])]
