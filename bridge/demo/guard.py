"""Runs a command for the demo and ends it with the demo, also where the demo is killed with SIGKILL.

``python -m bridge.demo.guard FOLDER COMMAND…``. Standard input is a pipe whose other end only the demo holds:
the system closes it when the demo ends, however that came about. With STOP in the pipe the demo clears up
itself; without, nobody else is left to remove FOLDER.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys

#: What the demo writes into the pipe to end the command.
STOP = b"stop"
#: How long the command may take to end, seconds: longer than BRIDGE_STOP_TIMEOUT's default.
ENDS_WITHIN = 25.0
#: How often the command is looked at, seconds.
LOOKS = 0.1


def main(folder: str, command: list[str]) -> int:
    """Run `command` until it ends by itself, or has to; its status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the demo's own
    while process.poll() is None:
        if not select.select([sys.stdin], [], [], LOOKS)[0]:
            continue
        is_demo_gone = os.read(sys.stdin.fileno(), len(STOP)) != STOP
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
        if is_demo_gone:
            shutil.rmtree(folder, ignore_errors=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
