"""A wall clock that tests move, for processes that they start."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path


def find_compiler() -> str | None:
    """The path of a C compiler."""
    return shutil.which("cc")


class WallClock:
    """The wall clock of the processes that are started with `environ`."""

    def __init__(self, folder: Path) -> None:
        library, self._file = folder / "clock.so", folder / "offset"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("l", 0))
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._file)}

    def move(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the real time."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("l", seconds))
