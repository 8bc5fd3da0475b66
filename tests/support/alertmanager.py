"""The real Alertmanager in a separate process, for tests that need to see what it sends."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.support.daemon import PATIENCE, Daemon, require_program

#: Debian's name, and that of Prometheus' own release.
PROGRAMS = ("prometheus-alertmanager", "alertmanager")


class Alertmanager(Daemon):
    """Alertmanager on a free port of this machine only, alone, with its storage in `folder`."""

    def __init__(self, config: str, folder: Path) -> None:
        """`config` is the YAML of its file. Raises FileNotFoundError where the machine has none."""
        super().__init__(folder / "alertmanager.log")
        self._program, self._folder, self._url = require_program(*PROGRAMS), folder, ""
        (folder / "alertmanager.yml").write_text(config)

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

    def _command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]

    def _works(self) -> bool:
        # It listens only when its file is read and its parts run.
        listening = re.search(r'msg="Listening on" address=([\d.]+:\d+)', self._log_of_this_start)
        self._url = f"http://{listening[1]}" if listening else ""
        return listening is not None
