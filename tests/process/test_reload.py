"""An edited table comes into force in what runs; one with mistakes does not, and no cold start takes it."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from bridge.app import Bridge, build
from bridge.config.load import Loaded, load
from bridge.config.reload import POLL_INTERVAL, Reloader, TableWatcher
from bridge.core.errors import ConfigError
from bridge.core.job import JobState, Outcome
from bridge.core.problem import Severity
from bridge.core.secrets import Mask
from bridge.core.task import OnUnknown
from bridge.outbox.store import Outbox
from bridge.process.environment import Environment
from bridge.process.settings import Settings
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover
from tests.support.delivery import TASK, Process, arguments, quick_client
from tests.support.intake import BEARER, JSON_HEADERS, Intake
from tests.support.pushes import DEPLOY, RELEASE, VARIABLES, Client, push, write_table
from tests.support.server import SLOW, Server, SetServer, Worker
from tests.support.tables import PATIENCE, make_table, make_task, stand_in_task, wait_until
from tests.support.theeye import Fault, StandIn

TROUBLE = "the routing table is invalid; the last valid one stays active; run check: "
#: A source that no route is for: `check` warns of it.
UNUSED = "  unused: {type: generic, allow_unsigned: true}\n"


@pytest.fixture
def config(tmp_path: Path, theeye: StandIn) -> Path:
    return write_table(tmp_path, theeye.url)


def read(config: Path) -> Loaded:
    return load(config, VARIABLES, discover())


def revealed(loaded: Loaded | None) -> list[str]:
    """The secrets of a table."""
    return [] if loaded is None else [secret.reveal() for secret in loaded.secrets]


def routes(loaded: Loaded | None) -> list[str] | None:
    return None if loaded is None else routes_of(loaded.table)


def routes_of(table: RoutingTable) -> list[str]:
    return [route.name for route in table.routes]


def rename(config: Path, name: str, *, old: str = "  - source: github\n") -> None:
    """Give the first route a name, or another one."""
    config.write_text(config.read_text().replace(old, f"  - name: {name}\n    source: github\n", 1))


def spoil(config: Path) -> None:
    """Two mistakes: no route names a task that is there."""
    text = config.read_text()
    config.write_text(
        text.replace("task: deploy\n", "task: deplyo\n").replace("task: release\n", "task: relaese\n")
    )


class TestEdits:
    @pytest.fixture
    def watcher(self, config: Path) -> TableWatcher:
        watcher = TableWatcher(config, lambda: read(config))
        watcher.load()
        return watcher

    def test_are_taken_once_and_only_when_they_last(self, config: Path, watcher: TableWatcher) -> None:
        assert watcher.load_if_edited() is None
        rename(config, "another")
        assert watcher.load_if_edited() is None  # it may be half of one
        assert routes(watcher.load_if_edited()) == ["another", "github * release"]
        assert watcher.load_if_edited() is None

    def test_that_go_on_are_not_taken(self, config: Path, watcher: TableWatcher) -> None:
        for number in range(3):
            config.write_text(config.read_text() + f"# {number}\n")
            assert watcher.load_if_edited() is None
        assert watcher.load_if_edited() is not None

    def test_with_mistakes_are_told_once(self, config: Path, watcher: TableWatcher) -> None:
        spoil(config)
        assert watcher.load_if_edited() is None
        with pytest.raises(ConfigError, match="deplyo"):
            watcher.load_if_edited()
        assert watcher.load_if_edited() is None

    def test_of_a_folder_are_its_files(self, tmp_path: Path, config: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        config.rename(folder / "table.yml")
        watcher = TableWatcher(folder, lambda: read(folder))
        watcher.load()
        (folder / "notes.txt").write_text("no table")
        assert [watcher.load_if_edited(), watcher.load_if_edited()] == [None, None]
        (folder / "more.yaml").write_text(
            "routes:\n  - {name: more, source: github, task: deploy, task_arguments: [x]}\n"
        )
        assert [watcher.load_if_edited(), routes(watcher.load_if_edited())] == [
            None,
            ["more", "github * deploy", "github * release"],
        ]
        (folder / "more.yaml").unlink()
        assert [watcher.load_if_edited(), routes(watcher.load_if_edited())] == [
            None,
            ["github * deploy", "github * release"],
        ]

    def test_of_a_table_that_is_gone(self, config: Path, watcher: TableWatcher) -> None:
        config.unlink()
        assert watcher.load_if_edited() is None
        with pytest.raises(ConfigError, match="no such file"):
            watcher.load_if_edited()

    def test_that_come_by_a_link(self, tmp_path: Path, config: Path) -> None:
        """As a cluster mounts a table: a link that leads elsewhere from now on."""
        other, link = tmp_path / "other.yml", tmp_path / "link.yml"
        other.write_text(config.read_text())
        rename(other, "another")
        link.symlink_to(config)
        watcher = TableWatcher(link, lambda: read(link))
        watcher.load()
        link.unlink()
        link.symlink_to(other)
        assert [watcher.load_if_edited(), routes(watcher.load_if_edited())] == [
            None,
            ["another", "github * release"],
        ]

    @pytest.mark.parametrize("renamed", [False, True])
    def test_of_the_same_size_and_time(self, config: Path, watcher: TableWatcher, renamed: bool) -> None:
        """What copies a file with its time, as rsync does, in place or beside it."""
        before = config.stat()
        file = config.with_name("new") if renamed else config
        file.write_text(config.read_text().replace("refs/heads/main", "refs/heads/mine"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        file.rename(config)
        assert (config.stat().st_size, config.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        assert watcher.load_if_edited() is None
        assert watcher.load_if_edited() is not None

    def test_of_a_file_that_holds_a_secret(self, tmp_path: Path, config: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("one-secret-of-github\n")
        variables = Environment({**VARIABLES, "HOOK_SECRET": "", "HOOK_SECRET_FILE": str(secret)})
        watcher = TableWatcher(config, lambda: load(config, variables, discover()), lambda: variables.files)
        assert "one-secret-of-github" in revealed(watcher.load())
        assert [watcher.load_if_edited(), watcher.load_if_edited()] == [None, None]

        secret.write_text("another-secret-of-github\n")
        assert watcher.load_if_edited() is None
        assert "another-secret-of-github" in revealed(watcher.load_if_edited())

        # Away for a moment, as what a cluster mounts may be.
        secret.unlink()
        assert watcher.load_if_edited() is None
        with pytest.raises(ConfigError, match="HOOK_SECRET_FILE names cannot be read"):
            watcher.load_if_edited()
        secret.write_text("a-third-secret-of-github\n")
        assert watcher.load_if_edited() is None
        assert "a-third-secret-of-github" in revealed(watcher.load_if_edited())
        assert watcher.load_if_edited() is None

    def test_the_first_of_which_reads_it_once(self, tmp_path: Path, config: Path) -> None:
        secret, reads = tmp_path / "secret", []
        secret.write_text("one-secret-of-github\n")
        variables = Environment({**VARIABLES, "HOOK_SECRET": "", "HOOK_SECRET_FILE": str(secret)})

        def reading() -> Loaded:
            reads.append(1)
            return load(config, variables, discover())

        watcher = TableWatcher(config, reading, lambda: variables.files)
        watcher.load()
        assert [watcher.load_if_edited(), watcher.load_if_edited(), len(reads)] == [None, None, 1]

    @pytest.mark.parametrize("spoils", [False, True])
    def test_while_it_is_read_make_it_be_read_again(self, config: Path, spoils: bool) -> None:
        whole = config.read_text()

        def reading() -> Loaded:
            if meanwhile:
                config.write_text(meanwhile.pop())
            return read(config)

        meanwhile: list[str] = []
        watcher = TableWatcher(config, reading)
        watcher.load()
        rename(config, "another")
        text = config.read_text()
        if spoils:
            spoil(config)
            text, bad = whole, config.read_text()
            config.write_text(text)
            meanwhile.append(bad)
        else:
            meanwhile.append(text.replace("another", "last"))
        assert [watcher.load_if_edited(), watcher.load_if_edited()] == [
            None,
            None,
        ]  # seen, and changed as it was read
        assert watcher.load_if_edited() is None  # seen to be another
        if spoils:
            with pytest.raises(ConfigError):
                watcher.load_if_edited()
        else:
            assert routes(watcher.load_if_edited()) == ["last", "github * release"]

    def test_in_the_middle_of_a_save_the_start_waits(self, config: Path) -> None:
        text = config.read_text()
        half = text.index("  - source: github", text.index("  - source: github") + 1)
        config.write_text(text[:half])

        saving = threading.Timer(POLL_INTERVAL / 2, config.write_text, [text])
        saving.start()
        assert routes(TableWatcher(config, lambda: read(config)).load()) == [
            "github * deploy",
            "github * release",
        ]
        saving.join()


class Used:
    """What came into force, and the Reloader that brought it."""

    def __init__(self, config: Path) -> None:
        self.tables: list[Loaded] = []
        watcher = TableWatcher(config, lambda: read(config))
        watcher.load()
        self.reloader = Reloader(watcher, self.use)
        self.reloader.start()

    def use(self, loaded: Loaded) -> None:
        self.tables.append(loaded)


class TestReloader:
    @pytest.fixture
    def used(self, config: Path) -> Iterator[Used]:
        used = Used(config)
        yield used
        used.reloader.close()

    def test_brings_an_edit_into_force(self, config: Path, used: Used) -> None:
        rename(config, "another")
        wait_until(lambda: used.tables)
        assert [routes(one) for one in used.tables] == [["another", "github * release"]]

    def test_leaves_the_old_one_where_the_new_one_has_mistakes(
        self, config: Path, used: Used, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = config.read_text()
        spoil(config)
        wait_until(lambda: used.reloader.rejected)
        assert used.tables == []
        with pytest.raises(ConfigError) as checked:
            read(config)
        assert used.reloader.rejected == checked.value.problems
        told = [record.getMessage() for record in caplog.records]
        assert told[-2:] == [str(problem) for problem in checked.value.problems]
        config.write_text(good)
        wait_until(lambda: used.tables)
        wait_until(lambda: not used.reloader.rejected)

    def test_tells_the_first_mistake_not_a_warning(self, config: Path, used: Used) -> None:
        spoil(config)
        config.write_text(config.read_text().replace("sources:\n", "sources:\n" + UNUSED))
        wait_until(lambda: used.reloader.rejected)
        assert used.reloader.rejected[0].severity is Severity.WARNING
        assert used.reloader.trouble is not None
        assert re.fullmatch(re.escape(TROUBLE) + r".*:\d+:\d+: error: [^\n]*", used.reloader.trouble)

    def test_reads_it_when_it_is_told_to(self, used: Used) -> None:
        used.reloader.reload()
        wait_until(lambda: used.tables)

    def test_takes_it_from_a_handler_that_interrupts_itself(self, used: Used) -> None:
        before = signal.signal(signal.SIGVTALRM, lambda *_: used.reloader.reload())
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-5, 1e-5)
        try:
            for _ in range(100_000):
                used.reloader.reload()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        wait_until(lambda: used.tables)

    def test_goes_on_after_a_defect(
        self, config: Path, used: Used, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: Loaded) -> None:
            raise RuntimeError("a defect")

        with monkeypatch.context() as broken:
            broken.setattr(used.reloader, "_use", fail)
            rename(config, "another")
            wait_until(lambda: "cannot be reloaded" in caplog.text)
        rename(config, "last", old="  - name: another\n    source: github\n")
        wait_until(lambda: used.tables)
        assert routes(used.tables[0]) == ["last", "github * release"]


class Meanwhile(io.BytesIO):
    """A request's body: while it arrives, another table comes into force."""

    def __init__(self, body: bytes, happens: Callable[[], None]) -> None:
        super().__init__(body)
        self._happens = happens

    def read(self, size: int | None = -1, /) -> bytes:
        self._happens()
        return super().read(size)


@pytest.mark.parametrize(("old", "new"), [("hook: {", "other: {"), ("env.TOKEN }", "env.TOKEN_OLD }")])
def test_a_request_goes_by_one_table_to_its_end(
    make_intake: Callable[[str], Intake], old: str, new: str
) -> None:
    """Its source, or its source's secret, is another when its body has come."""
    text = """
sources: {hook: {type: generic, bearer_token: "${{ env.TOKEN }}"}}
routes: [{name: old, source: hook, task: TASK, secret_key: KEY, task_arguments: [x]}]
"""
    intake = make_intake(text)
    client, receiver = intake.app().test_client(), intake.receiver
    first = receiver.table
    intake.use(
        text.replace(old, new).replace("source: hook", f"source: {'other' if 'other' in new else 'hook'}")
    )

    def swap() -> None:
        receiver.table = intake.table

    body = Meanwhile(b"{}", swap)
    answer = client.post(
        "/hooks/hook", headers={**JSON_HEADERS, **BEARER}, input_stream=body, content_length=2
    )
    assert (answer.status_code, [job.route for job in intake.jobs()]) == (202, ["old"])
    assert receiver.table is intake.table is not first
    assert client.post("/hooks/hook", headers={**JSON_HEADERS, **BEARER}, data=b"{}").status_code in (
        401,
        404,
    )


class TestProcess:
    """What a whole process does with another table."""

    @pytest.fixture
    def bridge(self, tmp_path: Path, config: Path) -> Iterator[Bridge]:
        environ = {**VARIABLES, "NEW_KEY": "n1" * 32, "BRIDGE_CONFIG": str(config)}
        bridge = build(Settings.from_environ({**environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'b.db'}"}))
        bridge.start(deliver=False)
        yield bridge
        bridge.close()

    def test_masks_the_new_secrets(self, config: Path, bridge: Bridge) -> None:
        assert "n1" * 32 in bridge.mask("n1" * 32)
        config.write_text(config.read_text().replace("env.DEPLOY_KEY", "env.NEW_KEY"))
        wait_until(lambda: bridge.mask("n1" * 32) == "<secret>")

    def test_says_the_warnings(self, config: Path, bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
        config.write_text(config.read_text().replace("sources:\n", "sources:\n" + UNUSED))
        wait_until(lambda: "unused" in bridge.table.sources)
        assert "source unused" in caplog.text

    def test_can_send_before_it_takes_in(
        self, config: Path, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names: list[str] = []
        monkeypatch.setattr(bridge.delivery, "use", lambda _: names.extend(routes_of(bridge.table)))
        rename(config, "another")
        wait_until(lambda: routes_of(bridge.table)[0] == "another")
        assert "another" not in names
        assert names


class TestDelivery:
    OTHER = make_task(2)

    @pytest.fixture
    def process(self, tmp_path: Path, theeye: StandIn) -> Iterator[Process]:
        process = Process(
            f"sqlite:///{tmp_path / 'bridge.db'}",
            make_table(tasks=[TASK], url=theeye.url),
            Mask(),
            make_client=quick_client(tmp_path),
        )
        yield process
        process.close()

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        with StandIn(["acme"], [stand_in_task(TASK), stand_in_task(self.OTHER)]) as stand:
            yield stand

    def test_knows_the_new_tasks(self, process: Process, theeye: StandIn) -> None:
        process.start()
        process.delivery.use(make_table(tasks=[TASK, self.OTHER], url=theeye.url))
        job = process.send("other", self.OTHER)
        process.wait_for(job, JobState.ACCEPTED)

    def test_a_job_that_came_before_them_waits_no_longer(self, process: Process, theeye: StandIn) -> None:
        """Another process had the new table first."""
        process.start()
        job = process.send("other", self.OTHER)
        wait_until(lambda: process.job(job).reason)
        process.delivery.use(make_table(tasks=[TASK, self.OTHER], url=theeye.url))
        process.wait_for(job, JobState.ACCEPTED)

    @pytest.mark.parametrize("stops", [True, False])
    def test_what_may_be_sent_twice_says_the_table_that_it_began_with(
        self, process: Process, theeye: StandIn, stops: bool
    ) -> None:
        theeye.fault(Fault(hang=PATIENCE) if stops else Fault(hang=0.5, reset=True, times=1))
        process.start()
        job = process.send(task=TASK)
        theeye.wait_for_requests(1)
        process.delivery.use(make_table(tasks=[replace(TASK, on_unknown=OnUnknown.HOLD)], url=theeye.url))
        if stops:
            process.stop(0.1)
        process.wait_for_attempts(job, 1)
        assert process.job(job).state is not JobState.UNKNOWN

    def test_what_is_sent_goes_by_the_table_that_it_began_with(
        self, process: Process, theeye: StandIn
    ) -> None:
        theeye.fault(Fault(hang=0.5))
        process.start()
        job = process.send()
        theeye.wait_for_requests(1)
        # Its task is gone from this one.
        process.delivery.use(make_table(tasks=[self.OTHER], url=theeye.url))
        process.wait_for(job, JobState.ACCEPTED)

    def test_and_by_its_time_out(self, process: Process, theeye: StandIn) -> None:
        """Its claim is too short for the table that comes into force when it has just started."""
        longer = make_table(tasks=[TASK], url=theeye.url, timeout=600.0)
        process.outbox.before["claimed"] = lambda: process.delivery.use(longer)
        process.start()
        job = process.wait_for(process.send(), JobState.ACCEPTED)
        assert process.outcomes(job.id) == [Outcome.ACCEPTED]

    def test_a_longer_time_out_is_for_longer_claims(self, process: Process, theeye: StandIn) -> None:
        """The lease of a later claim is as long as the new time-out requires."""
        process.start()
        process.delivery.use(make_table(tasks=[TASK], url=theeye.url, timeout=600.0))
        job = process.wait_for(process.send(), JobState.ACCEPTED)
        assert [one.number for one in process.outbox.attempts(job.id)] == [1]

    def test_another_url_is_tried_at_once(self, process: Process, theeye: StandIn) -> None:
        process.delivery.use(make_table(tasks=[TASK], url="http://127.0.0.1:9"))
        process.start()
        job = process.send("late")
        wait_until(lambda: process.delivery.trouble)
        process.delivery.use(make_table(tasks=[TASK], url=theeye.url))
        assert process.delivery.trouble is None
        process.clock.offset += 60.0  # its own wait
        process.delivery.wake()
        process.wait_for(job, JobState.ACCEPTED)
        assert arguments(theeye) == ["late"]


def trouble(server: Server) -> list[str]:
    status, found = server.get("/readyz")
    assert status == 200
    told: list[str] = found.get("trouble", [])
    return told


def is_in_trouble(server: Server) -> bool:
    return any(text.startswith(TROUBLE) for text in trouble(server))


#: The master makes a file once it has loaded an edited table, of which it logs nothing.
NOTES = """
ready = when_ready

def when_ready(arbiter):
    ready(arbiter)
    load = arbiter.watcher.load_if_edited

    def note():
        loaded = load()
        if loaded is not None:
            Path({path!r}).touch()
        return loaded

    arbiter.watcher.load_if_edited = note
"""


@pytest.mark.parametrize("start", ["a killed worker's", "a reload's"])
def test_what_starts_in_the_middle_of_a_bad_edit_has_the_last_good_table(
    tmp_path: Path, config: Path, theeye: StandIn, start: str
) -> None:
    note = tmp_path / "note"
    noting = NOTES.format(path=str(note))
    with SetServer(noting, config, tmp_path / "bridge.db", VARIABLES) as server:
        assert trouble(server) == []
        good = config.read_text()
        spoil(config)
        for number in (1, 2):  # what was handed on is handed on again
            if start == "a reload's":
                server.reload()
            else:
                server.kill_worker(*server.workers)
            (told,) = trouble(server)
            assert re.fullmatch(re.escape(TROUBLE) + r".*table\.yml:\d+:\d+: error: .*", told)
            assert push(server.port, f"commit-{number}").status == 202
            # A worker that is killed in between leaves an unknown attempt, which is made again later.
            with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
                wait_until(lambda: outbox.counts().keys() == {JobState.ACCEPTED}, "its record")
        assert [job.values for job in theeye.wait_for(2)] == [("commit-1",), ("commit-2",)]
        assert re.search(r"table\.yml:\d+:\d+: error: .*deplyo", server.log)

        # The other way round: what is pushed to main is released.
        config.write_text(good.replace("heads/main", "heads/x").replace("heads/release", "heads/main"))
        wait_until(lambda: trouble(server) == [])
        assert push(server.port, "commit-3").status == 202
        assert [job.task_id for job in theeye.wait_for(3)[2:]] == [RELEASE]

        # What the master has seen by itself is what to fall back to now.
        wait_until(note.exists, "the table that the master has loaded")
        spoil(config)
        server.kill_worker(*server.workers)
        wait_until(lambda: is_in_trouble(server))
        assert push(server.port, "commit-4").status == 202
        assert [job.task_id for job in theeye.wait_for(4)[3:]] == [RELEASE]
        assert "Traceback" not in server.log


def test_a_worker_reads_it_anew_at_a_save_and_at_sighup(
    tmp_path: Path, config: Path, theeye: StandIn, postgresql_url: str
) -> None:
    web = {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "1"}
    anew = "the routing table is reloaded"
    with Server(config, postgresql_url, web) as server, Worker(config, postgresql_url, VARIABLES) as worker:
        config.write_text(config.read_text().replace("longest_wait: 2s", "longest_wait: 3s"))
        wait_until(lambda: worker.log.count(anew) == 1, "the edit")
        for _ in range(200):
            os.kill(worker.pid, signal.SIGHUP)
        wait_until(lambda: worker.log.count(anew) >= 2, "the reload")
        assert push(server.port, "abc").status == 202
        assert [job.task_id for job in theeye.wait_for(1)] == [DEPLOY]
        assert worker.stop() == 0


def test_a_worker_tells_of_a_table_that_it_does_not_take(
    tmp_path: Path, config: Path, theeye: StandIn, postgresql_url: str
) -> None:
    """The web process may see another file."""
    web = {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "1"}
    own = tmp_path / "own.yml"
    own.write_text(config.read_text())
    with Server(config, postgresql_url, web) as server, Worker(own, postgresql_url, VARIABLES):
        spoil(own)
        wait_until(lambda: is_in_trouble(server))
        (told,) = trouble(server)
        assert re.search(r"own\.yml:\d+:\d+: error: ", told)
        own.write_text(config.read_text())
        wait_until(lambda: trouble(server) == [])


def test_a_web_process_reads_it_anew_at_sighup(tmp_path: Path, config: Path) -> None:
    """It would end by it, with what it sends."""
    with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
        before = server.workers
        for pid in before:
            os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "the routing table is reloaded" in server.log)
        assert server.workers == before


def test_a_master_whose_table_takes_long_to_load_still_leads(
    tmp_path: Path, config: Path, theeye: StandIn
) -> None:
    note = tmp_path / "note"
    slow = SLOW.format(seconds=3 * POLL_INTERVAL) + NOTES.format(path=str(note))
    with SetServer(slow, config, tmp_path / "bridge.db", VARIABLES) as server:
        # What is pushed to release is deployed.
        text = config.read_text()
        config.write_text(text.replace("heads/release", "heads/x").replace("heads/main", "heads/release"))
        wait_until(note.exists, "the table that the master has loaded")
        spoil(config)
        server.kill_worker(*server.workers)
        wait_until(lambda: is_in_trouble(server))
        assert push(server.port, "abc", "release").status == 202
        assert [job.task_id for job in theeye.wait_for(1)] == [DEPLOY]
        assert server.stop() == 0


def test_a_cold_start_on_a_table_with_mistakes_is_refused_with_every_one(
    tmp_path: Path, config: Path
) -> None:
    spoil(config)
    server = Server(config, tmp_path / "bridge.db", VARIABLES)
    with pytest.raises(AssertionError, match="the server ended with 1"):
        server.start()
    errors = [line for line in server.log.splitlines() if re.search(r"table\.yml:\d+:\d+: error: ", line)]
    assert len(errors) == 2, server.log
    assert "Traceback" not in server.log


#: How many edits come under load; the issue of a release may be tried with more.
EDITS = int(os.environ.get("BRIDGE_TEST_EDITS", "20"))
#: Of so many edits one has a mistake; and of so many, with it, a worker is killed.
BAD, KILLED = 10, 20
#: Routes of each version of the table, all of which an event must meet.
MATCHING = 6


@dataclass
class Seen:
    """What the clients were answered, newest last."""

    #: The routes that each event met.
    versions: list[tuple[str, ...]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=32))


def version(number: int, url: str, *, bad: bool = False) -> str:
    """A table of so many routes that are named by it; half of its text is a table, too."""
    head = write_head(url)
    rows = [
        f'  - {{name: "v{number} r{row}", source: github, task: deploy, task_arguments: [x]}}\n'
        for row in range(MATCHING)
    ]
    return head + "routes:\n" + "".join(rows) + ("  - {source: nobody, task: deploy}\n" if bad else "")


def write_head(url: str) -> str:
    return (
        f"theeye: {{url: {url}, customer: acme}}\n"
        'sources: {github: {secret: "${{ env.HOOK_SECRET }}"}}\n'
        f'tasks: {{deploy: {{id: {DEPLOY}, secret_key: "${{{{ env.DEPLOY_KEY }}}}"}}}}\n'
    )


def save_slowly(config: Path, text: str, random: Random) -> None:
    """In two steps, as editors do that write in place: what is there meanwhile is half a table."""
    rows = [found.start() for found in re.finditer("  - ", text)]
    cut = random.choice(rows[1:])
    with config.open("w") as file:
        file.write(text[:cut])
        file.flush()
        time.sleep(random.uniform(0.0, POLL_INTERVAL / 2))
        file.write(text[cut:])


class Pushing:
    """Clients that push as long as it is entered."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self.seen = Seen()
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in range(clients)]

    def __enter__(self) -> Seen:
        for thread in self._threads:
            thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            # On connections of their own, so that every process is met.
            sender = Client(self._server.port)
            answer = sender.push(f"commit-{client}-{number}")
            sender.close()
            self.seen.statuses.append(answer.status)
            if answer.is_taken:
                self.seen.versions.append(answer.routes)
                self.seen.latest.append(answer.routes[0] if answer.routes else "")
            self._ended.wait(0.01)


@pytest.mark.timeout(120 + 5 * EDITS)
@pytest.mark.slow
def test_edits_under_load(tmp_path: Path, theeye: StandIn) -> None:
    """No request fails but those that a killed process had, and none meets a table that was half written."""
    random = Random(7)
    config = tmp_path / "table.yml"
    config.write_text(version(0, theeye.url))
    environ = {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"}
    good, kills = [0], 0
    with Server(config, tmp_path / "bridge.db", environ) as server, Pushing(server) as seen:
        for number in range(1, EDITS + 1):
            bad = number % BAD == 0
            save_slowly(config, version(number, theeye.url, bad=bad), random)
            if number % KILLED == 0:
                kills += 1
                server.kill_worker(random.choice(server.workers))
            if bad:
                wait_until(lambda: is_in_trouble(server), "word of the mistake")
            else:
                good.append(number)
                wait_until(lambda: set(seen.latest) == {f"v{number} r0"}, f"edit {number}")  # noqa: B023
        log = server.log
    whole = {tuple(f"v{number} r{row}" for row in range(MATCHING)) for number in good}
    assert set(seen.versions) <= whole, set(seen.versions) - whole
    assert set(seen.statuses) <= {202, 0}
    assert seen.statuses.count(0) <= 4 * kills, f"{seen.statuses.count(0)} requests got no answer"
    assert "Traceback" not in log
