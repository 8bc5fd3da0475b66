"""The real Prometheus in a process of its own, and promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.daemon import PATIENCE, Daemon, free_port


def is_installed() -> bool:
    return all(map(shutil.which, ("prometheus", "promtool")))


def promtool(*arguments: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder, with this standard input."""
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, input=given, check=False, capture_output=True, text=True
    )


class Prometheus(Daemon):
    """Prometheus on a free port of this machine only, with its storage in `folder`."""

    def __init__(self, config: str, folder: Path) -> None:
        """`config` is the YAML of its file."""
        super().__init__(folder / "prometheus.log")
        self._folder, self._port = folder, free_port(self)
        (folder / "prometheus.yml").write_text(config)

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

    def _command(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]

    def _works(self) -> bool:
        return "Server is ready to receive web requests" in self._log_of_this_start
