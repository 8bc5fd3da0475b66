"""The disk of an SQLite database, in containers whose disk is deleted at each restart or deploy."""

from __future__ import annotations

from pathlib import Path

from bridge.process.settings import Settings

#: Linux's list of mounts: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
MOUNTS = Path("/proc/self/mountinfo")
#: The container's own disk: the bridge is installed on it.
_CONTAINER = (Path("/"), Path("/tmp"), Path(__file__).resolve())  # noqa: S108 - nothing is created there


def disk_trouble(settings: Settings) -> str | None:
    """Return a text if the SQLite database is on a disk that is deleted with its container, or None."""
    variable, url = settings.disk_deleting, settings.database_url
    if variable is None or settings.persistent_disk or not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///")).resolve()
    # Cloud Run has volumes, but none that SQLite can use survives.
    if variable != "K_SERVICE" and _is_on_volume(path):
        return None
    return (
        f"the SQLite database {path} is on a disk that this platform deletes at each restart or deploy "
        f"({variable} is set): every stored webhook and every waiting job is then lost; "
        "set DATABASE_URL to a PostgreSQL database, or to an SQLite file on a persistent volume, such as "
        "sqlite:////data/bridge.db; if this disk is persistent, set BRIDGE_PERSISTENT_DISK=true"
    )


def _is_on_volume(path: Path) -> bool:
    """Return whether `path` is on another mount than the container, and not in memory."""
    try:
        lines = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    # The fifth field is the mount point, with \040 for a blank. The type follows the field "-".
    fields = [(line.split()[4].replace(r"\040", " "), line.partition(" - ")[2].split()[0]) for line in lines]
    mounts = {Path(point): kind for point, kind in fields}

    def mount_of(each: Path) -> Path | None:
        return next((parent for parent in (each, *each.parents) if parent in mounts), None)

    mount = mount_of(path)
    in_memory = mount is not None and mounts[mount] in ("tmpfs", "ramfs")
    return not in_memory and mount not in map(mount_of, _CONTAINER)
