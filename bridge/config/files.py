"""Which files the routing table is, and whether they are as they were."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

#: What cannot be told apart is the same: of each file its name, inode, times and size.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


def table_files(config: Path) -> list[Path]:
    """The files of a folder in their order, or the one file; those that are not there are left out.

    Raises OSError.
    """
    if not config.is_dir():
        return [config] if config.exists() else []
    return sorted(
        path
        for path in config.iterdir()
        if is_table_file(path)
        # A link that leads nowhere is reported when it is read.
        and (path.is_file() or path.is_symlink())
    )


def is_table_file(path: Path) -> bool:
    """Whether a file of this name in a table's folder is one of the table's."""
    return path.suffix in (".yml", ".yaml") and not path.name.startswith(".")


def fingerprint(config: Path, extra_files: Iterable[Path] = ()) -> Fingerprint:
    """What a save changes, of the table's files and of those `beside` them.

    Where a folder cannot be looked at, it has no files.
    """
    try:
        found = table_files(config)
    except OSError:
        found = []
    return tuple(_of(path) for path in (*found, *sorted(extra_files)))


def edited_at(found: Fingerprint) -> float:
    """When the last of the files was changed, seconds since the epoch by the file system; 0 where none is."""
    return max((max(mtime, ctime) / 1e9 for _, _, mtime, ctime, _ in found), default=0.0)


def _of(path: Path) -> tuple[str, int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
