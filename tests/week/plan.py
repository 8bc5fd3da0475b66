"""The planned faults, one for each alert rule, and the day of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bridge.outbox.pauses import Pausable
from bridge.outbox.store import Outbox
from tests.chaos import faults
from tests.chaos.oracle import Cause
from tests.chaos.run import Person, causes_of
from tests.chaos.schedule import BY_THEEYE, Action, What
from tests.chaos.table import Kind
from tests.support.server import CHECKOUT
from tests.support.theeye import Answer, Fault, StandIn
from tests.week.system import Production
from tests.week.table import PARKED, REFUSED, Table
from tests.week.traffic import Beacon, Single

RULES = CHECKOUT / "docs" / "monitoring" / "prometheus-alerts.yml"
#: Seconds that an action may last that ends when its alert fires.
_ENDLESS = 3600.0
#: More requests with a wrong secret than the rule allows.
_WRONG = 40


@dataclass(frozen=True)
class Scene:
    """All that a fault may touch."""

    system: Production
    theeye: StandIn
    outbox: Outbox
    person: Person
    table: Table
    single: Single
    beacon: Beacon
    #: What the faults may have cost.
    causes: list[Cause] = field(default_factory=list)


@contextmanager
def _without_web(scene: Scene) -> Iterator[None]:
    assert scene.system.server.stop() == 0
    yield
    scene.system.server.start()


def _without_database(scene: Scene) -> AbstractContextManager[None]:
    if scene.system.workers:
        return _befalls(scene, Action(0.0, What.STOP_DATABASE, _ENDLESS))
    # A locked database answers a scrape too late.
    return scene.system.full_disk()


def _without_delivery(scene: Scene) -> AbstractContextManager[None]:
    return scene.system.without_delivery()


def _outage(scene: Scene) -> AbstractContextManager[None]:
    return _befalls(scene, Action(0.0, What.REFUSES, _ENDLESS))


@contextmanager
def _dead_job(scene: Scene) -> Iterator[None]:
    scene.theeye.clear()
    scene.theeye.fault(Fault(Answer(400), task_id=REFUSED))
    scene.theeye.fault(Fault(hang=faults.ALWAYS))
    scene.single.push("refused")
    yield
    faults.begin(scene.theeye)


@contextmanager
def _lost_answer(scene: Scene) -> Iterator[None]:
    with _befalls(scene, Action(0.0, What.RESETS, _ENDLESS, saves=True, kind=Kind.HOLD)):
        yield
    scene.person.resolve()


@contextmanager
def _waiting_job(scene: Scene) -> Iterator[None]:
    scene.outbox.pause(Pausable.TASK, PARKED)
    scene.single.push("parked")
    yield
    scene.outbox.resume(Pausable.TASK, PARKED)


def _slow(scene: Scene) -> AbstractContextManager[None]:
    return _befalls(scene, Action(0.0, What.SLOW, _ENDLESS, chance=0.4))


@contextmanager
def _bad_edit(scene: Scene) -> Iterator[None]:
    scene.table.spoil()
    yield
    scene.table.correct()


@contextmanager
def _silence(scene: Scene) -> Iterator[None]:
    scene.beacon.silent.set()
    yield
    scene.beacon.silent.clear()


@contextmanager
def _wrong_secret(scene: Scene) -> Iterator[None]:
    for _ in range(_WRONG):
        scene.single.push_with_a_wrong_secret()
    yield


#: By the rule that it fires. Inside, it lasts.
FAULTS: dict[str, Callable[[Scene], AbstractContextManager[None]]] = {
    "BridgeDown": _without_web,
    "BridgeNotReady": _without_database,
    "BridgeNotDelivering": _without_delivery,
    "BridgeTheEyeOutage": _outage,
    "BridgeJobsDead": _dead_job,
    "BridgeJobsUnknown": _lost_answer,
    "BridgeJobsLate": _waiting_job,
    "BridgeAttemptsSlow": _slow,
    "BridgeTableRejected": _bad_edit,
    "BridgeSilent": _silence,
    "BridgeRequestsRefused": _wrong_secret,
}
#: The rules of each day.
DAYS: tuple[tuple[str, ...], ...] = (
    ("BridgeJobsDead",),
    ("BridgeTheEyeOutage", "BridgeNotDelivering"),
    ("BridgeNotReady", "BridgeTableRejected"),
    ("BridgeJobsUnknown", "BridgeJobsLate"),
    ("BridgeAttemptsSlow",),
    ("BridgeSilent", "BridgeRequestsRefused"),
    ("BridgeDown",),
)


@contextmanager
def _befalls(scene: Scene, action: Action) -> Iterator[None]:
    """Inside, that happens to TheEye or to the processes."""
    ended = threading.Event()
    errors: list[BaseException] = []

    def happen() -> None:
        try:
            if action.what in BY_THEEYE:
                faults.happen(scene.theeye, action, ended)
            else:
                scene.system.happen(action, ended)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=happen, daemon=True)
    begun = time.time()
    thread.start()
    yield
    ended.set()
    thread.join()
    scene.causes.extend(causes_of(action, begun, time.time()))
    if errors:
        raise errors[0]
