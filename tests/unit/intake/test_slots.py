"""At most four webhooks of one source are evaluated at the same time in a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bridge.core.errors import SourceBusy
from bridge.core.event import Event
from bridge.intake.answer import Answer
from bridge.intake.evaluation_limiter import MAX_RUNNING, MAX_WAITING, EvaluationLimiter
from bridge.routing.routing_table import Routed, RoutingTable
from bridge.server import gunicorn_config as server
from tests.support.intake import JSON_HEADERS, Intake
from tests.support.tables import PATIENCE, wait_until

TABLE = """
sources:
  noisy: {type: generic, allow_unsigned: true}
  quiet: {type: generic, allow_unsigned: true}
routes: []
"""


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with closing(Intake(TABLE, tmp_path)) as made:
        yield made


class Held:
    """Evaluation of the source `noisy` that goes on only once it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()
        evaluate = RoutingTable.jobs_for

        def held(table: RoutingTable, event: Event) -> Routed:
            if event.source == "noisy":
                with self._lock:
                    self.running += 1
                    self.most = max(self.most, self.running)
                assert self.gate.wait(PATIENCE)
                with self._lock:
                    self.running -= 1
            return evaluate(table, event)

        monkeypatch.setattr(RoutingTable, "jobs_for", held)


def posts(intake: Intake, number: int, answers: list[Answer]) -> list[threading.Thread]:
    """So many webhooks of the source `noisy`, each in a thread of its own."""
    body = b'{"a": "%d"}'
    threads = [
        threading.Thread(target=lambda n=n: answers.append(intake.post("noisy", body % n, JSON_HEADERS)))
        for n in range(number)
    ]
    for thread in threads:
        thread.start()
    return threads


def test_no_more_run_at_once_and_another_source_is_not_held_up(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    answers: list[Answer] = []
    threads = posts(intake, MAX_RUNNING + 3, answers)
    wait_until(lambda: held.running == MAX_RUNNING, "the first webhooks")
    assert intake.post("quiet", b"{}", JSON_HEADERS).status == 200
    assert (held.running, answers) == (MAX_RUNNING, [])
    held.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert [answer.status for answer in answers] == [200] * (MAX_RUNNING + 3)
    assert held.most == MAX_RUNNING


def test_one_that_waits_too_long_is_to_be_sent_again(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    monkeypatch.setattr(intake.receiver, "_limiter", EvaluationLimiter(timeout=0.05))
    answers: list[Answer] = []
    threads = posts(intake, MAX_RUNNING, answers)
    wait_until(lambda: held.running == MAX_RUNNING, "the first webhooks")
    response = intake.app().test_client().post("/hooks/noisy", data=b"{}", headers=JSON_HEADERS)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert response.get_json()["title"] == "The request could not be stored; send it again"
    held.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert intake.rows() == (MAX_RUNNING, 0)


def test_so_many_wait_and_leave_threads_to_others() -> None:
    slots = EvaluationLimiter(timeout=PATIENCE)
    let_go = threading.Event()
    entered: list[int] = []

    def work() -> None:
        with slots.slot("noisy"):
            entered.append(1)
            assert let_go.wait(PATIENCE)

    threads = [threading.Thread(target=work) for _ in range(MAX_RUNNING + MAX_WAITING)]
    for thread in threads:
        thread.start()
    wait_until(lambda: slots._by_source["noisy"].waiting == MAX_WAITING, "those that wait")
    with (
        pytest.raises(SourceBusy, match="32 webhooks are already being evaluated or waiting"),
        slots.slot("noisy"),
    ):
        pass
    with slots.slot("quiet"):
        pass
    assert len(entered) == MAX_RUNNING
    let_go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(entered) == MAX_RUNNING + MAX_WAITING
    assert server.threads >= 2 * (MAX_RUNNING + MAX_WAITING)


def test_a_slot_is_free_again_whatever_became_of_the_webhook() -> None:
    slots = EvaluationLimiter(timeout=0)
    for _ in range(2 * (MAX_RUNNING + MAX_WAITING)):
        with pytest.raises(ZeroDivisionError), slots.slot("noisy"):
            raise ZeroDivisionError
    with ExitStack() as running:
        for _ in range(MAX_RUNNING):
            running.enter_context(slots.slot("noisy"))
        for _ in range(2 * MAX_WAITING):
            with pytest.raises(SourceBusy, match="within 0 s"), slots.slot("noisy"):
                pass
