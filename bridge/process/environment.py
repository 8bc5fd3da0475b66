"""Environment: variables for the routing table and secrets, also from files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.core.errors import SettingsError

#: The largest file that a ``NAME_FILE`` may name.
MAX_SECRET_FILE_BYTES = 64 * 1024


class Environment(Mapping[str, str]):
    """Maps ``NAME`` to its value, or else to the text of the file that ``NAME_FILE`` names.

    An empty variable counts as unset. One newline at the end of a file is removed. Raises SettingsError if
    the file cannot be read, without the file's name: it may be a secret in the wrong variable.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        #: The files that were requested so far, whether they exist or not.
        self.files: frozenset[Path] = frozenset()
        #: The variables that were requested so far, whether they are set or not.
        self.requested: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> str:
        self.requested |= {name}
        value = self._environ.get(name, "")
        if not value and (path := self._environ.get(f"{name}_FILE", "")):
            self.files |= {Path(path)}
            try:
                value = _read_secret_file(path)
            except (OSError, ValueError) as error:
                problem = str(error)
                if isinstance(error, OSError):
                    problem = f"cannot be read: {error.strerror}"
                elif isinstance(error, UnicodeDecodeError):
                    problem = "is not UTF-8 text"
                raise SettingsError(f"the file that {name}_FILE names {problem}") from None
            value = value.removesuffix("\r\n") if value.endswith("\r\n") else value.removesuffix("\n")
        if not value:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self._environ.items() if value)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _read_secret_file(path: str) -> str:
    """Return the text of a regular file, or of a link to one, as Kubernetes mounts secrets.

    Raises OSError, UnicodeDecodeError, or ValueError if it is too large or not a regular file.
    """
    # Without O_NONBLOCK, opening a named pipe blocks until another process writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_SECRET_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_SECRET_FILE_BYTES // 1024} KiB")
    return content.decode()
