"""Programs that run as in a container or a unit: without root's rights, and where the root is read-only."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

#: Drops root's rights; root then has those of the owner of its files.
WITHOUT_RIGHTS = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups")
#: The user of the image.
NUMBER = 10001


@cache
def as_nobody() -> tuple[str, ...]:
    """What to write before a command: as root, it has no rights, and is NUMBER if that can run Python."""
    if os.getuid() != 0:
        return ()
    other = (*WITHOUT_RIGHTS, f"--reuid={NUMBER}", f"--regid={NUMBER}", "--")
    # The program that it starts has lost the right to pass a folder that is closed to others.
    program = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import bridge, gunicorn'])"
    command = [*other, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True)
    return other if done.returncode == 0 else (*WITHOUT_RIGHTS, "--")


def hand_over(*folders: Path) -> None:
    """Give folders to the user of `as_nobody`."""
    if f"--reuid={NUMBER}" in as_nobody():
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NUMBER, NUMBER)


def in_read_only_root(command: Sequence[str], *writable: Path) -> list[str]:
    """The command, for a root that is read-only but for these folders, /dev and other file systems.

    It needs the right to mount.
    """
    mounts = "".join(f"mount --bind {shlex.quote(str(each))} {shlex.quote(str(each))}\n" for each in writable)
    script = f'{mounts}mount -o remount,bind,ro /\nexec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *as_nobody(), *command]


@cache
def may_mount() -> bool:
    """Whether this machine lets the tests mount."""
    done = subprocess.run(in_read_only_root(["true"]), check=False, capture_output=True)
    return done.returncode == 0
