"""Run a command for the demo, and end it with the demo, even if SIGKILL ends the demo.

``python -m bridge.demo.guard FOLDER COMMAND…``. Standard input is a pipe from the demo: the
system closes it when the demo ends in any way. If the demo writes STOP first, it removes FOLDER itself;
otherwise the guard removes it.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys

#: The demo writes it to the pipe to end the command.
STOP = b"stop"
#: The longest time for the command to end, in seconds: more than the default of BRIDGE_STOP_TIMEOUT.
ENDS_WITHIN = 25.0
#: The time between two checks of the command, in seconds.
LOOKS = 0.1


def main(folder: str, command: list[str]) -> int:
    """Run `command` until it ends, by itself or with the demo; return its exit status."""
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
