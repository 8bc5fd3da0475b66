"""The real Alertmanager in a process of its own, for tests that need to see what it sends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

#: Seconds that a start, a stop or an answer may take on a slow machine.
PATIENCE = 60.0

#: Debian's name, and that of Prometheus' own release.
PROGRAMS = ("prometheus-alertmanager", "alertmanager")


def find_program() -> str | None:
    """Its path, where PATH has it."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Alertmanager:
    """Alertmanager on a free port of this machine only, alone, with its storage in `folder`.

    As a context manager it is running inside, and gone afterwards however the test went.
    """

    def __init__(self, config: str, folder: Path) -> None:
        """`config` is the YAML of its file. Raises FileNotFoundError where the machine has none."""
        program = find_program()
        if program is None:
            raise FileNotFoundError(f"no {' or '.join(PROGRAMS)} on PATH")
        self._log = folder / "alertmanager.log"
        file = folder / "alertmanager.yml"
        file.write_text(config)
        self._command = [
            program,
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def __enter__(self) -> Alertmanager:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._url = self._wait_until_it_listens(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def log(self) -> str:
        """Everything that it wrote."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def fire(self, *alerts: Mapping[str, str]) -> None:
        """Alerts begin; each is its labels."""
        self._post([{"labels": dict(labels)} for labels in alerts])

    def resolve(self, *alerts: Mapping[str, str]) -> None:
        """Alerts that were fired end now."""
        now = datetime.now(UTC).isoformat()
        self._post([{"labels": dict(labels), "endsAt": now} for labels in alerts])

    def _post(self, alerts: list[dict[str, object]]) -> None:
        """https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, postAlerts."""
        request = urllib.request.Request(
            f"{self._url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 200

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> str:
        """Its URL; it listens only when its file is read and its parts run.

        Raises AssertionError with its log where it ends first.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"Alertmanager ended with {process.returncode}\n{self.log}")
            if listening := re.search(r'msg="Listening on" address=([\d.]+:\d+)', self.log):
                return f"http://{listening[1]}"
            time.sleep(0.02)
        raise AssertionError(f"it does not listen within {PATIENCE:.0f} s\n{self.log}")

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
