"""The real Alertmanager sends to the real bridge: what becomes a job, what is only said again."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from bridge.core.job import JobState
from bridge.demo.arguments import Argument, StandInJob, StandInTask
from bridge.outbox.store import Outbox
from tests.support.alertmanager import Alertmanager
from tests.support.server import Server
from tests.support.theeye import StandIn

MakeAlertmanager = Callable[[str], Alertmanager]

#: Seconds that what Alertmanager sends may take to come on a slow machine.
PATIENCE = 30.0

VARIABLES = {"TOKEN": "real-alertmanager-bearer-token", "TASK_KEY": "k1" * 32}
PAGE = "5f3c9a7be4b0a1c2d3e4f501"
CLEAR = "5f3c9a7be4b0a1c2d3e4f502"

TABLE = """
theeye: {{url: "{url}", customer: acme}}
sources:
  alerts: {{type: alertmanager, bearer_token: "${{{{ env.TOKEN }}}}"{dedupe}}}
tasks:
  page: {{id: {page}, secret_key: "${{{{ env.TASK_KEY }}}}"}}
  clear: {{id: {clear}, secret_key: "${{{{ env.TASK_KEY }}}}"}}
routes:
  - name: page
    source: alerts
    loop: payload.alerts
    match: {{item.labels.severity: critical, item.status: firing}}
    task: page
    task_arguments:
      - ${{{{ item.labels.instance }}}}
      - ${{{{ event }}}}
      - ${{{{ delivery_id }}}}
  - name: clear
    source: alerts
    loop: payload.alerts
    match: {{item.labels.severity: critical, item.status: resolved}}
    task: clear
    task_arguments:
      - ${{{{ item.labels.instance }}}}
      - ${{{{ event }}}}
      - ${{{{ delivery_id }}}}
"""

#: A group gathers for a second, so that alerts that are fired together come in one notification.
CONFIG = """
route:
  receiver: theeye
  group_by: [alertname]
  group_wait: 1s
  group_interval: 1s
  repeat_interval: {repeat}
receivers:
  - name: theeye
    webhook_configs:
      - url: {url}/hooks/alerts
        http_config:
          authorization: {{credentials: "{token}"}}
"""


def alert(instance: str, severity: str = "critical") -> dict[str, str]:
    return {"alertname": "DiskFull", "instance": instance, "severity": severity}


ONE, TWO, THREE = (alert(f"worker-{number}") for number in (1, 2, 3))
WARNING = alert("worker-4", "warning")


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    arguments = (Argument("instance"), Argument("event"), Argument("delivery"))
    tasks = [StandInTask(task, VARIABLES["TASK_KEY"], task, arguments) for task in (PAGE, CLEAR)]
    with StandIn(["acme"], tasks) as stand_in:
        yield stand_in


@pytest.fixture
def make_bridge(tmp_path: Path, theeye: StandIn) -> Iterator[Callable[..., Server]]:
    """Starts the bridge; `dedupe` as the source has it, or the type's default."""
    made: list[Server] = []

    def make(dedupe: str | None = None) -> Server:
        written = f", dedupe: {dedupe}" if dedupe else ""
        config = tmp_path / "table.yml"
        config.write_text(TABLE.format(url=theeye.url, page=PAGE, clear=CLEAR, dedupe=written))
        made.append(Server(config, tmp_path / "bridge.db", VARIABLES))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.kill()


@dataclass(frozen=True)
class Passed:
    """One notification that went through the proxy."""

    body: bytes
    #: What the bridge answered.
    status: int
    answer: bytes


class Proxy:
    """Stands between Alertmanager and the bridge, and may say 503 of what the bridge has taken."""

    def __init__(self, bridge: Server, *, lies: int = 0) -> None:
        """`lies`: how many of the first answers are 503, whatever the bridge answered."""
        self._changed = threading.Condition()
        self._passed: list[Passed] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                connection = http.client.HTTPConnection("127.0.0.1", bridge.port, timeout=PATIENCE)
                connection.request("POST", self.path, body, dict(self.headers.items()))
                response = connection.getresponse()
                answer = response.read()
                connection.close()
                place = proxy.note(Passed(body, response.status, answer))
                self.send_response(503 if place < lies else response.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def note(self, passed: Passed) -> int:
        """Keep it; returns its place."""
        with self._changed:
            self._passed.append(passed)
            self._changed.notify_all()
            return len(self._passed) - 1

    def wait_for(self, wanted: Callable[[list[Passed]], bool]) -> list[Passed]:
        """Everything that passed, as soon as that is as wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self._passed), PATIENCE), self._passed
            return list(self._passed)


def config(url: str, repeat: str = "1h") -> str:
    return CONFIG.format(url=url, token=VARIABLES["TOKEN"], repeat=repeat)


def bodies(server: Server) -> list[bytes]:
    """Of the stored events, oldest first."""
    outbox = Outbox(f"sqlite:///{server.database}", beside_a_server=True)
    found = [outbox.event(number).body for number in sorted(event.id for event in outbox.events())]
    outbox.close()
    return found


def settled(server: Server, theeye: StandIn) -> tuple[StandInJob, ...]:
    """The stand-in's jobs, once they are the stored ones: each was accepted, none was sent twice."""
    outbox = Outbox(f"sqlite:///{server.database}", beside_a_server=True)
    deadline = time.monotonic() + PATIENCE
    while outbox.counts() != {JobState.ACCEPTED: len(jobs := theeye.jobs)}:
        assert time.monotonic() < deadline, f"{outbox.counts()}, {len(jobs)} sent\n{server.log[-3000:]}"
        time.sleep(0.05)
    outbox.close()
    return jobs


def told(jobs: tuple[StandInJob, ...], task: str) -> list[tuple[object, object]]:
    """Of a task's jobs, the instance and the group's status."""
    return sorted((str(job.values[0]), str(job.values[1])) for job in jobs if job.task_id == task)


def wait_for(theeye: StandIn, task: str, jobs: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while sum(job.task_id == task for job in theeye.jobs) < jobs:
        assert time.monotonic() < deadline, theeye.jobs
        time.sleep(0.05)


def test_each_critical_alert_is_one_job_and_one_more_when_it_is_resolved(
    theeye: StandIn, make_bridge: Callable[..., Server], make_alertmanager: MakeAlertmanager
) -> None:
    bridge = make_bridge()
    alertmanager = make_alertmanager(config(bridge.url))
    alertmanager.fire(ONE, WARNING, TWO, THREE)
    wait_for(theeye, PAGE, 3)
    every_firing = [("worker-1", "firing"), ("worker-2", "firing"), ("worker-3", "firing")]
    assert told(settled(bridge, theeye), PAGE) == every_firing
    assert told(theeye.jobs, CLEAR) == []

    alertmanager.resolve(ONE, WARNING, TWO, THREE)
    wait_for(theeye, CLEAR, 3)
    jobs = settled(bridge, theeye)
    assert [instance for instance, _ in told(jobs, CLEAR)] == ["worker-1", "worker-2", "worker-3"]
    assert {status for _, status in told(jobs, PAGE)} == {"firing"}
    assert len(orjson.loads(bodies(bridge)[0])["alerts"]) == 4, "the warning was not sent: nothing is shown"


def test_an_alert_that_resolves_inside_a_group_that_still_fires_is_a_job(
    theeye: StandIn, make_bridge: Callable[..., Server], make_alertmanager: MakeAlertmanager
) -> None:
    bridge = make_bridge()
    alertmanager = make_alertmanager(config(bridge.url))
    alertmanager.fire(ONE, TWO)
    wait_for(theeye, PAGE, 2)
    alertmanager.resolve(ONE)
    wait_for(theeye, CLEAR, 1)
    assert told(settled(bridge, theeye), CLEAR) == [("worker-1", "firing")]
    alertmanager.resolve(TWO)
    wait_for(theeye, CLEAR, 2)
    jobs = settled(bridge, theeye)
    assert told(jobs, CLEAR) == [("worker-1", "firing"), ("worker-2", "resolved")]
    # The notification that told of the first's end told of the second too: that makes it another one.
    assert told(jobs, PAGE) == [("worker-1", "firing"), ("worker-2", "firing"), ("worker-2", "firing")]


def test_a_reminder_has_the_same_bytes_and_becomes_new_jobs(
    theeye: StandIn, make_bridge: Callable[..., Server], make_alertmanager: MakeAlertmanager
) -> None:
    # The type's window of 30 s takes what comes again inside it as a repeat; a reminder must come after
    # the window, and nobody wants to wait for that here.
    bridge = make_bridge(dedupe="2s")
    alertmanager = make_alertmanager(config(bridge.url, repeat="3s"))
    alertmanager.fire(ONE, TWO, WARNING)
    wait_for(theeye, PAGE, 4)
    first, second = bodies(bridge)[:2]
    assert first == second
    by_delivery: dict[object, list[object]] = {}
    for job in settled(bridge, theeye):
        by_delivery.setdefault(job.values[2], []).append(job.values[0])
    assert len(by_delivery) >= 2
    assert all(sorted(map(str, names)) == ["worker-1", "worker-2"] for names in by_delivery.values())


def test_a_retry_of_what_the_bridge_has_taken_is_no_second_job(
    theeye: StandIn, make_bridge: Callable[..., Server], make_alertmanager: MakeAlertmanager
) -> None:
    bridge = make_bridge()
    with Proxy(bridge, lies=1) as proxy:
        make_alertmanager(config(proxy.url)).fire(ONE, TWO, THREE)
        first, again = proxy.wait_for(lambda passed: len(passed) >= 2)
    assert again.body == first.body
    assert (first.status, again.status) == (202, 200)
    assert orjson.loads(again.answer) == {"event": 1, "jobs": [], "duplicate": True}
    every_firing = [("worker-1", "firing"), ("worker-2", "firing"), ("worker-3", "firing")]
    assert told(settled(bridge, theeye), PAGE) == every_firing
    assert bodies(bridge) == [first.body]


def test_a_retry_of_what_the_bridge_could_not_store_is_the_first(
    theeye: StandIn, make_bridge: Callable[..., Server], make_alertmanager: MakeAlertmanager
) -> None:
    bridge = make_bridge()
    database = [path for path in Path(bridge.database).parent.glob("bridge.db*") if path.suffix != ".log"]
    with Proxy(bridge) as proxy:
        alertmanager = make_alertmanager(config(proxy.url))
        for path in database:
            path.rename(path.with_name(f"moved-{path.name}"))
        alertmanager.fire(ONE, TWO, THREE)
        proxy.wait_for(lambda passed: len(passed) >= 1)
        for path in database:
            path.with_name(f"moved-{path.name}").rename(path)
        refused = proxy.wait_for(lambda passed: passed[-1].status != 503)
    taken = refused.pop()
    assert {each.status for each in refused} == {503}
    assert {each.body for each in refused} == {taken.body}
    assert taken.status == 202
    answer = orjson.loads(taken.answer)
    assert (len(answer["jobs"]), answer["duplicate"]) == (3, False)
    every_firing = [("worker-1", "firing"), ("worker-2", "firing"), ("worker-3", "firing")]
    assert told(settled(bridge, theeye), PAGE) == every_firing
    assert bodies(bridge) == [taken.body]
