"""Which files the routing table is, and whether they are as they were."""

from __future__ import annotations

from pathlib import Path

#: What cannot be told apart is the same: of each file its name, inode, times and size.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


def files(config: Path) -> list[Path]:
    """The files of a folder in their order, or the one file; those that are not there are left out.

    Raises OSError.
    """
    if not config.is_dir():
        return [config] if config.exists() else []
    return sorted(
        path
        for path in config.iterdir()
        if path.suffix in (".yml", ".yaml")
        and not path.name.startswith(".")
        # A link that leads nowhere is reported when it is read.
        and (path.is_file() or path.is_symlink())
    )


def fingerprint(config: Path) -> Fingerprint:
    """What a save changes. Where the files cannot be looked at, it is that of a table without any."""
    try:
        return tuple(_of(path) for path in files(config))
    except OSError:
        return ()


def edited_at(config: Path) -> float:
    """When the last of them was changed, seconds since the epoch by the file system; 0 where none is."""
    return max((max(mtime, ctime) / 1e9 for _, _, mtime, ctime, _ in fingerprint(config)), default=0.0)


def _of(path: Path) -> tuple[str, int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
