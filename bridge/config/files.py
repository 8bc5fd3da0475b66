"""The files of the routing table, and a fingerprint that shows edits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

#: The name, inode, times and size of each file.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


def table_files(config: Path) -> list[Path]:
    """Return the files of a folder in order, or the one file if it exists. Raises OSError."""
    if not config.is_dir():
        return [config] if config.exists() else []
    return sorted(
        path
        for path in config.iterdir()
        if is_table_file(path)
        # Reading a broken link reports it.
        and (path.is_file() or path.is_symlink())
    )


def is_table_file(path: Path) -> bool:
    """Return whether a file with this name belongs to the table."""
    return path.suffix in (".yml", ".yaml") and not path.name.startswith(".")


def fingerprint(config: Path, extra_files: Iterable[Path] = ()) -> Fingerprint:
    """Return a value that each edit of the table's files or of `extra_files` changes.

    A folder that cannot be read counts as empty.
    """
    try:
        paths = table_files(config)
    except OSError:
        paths = []
    return tuple(_of(path) for path in (*paths, *sorted(extra_files)))


def edited_at(files: Fingerprint) -> float:
    """Return the time of the last change, in seconds since the epoch; 0 without files."""
    return max((max(mtime, ctime) / 1e9 for _, _, mtime, ctime, _ in files), default=0.0)


def _of(path: Path) -> tuple[str, int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
