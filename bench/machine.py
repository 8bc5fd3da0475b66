"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from pathlib import Path


def machine() -> str:
    """Return the machine and its system."""
    return f"{os.cpu_count()} cores, {_cpu_model()}, {_memory()}, {_system()}"


def tools() -> str:
    """Return the versions of the programs that all targets share."""
    wrk = _first(r"[0-9][^ ]*", _output("wrk", "--version"))
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{versions}, Node.js {_output('node', '--version')}, wrk {wrk}"


def _cpu_model() -> str:
    return _first(r"(?m)(?<=^model name\t: ).*", Path("/proc/cpuinfo").read_text()) or platform.machine()


def _memory() -> str:
    kilobytes = int(_first(r"(?<=MemTotal:)\s*\d+", Path("/proc/meminfo").read_text()))
    return f"{kilobytes / 1024**2:.0f} GiB"


def _system() -> str:
    return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"


def _output(*command: str) -> str:
    # wrk prints its version with status 1.
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[0].strip() if found else ""
