"""``python -m bridge demo --once``: the whole path, as a newcomer sees it first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
import requests

from bridge.core.errors import DemoFailed
from bridge.demo import tour
from bridge.demo.guard import ENDS_WITHIN
from tests.support.tables import PATIENCE, wait_until
from tests.support.theeye import Fault, StandIn

ROOT = Path(__file__).parents[2]


def test_the_demo_shows_a_whole_delivery_and_ends_with_0() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--once"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for shown in (
        "authenticated by X-Hub-Signature-256",
        'The bridge answered 202 {"event":1,"jobs":[{"id":1,"route":"deploy main","task":"deploy"}]',
        "NO  payload.ref: expected \"refs/tags/v*\", got \"refs/heads/main\"",
        "sends: POST http://127.0.0.1:",
        "/job/secret/<secret>?customer=acme",
        "job 1: accepted",
        "TheEye's job ",
        "the task's script receives ['acme/api', 'main', '3b6e9a2d5f8c1047b3a6d9e2c5f80b1e4d7a0c36']",
        'NO  item.labels.severity: expected "critical", got "warning"',
        "the task's script receives ['DiskFull on db2:9100', '']",
        "Every step succeeded.",
    ):  # fmt: skip
        assert shown in done.stdout
    assert not re.search(r"/job/secret/[0-9a-f]", done.stdout)


def test_a_step_that_goes_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """TheEye refuses every job: the demo must not end well."""

    class Refusing(StandIn):
        def start(self) -> Self:
            self.fault(Fault(reset=True, method="POST"))
            return super().start()

    monkeypatch.setattr(tour, "StandIn", Refusing)
    monkeypatch.setattr(tour, "PATIENCE", 2.0)
    with pytest.raises(DemoFailed, match="expected job 1 to be accepted, got"):
        tour.run(lambda _line: None, once=True)


# What it offers at the end


def test_its_page_opens_with_the_password_of_this_run(tmp_path: Path) -> None:
    passwords = set()
    for number in range(2):
        with running(DEMO, tmp_path / f"temporary{number}") as process, requests.Session() as session:
            url = read_until(process, "  http://127.0.0.1:").strip()
            password = read_until(process, "  password: ").split()[-1]
            found = re.search(r'name="csrf_token" value="([^"]+)"', session.get(f"{url}sign-in").text)
            assert found is not None
            data = {"csrf_token": found[1], "password": password}
            session.post(f"{url}sign-in", data=data, headers={"Accept": "text/html"})
            text = session.get(f"{url}events", headers={"Accept": "text/html"}).text
            assert "3b6e9a2d5f8c1047b3a6d9e2c5f80b1e4d7a0c36" in text
            passwords.add(password)
    assert len(passwords) == 2


# Nothing is left running


DEMO = (sys.executable, "-m", "bridge", "demo")
#: What the Makefile runs, with this Python and without installing anything.
MAKE = ("make", "--old-file=.venv/.run", f"BIN={Path(sys.executable).parent}", "demo")

#: The guard gives its command ENDS_WITHIN to end, and a busy machine may need as long again.
END = 2 * ENDS_WITHIN

TERM, HUP, INT, KILL = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL


def processes(folder: Path) -> dict[int, str]:
    """The commands, by pid, of all that has this folder in its environment: the demo and what it starts."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if bytes(folder) in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def is_nothing_left(folder: Path) -> bool:
    """Whether every process has ended and every file is removed.

    Both at once: the environment of a process is empty for the moment in which it becomes another program.
    """
    return not processes(folder) and not any(folder.iterdir())


@contextmanager
def running(command: tuple[str, ...], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process group of its own, its temporary files in `folder`; nothing is left afterwards."""
    folder.mkdir()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in processes(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, KILL)
        process.communicate()


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """The next line with this text."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if wanted in line:
            return line
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(
    ("command", "end", "number", "status"),
    [
        pytest.param(DEMO, os.kill, TERM, 143, id="TERM"),
        pytest.param(DEMO, os.kill, INT, 0, marks=pytest.mark.slow, id="INT"),
        pytest.param(DEMO, os.kill, HUP, 129, marks=pytest.mark.slow, id="HUP"),
        pytest.param(DEMO, os.kill, KILL, -KILL, marks=pytest.mark.slow, id="KILL"),
        pytest.param(DEMO, os.killpg, TERM, 143, marks=pytest.mark.slow, id="TERM to its group"),
        pytest.param(DEMO, os.killpg, INT, 0, id="INT to its group"),
        pytest.param(DEMO, os.killpg, HUP, 129, marks=pytest.mark.slow, id="HUP to its group"),
        pytest.param(MAKE, os.kill, TERM, -TERM, marks=pytest.mark.slow, id="TERM to make"),
        pytest.param(MAKE, os.killpg, INT, None, marks=pytest.mark.slow, id="INT to make's group"),
        pytest.param(MAKE, os.killpg, HUP, None, marks=pytest.mark.slow, id="HUP to make's group"),
        pytest.param(MAKE, os.killpg, KILL, -KILL, id="KILL to make's group"),
    ],
)
def test_nothing_is_left_however_it_ends(
    tmp_path: Path,
    command: tuple[str, ...],
    end: Callable[[int, int], None],
    number: signal.Signals,
    status: int | None,
) -> None:
    """Ctrl-C is INT to the group, a closed terminal HUP to the group; the status says what ended it."""
    folder = tmp_path / "temporary"
    with running(command, folder) as process:
        read_until(process, "The demo runs until")
        started = processes(folder)
        assert sum("bridge.wsgi:app" in each for each in started.values()) >= 3, started
        end(process.pid, number)
        wait_until(lambda: is_nothing_left(folder), "the end of every process and file", END)
        assert status in (process.wait(PATIENCE), None)


@pytest.mark.parametrize("number", [TERM, HUP, KILL])
def test_nothing_is_left_where_it_ends_before_the_bridge_is_ready(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "temporary"
    with running(DEMO, folder) as process:
        wait_until(lambda: len(processes(folder)) > 1, "the first process that it starts")
        process.send_signal(number)
        wait_until(lambda: is_nothing_left(folder), "the end of every process and file", END)


def test_nothing_is_left_where_what_it_started_was_killed_before(tmp_path: Path) -> None:
    """One at a time; those that are left end with the demo."""
    folder = tmp_path / "temporary"
    for is_guard in (True, False):
        with running(DEMO, folder) as process:
            read_until(process, "The demo runs until")
            # The guard's own arguments end with gunicorn's.
            servers = {pid: each for pid, each in processes(folder).items() if "-m gunicorn" in each}
            pid = min(pid for pid, each in servers.items() if ("demo.guard" in each) is is_guard)
            os.kill(pid, KILL)
            process.terminate()
            wait_until(lambda: is_nothing_left(folder), "the end of every process and file", END)
        folder.rmdir()
