"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copy

import pytest

from bridge.http import connection
from bridge.outbox import rates
from bridge.outbox.store import Outbox
from tests.support import alertmanager, octokit, postgresql
from tests.support.alertmanager import Alertmanager
from tests.support.certificates import one_authority
from tests.support.daemon import find_program
from tests.support.intake import Intake
from tests.support.octokit import Example, Octokit
from tests.support.postgresql import Cluster, StorePool
from tests.support.tables import Clock
from tests.support.terminal import Terminal

#: The senders' vectors and samples, where they are there: the project passes its tests without them.
SHARED = Path(os.environ.get("TESTS_SHARED", Path(__file__).parents[2] / "shared"))

#: Programs that some tests need and a machine may lack, by the names that TESTS_REQUIRED takes.
LACKING = {
    "postgresql": "no PostgreSQL on this machine (on Debian: apt-get install postgresql)",
    "alertmanager": "no Alertmanager on this machine (on Debian: apt-get install prometheus-alertmanager)",
    "prometheus": "no Prometheus on this machine (on Debian: apt-get install prometheus)",
    "nginx": "no nginx on this machine (on Debian: apt-get install nginx-light)",
    "pgbouncer": "no PgBouncer on this machine (on Debian: apt-get install pgbouncer)",
    "mount": "no file system may be mounted here (on Linux: as root)",
    "systemd": "no systemd-analyze on this machine (on Debian: apt-get install systemd)",
    "cc": "no C compiler on this machine (on Debian: apt-get install gcc libc6-dev)",
    "chromium": "no Chromium on this machine (on Debian: apt-get install chromium)",
    "axe": "no axe-core (with Node.js 20 or newer: npm install --prefix tests)",
    "octokit": "no Node.js with GitHub's library (with Node.js 20 or newer: npm install --prefix tests)",
}

#: Those without which the tests fail; without the others they are skipped.
REQUIRED = frozenset(filter(None, os.environ.get("TESTS_REQUIRED", "").split(",")))


def pytest_configure() -> None:
    unknown = REQUIRED - LACKING.keys()
    if unknown:
        names = ", ".join(sorted(unknown))
        raise pytest.UsageError(f"TESTS_REQUIRED names {names}; it takes {','.join(LACKING)}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow the variants that ``slow_unless`` leaves out."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        for node, mark in item.iter_markers_with_node("slow_unless"):
            if node is item and (unknown := mark.kwargs.keys() - params.keys()):
                raise pytest.UsageError(f"{item.nodeid}: slow_unless names no parameter {', '.join(unknown)}")
            for name, kept in mark.kwargs.items():
                if name in params and params[name] not in (kept if isinstance(kept, list) else [kept]):
                    item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests did not run for want of a program: a green run without them is not the whole."""
    reasons = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    for lacking in LACKING.values():
        skipped = sum(lacking in reason for reason in reasons)
        if skipped:
            terminalreporter.write_line(f"{lacking}: {skipped} skipped")


def lacks(program: str) -> None:
    """Skip the test, or fail it where the program is required."""
    if program in REQUIRED:
        pytest.fail(f"{LACKING[program]}, and TESTS_REQUIRED names {program}", pytrace=False)
    pytest.skip(LACKING[program])


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let clients that trust the public authorities trust one: each thread that sends reads the bundle."""
    bundle = one_authority(tmp_path_factory.mktemp("certificates"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "DEFAULT_CA_BUNDLE_PATH", str(bundle))
        yield


@pytest.fixture(scope="session")
def senders() -> Path:
    """The folder with vectors.json and samples of real senders; skips where there is none."""
    folder = SHARED / "senders"
    if not folder.is_dir():
        pytest.skip("no senders' samples beside the checkout")
    return folder


@pytest.fixture(scope="session")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without webhooks, to be copied: one that is brought up to date takes four times as long."""
    path = tmp_path_factory.mktemp("store") / "bridge.db"
    Outbox(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def postgresql_stores(postgresql_cluster: Cluster) -> StorePool:
    """The stores without webhooks that tests use one after the other."""
    original = postgresql_cluster.create_database()
    Outbox(original).close()
    return StorePool(postgresql_cluster, original)


@pytest.fixture
def postgresql_store(postgresql_stores: StorePool) -> Iterator[str]:
    """The URL of a store without webhooks, up to date."""
    url = postgresql_stores.acquire()
    yield url
    postgresql_stores.release(url)


@pytest.fixture
def make_intake(tmp_path: Path, sqlite_store: Path) -> Iterator[Callable[[str], Intake]]:
    """Makes the intake of one table, on a store in `tmp_path`."""
    made: list[Intake] = []
    copy(sqlite_store, tmp_path / "bridge.db")

    def make(text: str) -> Intake:
        made.append(Intake(text, tmp_path))
        return made[-1]

    yield make
    for intake in made:
        intake.close()


@pytest.fixture(scope="session")
def postgresql_programs() -> None:
    """For a test that makes a Cluster of its own, to kill or freeze it: skips where there can be none."""
    if postgresql.find_programs() is None:
        lacks("postgresql")


@pytest.fixture(scope="session")
def postgresql_cluster(postgresql_programs: None) -> Iterator[Cluster]:
    """The cluster that tests share; it starts with the first that needs it."""
    with Cluster(fsync=False) as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql_cluster: Cluster) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    url = postgresql_cluster.create_database()
    yield url
    postgresql_cluster.drop(url)


@pytest.fixture(scope="session")
def webhooks_methods() -> Octokit:
    """GitHub's own library; skips where there is none."""
    if not octokit.is_present():
        lacks("octokit")
    return Octokit()


@pytest.fixture(scope="session")
def webhook_examples() -> list[Example]:
    """The bodies that GitHub's own library shows; skips where they are not installed."""
    examples = octokit.examples()
    if not examples:
        lacks("octokit")
    return examples


@pytest.fixture
def make_alertmanager(tmp_path: Path) -> Iterator[Callable[[str], Alertmanager]]:
    """Starts the real Alertmanager with the YAML of its file; skips where there is none."""
    if find_program(*alertmanager.PROGRAMS) is None:
        lacks("alertmanager")
    with ExitStack() as running:
        yield lambda config: running.enter_context(Alertmanager(config, tmp_path))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bridge.db'}"
    of_server: str = request.getfixturevalue("postgresql_url")
    return of_server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, without webhooks."""
    if request.param == "sqlite":
        copy(request.getfixturevalue("sqlite_store"), tmp_path / "bridge.db")
        return f"sqlite:///{tmp_path / 'bridge.db'}"
    of_server: str = request.getfixturevalue("postgresql_store")
    return of_server


@pytest.fixture
def reopen(url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Outbox]]:
    """Opens the store once more, as another process would. Its time is the test's, on PostgreSQL too."""
    monkeypatch.setattr(rates, "store_time", lambda connection, here: here)
    opened: list[Outbox] = []

    def reopen() -> Outbox:
        opened.append(Outbox(url, clock=clock))
        return opened[-1]

    yield reopen
    for outbox in opened:
        outbox.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def outbox(reopen: Callable[[], Outbox]) -> Outbox:
    return reopen()
