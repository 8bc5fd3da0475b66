"""A process that looks for silences: ``python -m tests.support.alert_silence GATE URL TABLE KILL``.

It writes ``ready``, waits until GATE exists, and writes how many jobs of on_silence it has created. With KILL
it is killed in the unit of work that creates the first, before the commit.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from bridge.config.load import load
from bridge.outbox import job_storage
from bridge.outbox.store import Outbox
from bridge.sources.base.discovery import discover


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(gate: str, url: str, config: str, kill: str = "") -> None:
    table = load(Path(config), {"TASK_KEY": "k1" * 32}, discover()).table
    outbox = Outbox(url)
    outbox.expectations.use(table.expectations)
    if kill:
        job_storage.insert_jobs = _die  # type: ignore[assignment]  # it does not return
    print("ready", flush=True)
    while not Path(gate).exists():
        time.sleep(0.001)
    print(len(outbox.expectations.alert(table.on_silence)), flush=True)
    outbox.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
