"""The targets: what receives the webhooks, each with a sink of its own."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.plain import SECRET
from bench.processes import Process, StartFailed, free_port
from bench.sink import Sink

HERE = Path(__file__).parent
ROOT = HERE.parent

#: The routing table of the bridge: one source, one route, three arguments.
TABLE = """\
theeye: {{customer: bench, url: "{sink}"}}
sources:
  github: {{secret: "${{{{ env.GITHUB_SECRET }}}}"}}
routes:
  - source: github
    event: push
    match: {{payload.ref: refs/heads/master}}
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{{{ env.TASK_KEY }}}}
    task_arguments:
      - ${{{{ payload.ref }}}}
      - ${{{{ payload.after }}}}
      - ${{{{ payload.repository.full_name }}}}
"""


class Target:
    """A receiver of webhooks at `url`/hooks/github; `start` starts its processes, `stop` ends them."""

    #: Of the command line and the report.
    name: str
    title: str
    #: Whether each accepted webhook becomes a job at the sink.
    delivers = True

    def __init__(self, folder: Path) -> None:
        """`folder` is for its data and its logs."""
        self.folder = folder
        self.port = free_port()
        self.sink = Sink(self.name, folder)
        self._processes: list[Process] = []

    @property
    def url(self) -> str:
        """The URL without the path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The processes that were started; their children belong to them."""
        return [process.pid for process in self._processes]

    @property
    def server_pids(self) -> list[int]:
        """The processes of its database server."""
        return []

    def version(self) -> str:
        """Return its version for the report."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, after its sink, and wait until it answers. Raises StartFailed."""
        self.sink.start()

    def stop(self) -> None:
        """End it and its sink, also after a start that failed."""
        for process in reversed(self._processes):
            process.stop()
        self.sink.stop()

    def run(self, name: str, command: list[str], cwd: Path, environ: Mapping[str, str]) -> Process:
        """Start one of its processes."""
        process = Process(name, command, self.folder, cwd, environ)
        self._processes.append(process)
        return process


class BareFlask(Target):
    """plain.py under gunicorn: checks the signature, reads the JSON, stores and delivers nothing."""

    name = "flask"
    title = "bare Flask"
    delivers = False

    def version(self) -> str:
        return f"Flask {importlib.metadata.version('flask')}, {_gunicorn()}"

    def start(self) -> None:
        super().start()
        options = ["-b", f"127.0.0.1:{self.port}", "-k", "gthread", "-w1", "--threads", "8"]
        command = [sys.executable, "-m", "gunicorn", *options, "plain:app"]
        self.run(self.name, command, HERE, {}).wait_for_port(self.port)


class SQLiteBridge(Target):
    """The bridge on SQLite: one web process, which also delivers."""

    name = "sqlite"
    title = "bridge, SQLite"

    def version(self) -> str:
        return f"commit {commit_of(self.checkout)}, {_gunicorn()}"

    @property
    def checkout(self) -> Path:
        """The folder with the code that runs."""
        return ROOT

    def start(self) -> None:
        super().start()
        self.start_web()

    def start_web(self) -> None:
        """Start the web process."""
        web = self.run_bridge("web", "serve", "--bind", "127.0.0.1", "--port", str(self.port))
        web.wait_for_page(self.port, "/healthz")

    def run_bridge(self, name: str, *command: str) -> Process:
        """Start a command of the bridge with the routing table and the settings of this target."""
        table = self.folder / f"{self.name}.yml"
        table.write_text(TABLE.format(sink=self.sink.url))
        return self.run(
            f"{self.name}-{name}",
            [sys.executable, "-m", "bridge", *command],
            self.checkout,
            {
                "BRIDGE_CONFIG": str(table),
                "DATABASE_URL": self.database_url,
                "BRIDGE_DELIVER": "true" if self.web_delivers else "false",
                "BRIDGE_STOP_TIMEOUT": "5s",
                "WEB_CONCURRENCY": "1",
                "GITHUB_SECRET": SECRET.decode(),
                "TASK_KEY": "k" * 64,
            },
        )

    @property
    def web_delivers(self) -> bool:
        """Whether the web process delivers."""
        return self.delivers

    @property
    def database_url(self) -> str:
        """The database of this target alone."""
        return f"sqlite:///{self.folder / self.name}.db"


class SQLiteBridgeWithoutDelivery(SQLiteBridge):
    """The same, with delivery off."""

    name = "sqlite-off"
    title = "bridge, SQLite, delivery off"
    delivers = False


class BaseBridge(SQLiteBridge):
    """The bridge of an earlier commit on SQLite, with the installed packages of today's."""

    name = "base"
    title = "earlier bridge, SQLite"

    def __init__(self, folder: Path, commit: str) -> None:
        super().__init__(folder)
        self._commit = commit

    @property
    def checkout(self) -> Path:
        return self.folder / f"{self.name}-checkout"

    def start(self) -> None:
        _git("worktree", "add", "--detach", str(self.checkout), self._commit)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self.checkout.exists():
            _git("worktree", "remove", "--force", str(self.checkout))


class BaseBridgeWithoutDelivery(BaseBridge):
    """The same, with delivery off."""

    name = "base-off"
    title = "earlier bridge, SQLite, delivery off"
    delivers = False


def make_targets(folder: Path, base: str) -> list[Target]:
    """Return all targets, in the order of the report; `base` is the commit of the earlier bridge."""
    return [
        BareFlask(folder),
        SQLiteBridge(folder),
        SQLiteBridgeWithoutDelivery(folder),
        BaseBridge(folder, base),
        BaseBridgeWithoutDelivery(folder, base),
    ]


def commit_of(checkout: Path) -> str:
    """Return the short name of a checkout's commit or its tag, and whether files differ from it."""
    return _git("-C", str(checkout), "describe", "--always", "--tags", "--dirty")


def _git(*arguments: str) -> str:
    """Return the output. Raises StartFailed."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise StartFailed(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _gunicorn() -> str:
    return f"gunicorn {importlib.metadata.version('gunicorn')}"
