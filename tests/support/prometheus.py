"""The real Prometheus in a process of its own, and promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.support.server import free_port

#: Seconds that a start, a stop or an answer may take on a slow machine.
PATIENCE = 60.0


def is_installed() -> bool:
    return all(map(shutil.which, ("prometheus", "promtool")))


def promtool(*arguments: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder, with this standard input."""
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, input=given, check=False, capture_output=True, text=True
    )


class Prometheus:
    """Prometheus on a free port of this machine only, with its storage in `folder`.

    As a context manager it is running inside, and gone afterwards however the test went.
    """

    def __init__(self, config: str, folder: Path) -> None:
        """`config` is the YAML of its file."""
        self._log = folder / "prometheus.log"
        file = folder / "prometheus.yml"
        file.write_text(config)
        self._port = free_port()
        self._command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now, each with `metric` and `value`. Raises HTTPError for a mistake."""
        found: list[dict[str, Any]] = self._get(f"query?query={quote(expression)}")["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        """The targets, each with its `health` and `lastError`."""
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or fire, each with its `labels` and `state`."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def _get(self, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            found: dict[str, Any] = json.load(response)["data"]
        return found

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            log = self._log.read_text("utf-8", "replace")
            assert process.poll() is None, f"Prometheus ended with {process.returncode}\n{log}"
            if "Server is ready to receive web requests" in log:
                return
            time.sleep(0.02)
        raise AssertionError(f"it is not ready within {PATIENCE:.0f} s\n{log}")

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._process = None
