"""One week: seven days of traffic with faults, edits, an upgrade and backups, and its verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from bridge.core.job import JobState, Outcome
from bridge.outbox.store import Outbox
from tests.chaos import faults
from tests.chaos.load import Load
from tests.chaos.oracle import Arrival, History, Saved, Taken, Violation, commit_of, violations
from tests.chaos.run import TAKEN_WITHIN, Lane, Person, settle, written
from tests.chaos.schedule import BY_THEEYE, CLOCKS, Action, What, schedule
from tests.chaos.table import TASKS
from tests.support.delivery import posts
from tests.support.postgresql import Cluster
from tests.support.tables import wait_until
from tests.week.judgement import Firing, Planned, Sample, judge_alerts, judge_growth, medians
from tests.week.plan import DAYS, FAULTS, Scene
from tests.week.record import Housekeeping, Record, run
from tests.week.system import Production, unpack
from tests.week.table import Table, stand_in
from tests.week.traffic import Beacon, Single
from tests.week.truth import Truth, valid
from tests.week.watch import Alerts, Scales, prometheus

MIB = 1024**2
#: Clients, and the seconds between two pushes of each: about seven pushes a second.
CLIENTS, PAUSE = 3, (0.2, 0.6)
#: Pushes that the earlier release takes before the upgrade, and beside each program that is replaced.
BEFORE, BESIDE = 60, 20
#: Seconds in which each rule must fire, and clear.
FIRES_WITHIN, CLEARS_WITHIN = 240.0, 300.0
#: Seconds of random faults on each day, at least.
LEAST_CHAOS = 10.0
#: On this day retention has begun, and PostgreSQL reuses the room of deleted rows.
STEADY = 3
#: Pushes that reach each of two web processes, most probably.
PUSHES = 8
#: Prometheus has seen these counters at 0: it sees no growth where a series begins.
KNOWN = 'count_over_time(bridge_jobs_ended_total{route="refused"}[1m]) > 2'
#: Seconds until an edit of the table is in force, at most.
RELOADED_WITHIN = 60.0


@dataclass(frozen=True)
class Asked:
    """The options of a week."""

    seconds: float
    seed: int
    #: The commit of the earlier release.
    previous: str

    @property
    def day(self) -> float:
        return self.seconds / len(DAYS)

    @property
    def retention(self) -> int:
        """Seconds until a settled event expires: half a day."""
        return max(20, round(self.day / 2))

    @property
    def factor(self) -> float:
        """By which the times of the rules are divided."""
        return 30.0 if self.seconds >= 1800 else 60.0

    @property
    def calm(self) -> float:
        """So many times as long as in `tests.chaos` nothing goes wrong."""
        return 8.0 if self.seconds >= 1800 else 2.0


class Week:
    """The days, one after another."""

    def __init__(
        self,
        asked: Asked,
        scene: Scene,
        housekeeping: Housekeeping,
        scales: Scales,
        tell: Callable[[str], None],
    ) -> None:
        self._asked = asked
        self._scene = scene
        self._housekeeping = housekeeping
        self._scales = scales
        self._tell = tell
        self.begun = time.monotonic()
        self.planned: list[Planned] = []
        self.happened: Counter[What] = Counter()
        self._branch = ""
        # Held while processes may start: a cold start refuses an invalid table.
        self._starting = threading.Lock()
        self.edits = 0
        self.violations: list[Violation] = []

    @property
    def now(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.begun

    def live(self, day: int, alerts: Alerts, load: Load) -> None:
        """The planned faults of a day; then random ones, beside what operators do."""
        self._scales.day = day
        for rule in DAYS[day - 1]:
            self._cause(rule, alerts)
        seconds = max(LEAST_CHAOS, day * self._asked.day - self.now)
        self._tell(f"day {day}: {seconds:.0f} s of random faults")
        self._endure(day, seconds, load)

    def _cause(self, rule: str, alerts: Alerts) -> None:
        self._scene.person.resolve()
        alerts.wait([rule], CLEARS_WITHIN, fires=False)
        begun = self.now
        self._tell(f"the fault of {rule}")
        with FAULTS[rule](self._scene):
            alerts.wait([rule], FIRES_WITHIN, fires=True)
            # What was seen now began before.
            self.planned.append(Planned(rule, begun, self.now))
        alerts.wait([rule], CLEARS_WITHIN, fires=False)

    def _endure(self, day: int, seconds: float, load: Load) -> None:
        ended = threading.Event()
        scene, asked = self._scene, self._asked
        seed = 100 * asked.seed + day

        def happen(action: Action) -> None:
            self._tell(str(action))
            if action.what is What.PERSON:
                scene.person.resolve()
            elif action.what in BY_THEEYE:
                faults.happen(scene.theeye, action, ended)
            else:
                with self._starting:
                    scene.system.happen(action, ended)

        whats = tuple(what for what in scene.system.whats if what not in CLOCKS)
        lanes = [Lane(schedule(seed, seconds, each, asked.calm), happen) for each in (BY_THEEYE, whats)]
        begun = time.monotonic()
        try:
            self._housekeeping.prune()
            self.edit()
            with self._starting:
                self._spoil_and_correct()
            self.edits += 1
            self._housekeeping.back_up(lambda: load.taken)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
        finally:
            ended.set()
            for lane in lanes:
                lane.finish(2 * TAKEN_WITHIN)
        self._housekeeping.prune()
        scene.system.revive()
        for lane in lanes:
            self.happened += lane.happened
            scene.causes.extend(lane.causes)
        scene.person.resolve()

    def edit(self) -> None:
        """Make a valid edit, and wait until it is in force in every web process."""
        self._branch = self._scene.table.edit()
        self._expect(self._is_routed, f"no route for {self._branch}")

    def _is_routed(self) -> bool:
        return all(self._scene.single.push(self._branch).routes for _ in range(PUSHES))

    def _spoil_and_correct(self) -> None:
        """Make an invalid edit, and correct it: the valid table before it stays in force."""
        self._scene.table.spoil()
        self._expect(lambda: valid(self._scene.system.server) == 0, "an invalid table is not reported")
        self._expect(self._is_routed, f"the invalid table ended {self._branch}")
        self._scene.table.correct()
        self._expect(lambda: valid(self._scene.system.server) == 1, "a corrected table is not reported")

    def _expect(self, holds: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + RELOADED_WITHIN
        while not holds():
            if time.monotonic() > deadline:
                self.violations.append(Violation("edit", f"{otherwise} within {RELOADED_WITHIN:.0f} s"))
                return
            time.sleep(0.5)


@dataclass(frozen=True)
class Report:
    """The report of a week."""

    taken: int
    statuses: Counter[int]
    jobs: int
    sent: int
    doubled: int
    unknown: int
    week: Week
    housekeeping: Housekeeping
    firings: tuple[Firing, ...]
    samples: tuple[Sample, ...]
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        statuses = ", ".join(f"{status or 'none'}: {count}" for status, count in self.statuses.most_common())
        lines = [
            f"{self.taken} webhooks accepted (answers: {statuses}), {self.jobs} jobs, "
            f"{self.sent} attempts that TheEye read, {self.doubled} jobs run twice, "
            f"{self.unknown} answers lost",
            f"1 upgrade, {self.week.edits} valid edits and as many invalid ones, "
            f"{self.housekeeping.backups} backups checked, {self.housekeeping.prunes} prunes, "
            f"{self.week.happened.total()} random faults",
            "day  memory MiB  disk MiB",
        ]
        memory, disk = medians(self.samples, "memory"), medians(self.samples, "disk")
        lines += [
            f"{day:3}  {memory[day] / MIB:10.1f}  {disk.get(day, 0) / MIB:8.1f}" for day in memory if day
        ]
        lines.append("rule                     fault         fired    cleared")
        for fault in self.week.planned:
            own = [
                each for each in self.firings
                if each.rule == fault.rule and fault.begun <= each.begun <= fault.ended
            ]  # fmt: skip
            fired = f"{own[0].begun:7.0f}" if own else "  never"
            cleared = f"{own[-1].ended:7.0f}" if own and own[-1].ended is not None else "  never"
            lines.append(f"{fault.rule:22} {fault.begun:5.0f}-{fault.ended:5.0f} s {fired} s  {cleared} s")
        lines += [f"BROKEN: {violation}" for violation in self.violations]
        return "\n".join([*lines, f"{len(self.violations)} broken promises"])


def live(folder: Path, cluster: Cluster | None, asked: Asked, tell: Callable[[str], None]) -> Report:
    """Run the week on PostgreSQL where a `cluster` is given, else on SQLite.

    Raises AssertionError where a process does not come up again, or a push is not taken in the end.
    """
    (folder / "old").mkdir()
    with stand_in() as theeye:
        faults.begin(theeye)
        table = Table(folder, theeye.url)
        with Production(table.path, cluster, unpack(asked.previous, folder / "old")) as system:
            before = Load(system.server.port, asked.seed, CLIENTS, pause=PAUSE, name="before")
            before.start()
            upgrade(system, before, tell)
            before.finish(TAKEN_WITHIN)
            # Before the upgrade it would have upgraded the schema itself.
            with closing(Outbox(system.database_url, beside_a_server=True)) as outbox:
                person = Person(outbox, theeye, system)
                settle(outbox, person)
                port = system.server.port
                scene = Scene(system, theeye, outbox, person, table, Single(port), Beacon(port))
                return _live(folder, cluster, asked, tell, scene, before.taken)


def upgrade(system: Production, load: Load, tell: Callable[[str], None]) -> None:
    """Upgrade the schema while the old release runs, then replace one program after another."""
    load.wait_for_more(BEFORE, TAKEN_WITHIN)
    tell(f"upgrades the schema: {run(system.database_url, 'db', 'upgrade').strip()}")
    load.wait_for_more(BESIDE, TAKEN_WITHIN)
    for program in system.upgrade():
        tell(f"upgraded the {type(program).__name__}")
        load.wait_for_more(BESIDE, TAKEN_WITHIN)


def _live(
    folder: Path,
    cluster: Cluster | None,
    asked: Asked,
    tell: Callable[[str], None],
    scene: Scene,
    earlier: tuple[Taken, ...],
) -> Report:
    """The week after the upgrade."""
    system, outbox = scene.system, scene.outbox
    record = Record(outbox)
    record.read()
    truth = Truth(system.server, record)
    housekeeping = Housekeeping(folder, cluster, system.database_url, record, asked.retention)
    scales = Scales(system, max(1.0, asked.day / 50))
    load = Load(system.server.port, asked.seed, CLIENTS, pause=PAUSE)
    with prometheus(folder, system.server.port, asked.factor) as server:
        week = Week(asked, scene, housekeeping, scales, tell)
        alerts = Alerts(server, week.begun, tell)
        with alerts.looking, scales.measuring:
            week.edit()
            wait_until(lambda: server.query(KNOWN), "the series of the new routes")
            load.start()
            scene.beacon.start()
            for day in range(1, len(DAYS) + 1):
                week.live(day, alerts, load)
            load.finish(TAKEN_WITHIN)
            settle(outbox, scene.person)
            alerts.wait(FAULTS, CLEARS_WITHIN, fires=False)
            scene.beacon.finish()
        firings = alerts.firings
    record.read()
    history = history_of(record, scene, (*earlier, *load.taken))
    attempts = [attempt for several in history.attempts.values() for attempt in several]
    stored = {commit_of(job) for job in record.jobs.values()}
    unmatched = {*scene.single.taken} - stored
    pushes = len(load.taken) + len(scene.single.taken) - len(unmatched)
    return Report(
        taken=len(history.taken) + len(scene.single.taken) + scene.beacon.taken,
        statuses=load.statuses,
        jobs=len(record.jobs),
        sent=len(history.arrivals),
        doubled=len(history.saved) - len({saved.commit for saved in history.saved}),
        unknown=sum(attempt.outcome is Outcome.UNKNOWN for attempt in attempts),
        week=week,
        housekeeping=housekeeping,
        firings=tuple(firings),
        samples=tuple(scales.samples),
        violations=(
            *violations(history),
            *judge_single(record, scene.single.taken),
            *truth.judge(pushes, len(unmatched), scene.beacon.taken),
            *judge_alerts(FAULTS, week.planned, firings),
            *judge_growth(scales.samples, STEADY, len(DAYS)),
            *housekeeping.violations,
            *week.violations,
            *(Violation("ended by itself", said) for said in system.crashed),
            *written(system.log),
        ),
    )


def history_of(record: Record, scene: Scene, taken: tuple[Taken, ...]) -> History:
    """The part that the oracle of `tests.chaos` judges: the tasks that it knows."""
    known = {*TASKS.values()}
    jobs = tuple(job for job in record.jobs.values() if job.task_id in known)
    return History(
        taken=taken,
        arrivals=tuple(
            Arrival(orjson.loads(one.body)["task_arguments"][0]["value"], one.at)
            for one in posts(scene.theeye)
            if one.task_id in known
        ),
        saved=tuple(
            Saved(str(job.values[0]), job.at, job.id) for job in scene.theeye.jobs if job.task_id in known
        ),
        jobs=jobs,
        attempts={job.id: record.attempts[job.id] for job in jobs},
        resolved=tuple(scene.person.resolved),
        causes=tuple(scene.causes),
    )


def judge_single(record: Record, taken: Collection[str]) -> list[Violation]:
    """Each single push made one job, which was refused or accepted as planned."""
    states: dict[str, list[JobState]] = {}
    for job in record.jobs.values():
        if job.task_id not in TASKS.values():
            states.setdefault(commit_of(job), []).append(job.state)
    wanted = {
        commit: [JobState.DEAD if commit.startswith("refused") else JobState.ACCEPTED] for commit in taken
    }
    # A push before its route was in force made no job.
    return [
        Violation("single push", f"{commit} has jobs in the states {states.get(commit)}")
        for commit in sorted({*states, *(each for each in taken if not each.startswith("edit"))})
        if states.get(commit) != wanted.get(commit)
    ]
