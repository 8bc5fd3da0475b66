"""When what goes wrong: drawn from a seed, so that a run that broke a promise can be had again. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.chaos.table import KINDS, LEASE, TIMEOUT, Kind


class What(StrEnum):
    """What goes wrong, in words for the report."""

    KILL_WEB = "kill -9 of a web process"
    KILL_WORKER = "kill -9 of a worker"
    KILL_ALL = "kill -9 of every process"
    RELOAD_WEB = "SIGHUP of the web processes"
    RESTART_WEB = "SIGTERM and start of the web processes"
    RESTART_WORKER = "SIGTERM and start of a worker"
    FREEZE_WEB = "a web process freezes"
    CROWD = "more connections than files"
    STALL_LOG = "nobody reads the log"
    CLOCK_FORWARD = "the clock goes an hour forward"
    CLOCK_BACK = "the clock goes an hour back"
    FILL_DISK = "the disk is full during a restart"
    FREEZE_WORKER = "a worker freezes"
    LOSE_CLAIMS = "a worker freezes and its leases end"
    STOP_DATABASE = "the database stops"
    KILL_DATABASE = "kill -9 of the database"
    FREEZE_DATABASE = "the database freezes"
    LOCK_DATABASE = "the database is locked"
    REFUSES = "TheEye refuses connections"
    FLAPS = "TheEye comes and goes"
    HANGS = "TheEye hangs"
    RESETS = "TheEye resets after reading"
    FAILS = "TheEye answers 500"
    BAD_GATEWAY = "TheEye's proxy answers 502 in HTML"
    BUSY_FOR = "TheEye answers 429 with seconds"
    BUSY_UNTIL = "TheEye answers 429 with a date"
    AWAY = "TheEye's proxy answers 503"
    UNREADABLE = "TheEye's 200 cannot be read"
    SLOW = "TheEye is slow"
    DRIPS = "TheEye answers byte by byte"
    PERSON = "a person resolves what is unknown"


#: Not where web processes end by themselves: one that starts meanwhile would follow the wrong clock.
CLOCKS = (What.CLOCK_FORWARD, What.CLOCK_BACK)
#: What befalls the processes, one after another; those that need workers or a server of databases last.
_ANYWHERE = (
    What.KILL_WEB, What.KILL_ALL, What.RELOAD_WEB, What.RESTART_WEB, What.FREEZE_WEB, What.CROWD,
    What.STALL_LOG, *CLOCKS,
)  # fmt: skip
ON_SQLITE = (*_ANYWHERE, What.LOCK_DATABASE, What.FILL_DISK)
ON_POSTGRESQL = (
    *_ANYWHERE, What.KILL_WORKER, What.RESTART_WORKER, What.FREEZE_WORKER, What.LOSE_CLAIMS,
    What.STOP_DATABASE, What.KILL_DATABASE, What.FREEZE_DATABASE,
)  # fmt: skip
#: What TheEye does meanwhile, one after another.
BY_THEEYE = (
    What.REFUSES, What.FLAPS, What.HANGS, What.RESETS, What.FAILS, What.BAD_GATEWAY, What.BUSY_FOR,
    What.BUSY_UNTIL, What.AWAY, What.UNREADABLE, What.SLOW, What.DRIPS,
)  # fmt: skip

#: What costs no answer. Among it is all that ends or is told to end in good order.
HARMLESS = (
    What.RELOAD_WEB, What.RESTART_WEB, What.RESTART_WORKER, What.BUSY_FOR, What.BUSY_UNTIL, What.AWAY,
    What.PERSON, What.CROWD, What.STALL_LOG, What.CLOCK_FORWARD, What.CLOCK_BACK,
)  # fmt: skip

#: What costs answers only as it begins: to those who are about to connect, or have a send in flight.
SUDDEN = (What.KILL_WEB, What.KILL_WORKER, What.KILL_ALL, What.REFUSES)
#: With which status an answer comes that says nothing of the job; of all the others none comes.
WITH_STATUS = {What.FAILS: 500, What.BAD_GATEWAY: 502, What.UNREADABLE: 200}

#: How long what ends by itself or is ended lasts, from and to, seconds.
_LASTS = {
    What.FREEZE_WEB: (1.0, 5.0),
    What.CROWD: (0.5, 3.0),
    What.STALL_LOG: (1.0, 4.0),
    What.CLOCK_FORWARD: (1.0, 4.0),
    What.CLOCK_BACK: (1.0, 4.0),
    What.FILL_DISK: (0.5, 2.0),
    What.FREEZE_WORKER: (1.0, 5.0),
    # At most: the other worker looks for what is left behind every 2 s, and sends it within 2 s more.
    What.LOSE_CLAIMS: (4.0, 5.0),
    What.STOP_DATABASE: (0.5, 3.0),
    What.KILL_DATABASE: (0.1, 2.0),
    What.FREEZE_DATABASE: (0.5, 6.0),
    What.LOCK_DATABASE: (0.5, 4.0),
    **dict.fromkeys(BY_THEEYE, (0.8, 2.5)),
    # Long enough that what is held runs into the time-out.
    What.HANGS: (TIMEOUT + 0.5, TIMEOUT + 2.0),
}
#: Between two that befall the processes, and two of TheEye, from and to, seconds.
_PAUSE, _PAUSE_OF_THEEYE = (0.5, 2.5), (0.2, 1.0)
#: One freeze of a worker in so many outlasts its leases, in runs that are so many seconds long.
_LONG_FREEZE, _LONG_RUN = 3, 100.0
#: A person comes after so many of what TheEye does: until then an unknown job holds its group up.
_PERSON_AFTER = 6


@dataclass(frozen=True)
class Action:
    """One thing that goes wrong."""

    #: Seconds from the beginning; later, where what came before took longer than planned.
    at: float
    what: What
    #: Seconds until it ends; 0 where it is over at once.
    lasts: float = 0.0
    #: TheEye has the job all the same, whatever it answers.
    saves: bool = False
    #: Only for jobs of this kind.
    kind: Kind | None = None
    #: In [0, 1): which of several processes, and whatever else is left to chance.
    chance: float = 0.0

    def __str__(self) -> str:
        more = [f"for {self.lasts:.1f} s"] if self.lasts else []
        more += ["which has the job"] if self.saves else []
        more += [f"{self.kind} alone"] if self.kind else []
        return ", ".join([self.what, *more])


def schedule(seed: int, seconds: float, whats: Sequence[What], calm: float = 1.0) -> tuple[Action, ...]:
    """One after another of `whats` for so many seconds; each comes once before any comes again.

    With `calm` the time between two is so many times as long.
    """
    random = Random(f"{seed} {' '.join(whats)}")
    actions: list[Action] = []
    pause = _PAUSE_OF_THEEYE if set(whats) <= set(BY_THEEYE) else _PAUSE
    at = calm * random.uniform(*pause)
    for what in _dealt(random, whats):
        action = _action(random, at, what, seconds)
        if at + action.lasts > seconds:
            return tuple(actions)
        actions.append(action)
        at += action.lasts + calm * random.uniform(*pause)
    raise AssertionError("the cards never end")


def _dealt(random: Random, whats: Sequence[What]) -> Iterator[What]:
    dealt = 0
    while True:
        for what in random.sample(whats, len(whats)):
            yield what
            dealt += 1
            if what in BY_THEEYE and dealt % _PERSON_AFTER == 0:
                yield What.PERSON


def _action(random: Random, at: float, what: What, seconds: float) -> Action:
    lasts = random.uniform(*_LASTS[what]) if what in _LASTS else 0.0
    if what is What.FREEZE_WORKER and seconds >= _LONG_RUN and random.random() < 1 / _LONG_FREEZE:
        lasts += LEASE
    # 429, 503 and what is refused say that the job was not taken on, so there TheEye must not have it.
    may_save = what in (What.HANGS, What.RESETS, What.FAILS, What.BAD_GATEWAY, What.UNREADABLE)
    of_one_kind = what in BY_THEEYE and what not in (What.REFUSES, What.FLAPS) and random.random() < 0.4
    return Action(
        at=at,
        what=what,
        lasts=lasts,
        saves=may_save and random.random() < 0.6,
        kind=random.choice(KINDS) if of_one_kind else None,
        chance=random.random(),
    )
