"""What the promises say of a run, held against what was answered, what TheEye got and what the store says.

Pure, and blind to how the bridge does it. Times are seconds since the epoch, of one machine's clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from bridge.core.job import Attempt, Job, JobState, Outcome
from tests.chaos.table import ONCE_WITHIN, RATE, SPAN, TIMEOUT, Kind

#: How often at most a job is sent whose answers are lost, until a person asks for it again.
MOST_SENDS = 3
#: The report lists this many violations of each check, and counts the rest.
LISTED = 5
#: Whatever becomes of an attempt is known so many seconds after its start, where nothing goes wrong.
ANSWERED_WITHIN = TIMEOUT + 1.0
#: What the system says of a connection that never was: nothing was sent on it that could be unknown.
NEVER_LEFT = "refused"
#: In the detail of an attempt that another process ended.
LEFT_BEHIND = "the process ended before the answer came"
#: Two readings of one clock that went through a database may differ by so many seconds.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Taken:
    """A push that was answered with 2xx."""

    commit: str
    kind: Kind
    #: The group or key that it shares with others; empty where it has none.
    member: str
    #: When its first request began: it may have been stored then, without an answer.
    begun: float
    #: When the first 2xx came.
    answered: float
    #: The ids of jobs that its answers named.
    jobs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Arrival:
    """An order that TheEye read, whatever it answered."""

    commit: str
    at: float


@dataclass(frozen=True)
class Saved:
    """A job that TheEye has."""

    commit: str
    at: float
    id: str


@dataclass(frozen=True)
class Resolved:
    """A person's word on an unknown job, just before it was given."""

    job_id: int
    at: float
    sent: bool


@dataclass(frozen=True)
class Cause:
    """A time in which an answer may have been lost, for the bridge could not have it or was not there."""

    begun: float
    ended: float
    #: What is then known of the answer; None: nothing.
    status: int | None = None
    #: Only for jobs of this kind.
    kind: Kind | None = None


@dataclass(frozen=True)
class History:
    """All that a run left, once nothing waits any more."""

    taken: tuple[Taken, ...]
    arrivals: tuple[Arrival, ...]
    saved: tuple[Saved, ...]
    jobs: tuple[Job, ...]
    #: By the job's id, in their order.
    attempts: Mapping[int, Sequence[Attempt]]
    resolved: tuple[Resolved, ...] = ()
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    #: The check that found it.
    check: str
    #: With the evidence.
    what: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


def violations(history: History) -> list[Violation]:
    """What was broken; empty where every promise was kept."""
    run = _Run(history)
    checks = (
        _lost, _unfinished, _made_up, _misrecorded, _doubled, _without_cause, _sent_too_often, _held,
        _unstarted, _overlapping, _ungrouped, _out_of_order, _out_of_position, _not_the_latest, _too_fast,
        _more_than_once,
    )  # fmt: skip
    found = []
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        broken = [Violation(name, what) for what in check(run)]
        found += broken[:LISTED]
        if len(broken) > LISTED:
            found.append(Violation(name, f"and {len(broken) - LISTED} more"))
    return found


class _Run:
    """A history with what is asked of it again and again."""

    def __init__(self, history: History) -> None:
        self.taken = history.taken
        self.jobs = history.jobs
        self.saved = history.saved
        self.resolved = history.resolved
        self.causes = history.causes
        self.kind_of = {push.commit: push.kind for push in history.taken}
        self.member_of = {push.commit: push.member for push in history.taken}
        self.job_of = {commit_of(job): job for job in history.jobs}
        self.saves = Counter(saved.commit for saved in history.saved)
        self.arrivals = Counter(arrival.commit for arrival in history.arrivals)
        self.arrived: dict[str, list[float]] = defaultdict(list)
        for arrival in history.arrivals:
            self.arrived[arrival.commit].append(arrival.at)
        self.first_save = _firsts(history.saved)
        self.first_arrival = _firsts(history.arrivals)
        self._attempts = history.attempts

    def attempts(self, job: Job) -> Sequence[Attempt]:
        return self._attempts.get(job.id, ())

    def unknowns(self, job: Job) -> int:
        return sum(attempt.outcome is Outcome.UNKNOWN for attempt in self.attempts(job))

    def lives(self, job: Job) -> list[list[Attempt]]:
        """Its attempts, cut where a person said to send it again."""
        asked = [one.at for one in self.resolved if one.job_id == job.id and not one.sent]
        lives: dict[int, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts(job):
            lives[sum(at <= attempt.started_at for at in asked)].append(attempt)
        return list(lives.values())

    def in_flight(self, job: Job, attempt: Attempt) -> tuple[float, float]:
        """From when until when TheEye may have had it in hand."""
        later = [one.started_at for one in self.attempts(job) if one.started_at > attempt.started_at]
        until = min(later, default=inf)
        arrived = [at for at in self.arrived[commit_of(job)] if attempt.started_at <= at < until]
        if not arrived or (attempt.seconds or inf) > ANSWERED_WITHIN:
            return attempt.started_at, min(until, attempt.started_at + ANSWERED_WITHIN)
        # That it starts is committed first, which takes as long as the database does.
        return min(arrived), min(arrived) + (attempt.seconds or 0.0)

    def held_until(self, job: Job) -> float:
        """When the window of its key begins: as it was accepted, or became unknown for the first time."""
        asked = min((one.at for one in self.resolved if one.job_id == job.id), default=inf)
        if asked == inf:
            return job.ended_at or inf
        before = [attempt for attempt in self.attempts(job) if attempt.started_at < asked]
        return max(
            (attempt.started_at + (attempt.seconds or 0.0) for attempt in before), default=job.created_at
        )

    def of(self, kind: Kind) -> list[Job]:
        """Its jobs, in the order in which they were stored."""
        return sorted(
            (job for job in self.jobs if self.kind_of.get(commit_of(job)) is kind), key=lambda job: job.id
        )

    def members(self, kind: Kind) -> dict[str, list[Taken]]:
        """Its pushes by what they share."""
        members: dict[str, list[Taken]] = defaultdict(list)
        for push in self.taken:
            if push.kind is kind:
                members[push.member].append(push)
        return members


def commit_of(job: Job) -> str:
    """What was pushed; empty where its arguments could not be built."""
    return str(job.arguments[0]) if job.arguments else ""


def _firsts(events: Iterable[Arrival] | Iterable[Saved]) -> dict[str, float]:
    firsts: dict[str, float] = {}
    for event in events:
        firsts[event.commit] = min(event.at, firsts.get(event.commit, inf))
    return firsts


def _lost(run: _Run) -> Iterator[str]:
    """What was answered 2xx is stored, and TheEye has it unless it gave way to another."""
    ids = {job.id: job for job in run.jobs}
    for push in run.taken:
        for job_id in push.jobs:
            if job_id not in ids or commit_of(ids[job_id]) != push.commit:
                yield f"{push.commit} was answered 2xx with job {job_id}, which is not in the store"
        job = run.job_of.get(push.commit)
        if job is None:
            yield f"{push.commit} ({push.kind}) was answered 2xx and has no job in the store"
        elif not run.saves[push.commit] and job.state is not JobState.SKIPPED:
            yield f"{push.commit} ({push.kind}) is {job.state} as job {job.id}, and TheEye never got it"
        elif job.state is JobState.SKIPPED and push.kind not in (Kind.LATEST, Kind.ONCE):
            yield f"{push.commit} ({push.kind}) was skipped as job {job.id}: {job.reason}"


def _unfinished(run: _Run) -> Iterator[str]:
    """Nothing waits for ever, and nothing dies of what only passes."""
    for job in run.jobs:
        if job.state not in (JobState.ACCEPTED, JobState.SKIPPED):
            yield f"job {job.id} ({commit_of(job)}) is {job.state} in the end: {job.reason}"
        for attempt in run.attempts(job):
            if attempt.outcome is None:
                yield f"attempt {attempt.number} of job {job.id} never ended"


def _made_up(run: _Run) -> Iterator[str]:
    """Each push makes one job, and what is said to be accepted is."""
    for commit, count in Counter(map(commit_of, run.jobs)).items():
        if commit not in run.kind_of:
            yield f"{commit or 'a job without arguments'} is in the store, and nobody pushed it"
        elif count > 1:
            yield f"{commit} made {count} jobs"
    saved = {one.id: one.commit for one in run.saved}
    for job in run.jobs:
        for attempt in run.attempts(job):
            if attempt.outcome is Outcome.ACCEPTED and saved.get(attempt.theeye_job_id or "") != commit_of(
                job
            ):
                yield f"job {job.id} was accepted as {attempt.theeye_job_id}, which is no job of it at TheEye"


def _misrecorded(run: _Run) -> Iterator[str]:
    """An accepted job is what its last attempt says, and no older claim's; or what a person says of it.

    An answer may also come after the attempt was recorded as unknown: then TheEye has the very job.
    """
    said = {one.job_id for one in run.resolved if one.sent}
    saved = {(one.commit, one.id) for one in run.saved}
    for job in run.jobs:
        if job.state is not JobState.ACCEPTED or job.id in said:
            continue
        last = run.attempts(job)[-1] if run.attempts(job) else None
        is_late = last is not None and last.outcome is Outcome.UNKNOWN
        if is_late and (commit_of(job), job.theeye_job_id) in saved:
            continue
        if last is None or last.outcome is not Outcome.ACCEPTED or last.theeye_job_id != job.theeye_job_id:
            by = (
                f"its last attempt is {last.outcome} as {last.theeye_job_id}" if last else "it has no attempt"
            )
            yield f"job {job.id} ({commit_of(job)}) is accepted as {job.theeye_job_id}, and {by}"


def _doubled(run: _Run) -> Iterator[str]:
    """TheEye has a job once, and once more for each answer that was lost."""
    for job in run.jobs:
        saves, unknowns = run.saves[commit_of(job)], run.unknowns(job)
        if saves > 1 + unknowns:
            yield f"TheEye has job {job.id} ({commit_of(job)}) {saves} times, {unknowns} answers were lost"


def _without_cause(run: _Run) -> Iterator[str]:
    """No answer is lost but to what went wrong: what is said to be unknown excuses a double."""
    for job in run.jobs:
        kind = run.kind_of.get(commit_of(job))
        causes = [cause for cause in run.causes if cause.kind in (None, kind)]
        for attempt in run.attempts(job):
            begun, ended = run.in_flight(job, attempt)
            if attempt.detail == LEFT_BEHIND:
                # A process that was frozen in between sends only when it goes on.
                begun = attempt.started_at
            never_left = NEVER_LEFT in (attempt.detail or "").lower()
            if attempt.outcome is Outcome.UNKNOWN and not any(
                not never_left
                and cause.status == attempt.status
                and cause.begun <= ended
                and begun <= cause.ended
                for cause in causes
            ):
                yield f"attempt {attempt.number} of job {job.id} ({kind}) is unknown, and why? {attempt}"


def _sent_too_often(run: _Run) -> Iterator[str]:
    """A job whose answers are lost is sent twice more, then a person is asked; one accepted never again."""
    for job in run.jobs:
        for life in run.lives(job):
            unknowns = sum(attempt.outcome is Outcome.UNKNOWN for attempt in life)
            if unknowns > MOST_SENDS:
                yield f"job {job.id} was sent {unknowns} times without an answer, {MOST_SENDS} are allowed"
            if any(attempt.outcome is Outcome.ACCEPTED for attempt in life[:-1]):
                yield f"job {job.id} was sent again after it was accepted: {_outcomes(life)}"


def _held(run: _Run) -> Iterator[str]:
    """With ``on_unknown: hold`` nothing is doubled, and nothing sent again but by a person."""
    for job in run.of(Kind.HOLD):
        saves = run.saves[commit_of(job)]
        if saves > 1:
            yield f"TheEye has job {job.id} ({commit_of(job)}), held, {saves} times"
        for life in run.lives(job):
            if any(attempt.outcome is Outcome.UNKNOWN for attempt in life[:-1]):
                yield f"job {job.id}, held, was sent again: {_outcomes(life)}"


def _unstarted(run: _Run) -> Iterator[str]:
    """That an attempt starts is committed before the first byte leaves."""
    for job in run.jobs:
        arrived, attempts = run.arrivals[commit_of(job)], len(run.attempts(job))
        if arrived > attempts:
            yield f"job {job.id} ({commit_of(job)}) arrived {arrived} times, {attempts} attempts are stored"


def _overlapping(run: _Run) -> Iterator[str]:
    """Two processes never hold one job's claim."""
    for job in run.jobs:
        for one, next_ in pairwise(run.attempts(job)):
            ended = one.started_at + (one.seconds or 0.0)
            if next_.started_at < ended - ROUNDING:
                yield (
                    f"job {job.id}: attempt {next_.number} began {ended - next_.started_at:.3f} s before "
                    f"attempt {one.number} ended"
                )


def _ungrouped(run: _Run) -> Iterator[str]:
    """Those of one member share a group, and nobody else is in it."""
    for kind in (Kind.GROUPED, Kind.LATEST):
        member_of: dict[str | None, str] = {}
        group_of: dict[str, str | None] = {}
        for job in run.of(kind):
            member = run.member_of[commit_of(job)]
            if job.group is None:
                yield f"job {job.id} of {kind} {member} is in no group"
            elif member_of.setdefault(job.group, member) != member:
                yield f"job {job.id} of {kind} {member} is in the group of {member_of[job.group]}"
            elif group_of.setdefault(member, job.group) != job.group:
                yield f"job {job.id} of {kind} {member} is in another group than those before it"


def _out_of_order(run: _Run) -> Iterator[str]:
    """What was answered before another of its group was sent is done at TheEye before that comes."""
    for kind in (Kind.GROUPED, Kind.LATEST):
        for member, pushes in run.members(kind).items():
            # Of those answered so far, the one that TheEye took last.
            last: tuple[float, str] = (-inf, "")
            answered = sorted(pushes, key=lambda push: push.answered)
            place = 0
            for push in sorted(pushes, key=lambda push: push.begun):
                while place < len(answered) and answered[place].answered < push.begun:
                    last = max(last, (_done(run, answered[place]), answered[place].commit))
                    place += 1
                came = run.first_arrival.get(push.commit, inf)
                if came < last[0]:
                    yield (
                        f"{push.commit} of {kind} {member} came {last[0] - came:.3f} s before TheEye had "
                        f"{last[1]}, which was answered before it was pushed"
                    )


def _done(run: _Run, push: Taken) -> float:
    """When TheEye had it; of one that gave way to a newer one, when it first came; long ago where never."""
    job = run.job_of.get(push.commit)
    if job is not None and job.state is JobState.SKIPPED:
        return run.first_arrival.get(push.commit, -inf)
    return run.first_save.get(push.commit, -inf)


def _out_of_position(run: _Run) -> Iterator[str]:
    """In a group the attempts of one job end before those of the next begin."""
    for kind in (Kind.GROUPED, Kind.LATEST):
        groups: dict[str | None, list[Job]] = defaultdict(list)
        for job in run.of(kind):
            groups[job.group].append(job)
        for group, jobs in groups.items():
            last: tuple[float, int] = (-inf, 0)
            for job in sorted(jobs, key=lambda job: job.position or 0):
                attempts = run.attempts(job)
                early = last[0] - attempts[0].started_at if attempts else 0.0
                if early > ROUNDING:
                    yield f"job {job.id} of {kind} {group} began {early:.3f} s before job {last[1]} had ended"
                ends = [attempt.started_at + (attempt.seconds or 0.0) for attempt in attempts]
                last = max(last, (max(ends, default=-inf), job.id))


def _not_the_latest(run: _Run) -> Iterator[str]:
    """Only what a newer one replaced is skipped, so the newest of each group gets through."""
    for member, pushes in run.members(Kind.LATEST).items():
        jobs = [run.job_of[push.commit] for push in pushes if push.commit in run.job_of]
        through = [job.position or 0 for job in jobs if job.state is JobState.ACCEPTED]
        for job in jobs:
            if job.state is JobState.SKIPPED and (job.position or 0) > max(through, default=-1):
                yield f"job {job.id} of {member} was skipped, and no newer one was accepted: {job.reason}"


def _too_fast(run: _Run) -> Iterator[str]:
    """No more than RATE attempts of the rated task start in any SPAN."""
    starts = sorted(attempt.started_at for job in run.of(Kind.RATED) for attempt in run.attempts(job))
    for first, beyond in zip(starts, starts[RATE:], strict=False):
        if beyond - first < SPAN - ROUNDING:
            yield f"{RATE + 1} attempts of one task started within {beyond - first:.3f} s, from {first:.3f}"


def _more_than_once(run: _Run) -> Iterator[str]:
    """Of one key the next is made after the last one's window; what no key held back is not skipped."""
    keys: dict[str, list[Job]] = defaultdict(list)
    for job in run.of(Kind.ONCE):
        keys[run.member_of[commit_of(job)]].append(job)
    for key, jobs in keys.items():
        through = [job for job in jobs if job.state is JobState.ACCEPTED]
        for one, next_ in pairwise(through):
            if next_.created_at < run.held_until(one) + ONCE_WITHIN - ROUNDING:
                yield f"jobs {one.id} and {next_.id} of key {key} both went through"
        for job in jobs:
            held = any(
                one.id < job.id and job.created_at <= (one.ended_at or inf) + ONCE_WITHIN + ROUNDING
                for one in through
            )
            if job.state is JobState.SKIPPED and not held:
                yield f"job {job.id} was skipped, and no other held key {key}: {job.reason}"


def _outcomes(life: Iterable[Attempt]) -> str:
    return ", ".join(f"{attempt.number} {attempt.outcome}" for attempt in life)
