"""The targets: what receives the webhooks, each with its own sink."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.plain import SECRET
from bench.processes import Process, StartFailed, free_port
from bench.sink import Sink
from tests.support.postgresql import Cluster, find_programs

HERE = Path(__file__).parent
ROOT = HERE.parent
NODE_RED = HERE / "node_modules" / "node-red"

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

    #: The name on the command line, and the one in the report.
    name: str
    title: str
    #: Whether each accepted webhook becomes a job at the sink.
    delivers = True
    #: Webhooks before the first round.
    warm_up = 200

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
    #: Web processes; on PostgreSQL also workers.
    processes = 1

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
                "WEB_CONCURRENCY": str(self.processes),
                "GITHUB_SECRET": SECRET.decode(),
                "TASK_KEY": "k1" * 32,
            },
        )

    @property
    def web_delivers(self) -> bool:
        """Whether the web process delivers, if any process does."""
        return self.delivers

    @property
    def database_url(self) -> str:
        """The database, which no other target uses."""
        return f"sqlite:///{self.folder / self.name}.db"


class SQLiteBridgeWithoutDelivery(SQLiteBridge):
    """The same, with delivery off."""

    name = "sqlite-off"
    title = "bridge, SQLite, delivery off"
    delivers = False


class PostgreSQLBridge(SQLiteBridge):
    """The bridge on its own PostgreSQL server: web processes, and as many workers, which deliver."""

    name = "postgresql"
    title = "bridge, PostgreSQL"
    web_delivers = False

    def __init__(self, folder: Path, processes: int = 1) -> None:
        super().__init__(folder)
        self.processes = processes
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    def version(self) -> str:
        postgres = find_programs()
        server = postgres and _output(str(postgres / "postgres"), "--version")
        return f"{super().version()}, {server}"

    def start(self) -> None:
        try:
            self._cluster = self._stack.enter_context(Cluster())
        except FileNotFoundError as error:
            raise StartFailed(f"PostgreSQL is missing: {error}") from None
        self._database_url = self._cluster.create_database()
        super().start()
        for number in range(self.processes if self.delivers else 0):
            self.run_bridge(f"worker-{number + 1}", "worker").wait_for_output('"message":"delivering"')

    def stop(self) -> None:
        super().stop()
        self._stack.close()

    @property
    def server_pids(self) -> list[int]:
        return [] if self._cluster is None else [self._cluster.pid]

    @property
    def database_url(self) -> str:
        return self._database_url


class PostgreSQLBridgeWithoutDelivery(PostgreSQLBridge):
    """The same, with delivery off."""

    name = "postgresql-off"
    title = "bridge, PostgreSQL, delivery off"
    delivers = False


class BaseBridge(SQLiteBridge):
    """The bridge of an earlier commit on SQLite, with the packages that are installed for today's."""

    name = "base"

    def __init__(self, folder: Path, commit: str) -> None:
        super().__init__(folder)
        self._commit = commit
        self.title = f"bridge of {commit}, SQLite" + ("" if self.delivers else ", delivery off")

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
    delivers = False


class NodeRed(Target):
    """Node-RED with node_red/flows.json: checks the signature, answers, and sends the job."""

    name = "node-red"
    title = "Node-RED"
    # V8 compiles what runs often: the CPU per webhook falls to less than half until here.
    warm_up = 3000

    def version(self) -> str:
        return str(json.loads((NODE_RED / "package.json").read_text())["version"])

    def start(self) -> None:
        if not NODE_RED.exists():
            raise StartFailed("Node-RED is missing: npm install --prefix bench")
        super().start()
        flows = json.loads((HERE / "node_red" / "flows.json").read_text())
        for node in flows:
            if node["type"] == "function":
                node["func"] = (HERE / "node_red" / "verify.js").read_text()
        data = self.folder / self.name
        data.mkdir()
        (data / "flows.json").write_text(json.dumps(flows))
        settings = HERE / "node_red" / "settings.js"
        command = ["node", str(NODE_RED / "red.js"), "-s", str(settings), "-u", str(data), "flows.json"]
        environ = {"PORT": str(self.port), "SINK_URL": self.sink.url, "GITHUB_SECRET": SECRET.decode()}
        self.run(self.name, command, HERE, environ).wait_for_port(self.port)


class DebianWebhook(Target):
    """Debian's `webhook` with webhook.json: checks the signature, answers, and runs curl."""

    name = "webhook"
    title = "Debian's webhook"

    def version(self) -> str:
        curl = re.sub(r" \(.*", "", _output("curl", "--version").splitlines()[0])
        return f"{_output('webhook', '-version')}, {curl}"

    def start(self) -> None:
        curl = shutil.which("curl")
        if curl is None or shutil.which("webhook") is None:
            raise StartFailed("webhook or curl is missing: apt-get install webhook curl")
        super().start()
        hooks = ["-hooks", str(HERE / "webhook.json"), "-template"]
        command = ["webhook", *hooks, "-ip", "127.0.0.1", "-port", str(self.port)]
        environ = {"SINK_URL": self.sink.url, "GITHUB_SECRET": SECRET.decode(), "CURL": curl}
        self.run(self.name, command, HERE, environ).wait_for_port(self.port)


def make_targets(folder: Path, base: str) -> list[Target]:
    """Return all targets, in the order of the report; `base` is the commit of the earlier bridge."""
    return [
        BareFlask(folder),
        SQLiteBridge(folder),
        SQLiteBridgeWithoutDelivery(folder),
        PostgreSQLBridge(folder),
        PostgreSQLBridgeWithoutDelivery(folder),
        BaseBridge(folder, base),
        BaseBridgeWithoutDelivery(folder, base),
        NodeRed(folder),
        DebianWebhook(folder),
    ]


def commit_of(checkout: Path) -> str:
    """Return the short name of a checkout's commit or its tag, and whether files differ from it."""
    return _git("-C", str(checkout), "describe", "--always", "--tags", "--dirty")


def _git(*arguments: str) -> str:
    return _output("git", *arguments)


def _output(*command: str) -> str:
    """Return what a command writes. Raises StartFailed."""
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise StartFailed(f"{command[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def _gunicorn() -> str:
    return f"gunicorn {importlib.metadata.version('gunicorn')}"
