"""The systemd unit: systemd's own checks, and its commands with the environment that it describes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.core.units import parse_duration
from bridge.process.settings import Settings
from tests.conftest import lacks
from tests.support.documents import code_blocks
from tests.support.pushes import push, write_table
from tests.support.server import CHECKOUT, Server
from tests.support.tables import wait_until
from tests.support.theeye import StandIn
from tests.support.unprivileged import as_nobody, hand_over

UNIT = CHECKOUT / "docs" / "systemd" / "theeye-bridge.service"
PROGRAM = "/opt/theeye-bridge/bin/theeye-bridge"
#: systemd's figure from 0.0 (no exposure) to 10.0.
MAX_EXPOSURE = 1.5


def settings(name: str) -> list[str]:
    """The values of a setting, in their order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def setting(name: str) -> str:
    (value,) = settings(name)
    return value


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that this machine has."""
    if shutil.which("systemd-analyze") is None:
        lacks("systemd")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    return path


def test_systemd_finds_no_mistake(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", installed], check=False, capture_output=True, text=True
    )
    about = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, about) == (0, [])


def test_systemd_finds_no_mistake_in_the_documented_change(installed: Path) -> None:
    (change,) = code_blocks("docs/how-to/systemd.md", "ini")
    folder = installed.with_name(f"{UNIT.name}.d")
    folder.mkdir()
    (folder / "override.conf").write_text(change)
    done = subprocess.run(
        ["systemd-analyze", "verify", installed], check=False, capture_output=True, text=True
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "override" in line]) == (0, [])


def test_its_exposure_is_small(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE * 10:.0f}"]
    done = subprocess.run([*command, installed], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]
    assert "Overall exposure level" in done.stdout


def test_a_stop_ends_before_systemd_kills() -> None:
    assert parse_duration(f"{setting('TimeoutStopSec')}s") > Settings.from_environ({}).stop_timeout + 5
    assert setting("KillMode") == "mixed"  # the server stops its own processes


def test_each_secret_is_a_credential() -> None:
    variables = [line for line in settings("Environment") if "_FILE=" in line]
    named = {line.partition("_FILE=")[0].lower(): line.partition("=")[2] for line in variables}
    assert named == {
        each.partition(":")[0]: f"%d/{each.partition(':')[0]}" for each in settings("LoadCredential")
    }
    table = (CHECKOUT / "config" / "routes.yml").read_text()
    assert {name.upper() for name in named} == set(re.findall(r"env\.(\w+)", table))


# Its commands


class Unit(Server):
    """What systemd starts, as another user where that can run Python, with the folders that it makes."""

    may_fork = False

    def __init__(self, home: Path, table: str) -> None:
        state, credentials = home / "lib" / setting("StateDirectory"), home / "credentials"
        state.mkdir(parents=True, mode=int(setting("StateDirectoryMode"), 8))
        credentials.mkdir(mode=0o700)
        (home / "etc" / "config").mkdir(parents=True)
        (home / "etc" / "config" / "routes.yml").write_text(table)
        for name in (each.partition(":")[0] for each in settings("LoadCredential")):
            (credentials / name).write_text({"github_secret": SECRET, "github_task_key": KEY}[name])
            (credentials / name).chmod(0o400)
        hand_over(state, credentials)
        places = {"%S": str(home / "lib"), "%d": str(credentials), "/etc/theeye-bridge": str(home / "etc")}
        environ = {}
        for line in settings("Environment"):
            name, _, value = line.partition("=")
            for place, folder in places.items():
                value = value.replace(place, folder)
            environ[name] = value
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(home / "notify"))
        self._socket.setblocking(False)
        hand_over(home / "notify")
        environ["NOTIFY_SOCKET"] = str(home / "notify")
        super().__init__(home / "etc" / "config", environ["DATABASE_URL"], environ)
        self._environ["PORT"] = str(self.port)

    def _command(self) -> list[str]:
        program, *arguments = setting("ExecStart").split()
        assert program == PROGRAM
        return [*as_nobody(), sys.executable, "-m", "bridge", *arguments]

    @property
    def notices(self) -> str:
        """What it has said to systemd since the last call."""
        try:
            return self._socket.recv(4096).decode()
        except BlockingIOError:
            return ""

    def kill(self) -> None:
        super().kill()
        self._socket.close()

    def reload(self) -> None:
        """As ExecReload says."""
        command = setting("ExecReload").replace("$MAINPID", str(self.pid))
        subprocess.run(command.split(), check=True)


SECRET, KEY = "pushes-webhook-secret", "d1" * 32


def test_its_commands_start_reload_and_stop_the_bridge(home: Path, theeye: StandIn) -> None:
    table = write_table(home, theeye.url).read_text()
    for name, variable in (("HOOK_SECRET", "GITHUB_SECRET"), ("DEPLOY_KEY", "GITHUB_TASK_KEY")):
        table = table.replace(name, variable)
    table = table.replace("RELEASE_KEY", "GITHUB_TASK_KEY")
    with Unit(home, table) as unit:
        wait_until(lambda: "READY=1" in unit.notices, "the notice that it is ready")
        assert push(unit.port, "one").status == 202
        assert [job.values for job in theeye.wait_for(1)] == [("one",)]
        before = unit.workers
        unit.reload()
        wait_until(lambda: unit.workers and not set(unit.workers) & set(before), "another process")
        wait_until(lambda: push(unit.port, "two").status == 202)
        assert unit.stop(signal.SIGTERM) == 0
        database = home / "lib" / "theeye-bridge" / "bridge.db"
        assert database.stat().st_mode & 0o777 == 0o600
        assert os.access(database, os.R_OK)
