"""Where an SQLite database is lost with its container, the bridge says so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.process import database_disk
from bridge.process.database_disk import disk_trouble
from bridge.process.settings import Settings
from tests.conftest import lacks
from tests.support.disk import small_disk

#: A dyno's disk, a volume whose name has a blank, and one in memory.
MOUNTS = r"""
21 1 8:1 / / rw,relatime - overlay overlay rw
22 21 8:2 / /app rw,relatime shared:1 - ext4 /dev/vdb rw
23 21 8:3 / /tmp rw,relatime - ext4 /dev/vdc rw
24 22 8:4 / /app/my\040data rw,relatime master:2 - ext4 /dev/vdd rw
25 21 0:5 / /memory rw - tmpfs none rw
26 21 8:6 / /data rw - xfs /dev/vde rw
""".lstrip()


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(database_disk, "MOUNTS", path)
    monkeypatch.setattr(database_disk, "_CONTAINER", (Path("/"), Path("/tmp"), Path("/app/bridge")))
    return path


def trouble(path: str, **environ: str) -> str | None:
    return disk_trouble(Settings.from_environ({"DATABASE_URL": f"sqlite:///{path}", **environ}))


@pytest.mark.parametrize(
    "path",
    ["/bridge.db", "/app/var/bridge.db", "/tmp/bridge.db", "/memory/bridge.db", "/app/my dat/bridge.db",
     "/data/../app/bridge.db"],
)  # fmt: skip
def test_a_database_on_the_containers_disk_is_lost(mounts: Path, path: str) -> None:
    text = trouble(path, DYNO="web.1")
    assert text is not None
    assert text.startswith(f"the SQLite database {Path(path).resolve()} is on a disk ")
    assert "(DYNO is set)" in text
    assert "DATABASE_URL" in text
    assert "BRIDGE_PERSISTENT_DISK=true" in text


@pytest.mark.parametrize("path", ["/data/bridge.db", "/data/a/b/bridge.db", "/app/my data/bridge.db"])
def test_a_database_on_a_volume_is_not(mounts: Path, path: str) -> None:
    assert trouble(path, DYNO="web.1") is None


def test_cloud_run_has_no_volume_for_it(mounts: Path) -> None:
    assert trouble("/data/bridge.db", K_SERVICE="bridge") is not None


@pytest.mark.parametrize(
    "name",
    ["DYNO", "K_SERVICE", "RAILWAY_ENVIRONMENT", "RENDER", "FLY_APP_NAME", "KOYEB_APP_NAME",
     "KUBERNETES_SERVICE_HOST"],
)  # fmt: skip
def test_a_platform_is_recognized(mounts: Path, name: str) -> None:
    assert trouble("/bridge.db", **{name: "x"}) is not None
    assert trouble("/bridge.db", **{name: ""}) is None
    assert trouble("/bridge.db", **{name: "x", "BRIDGE_PERSISTENT_DISK": "true"}) is None
    assert disk_trouble(Settings.from_environ({name: "x", "DATABASE_URL": "postgresql://a@b/c"})) is None


def test_without_a_list_of_mounts_it_counts_as_lost(mounts: Path) -> None:
    mounts.unlink()
    assert trouble("/data/bridge.db", DYNO="web.1") is not None


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """A folder that is mounted, as a volume of Dokku is."""
    inside, folder = tmp_path / "inside", tmp_path / "volume"
    inside.mkdir()
    folder.mkdir()
    if subprocess.run(["mount", "--bind", inside, folder], check=False, capture_output=True).returncode:
        lacks("mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_real_mount_is_seen(bound: Path, tmp_path: Path) -> None:
    assert trouble(str(tmp_path / "bridge.db"), DYNO="web.1") is not None
    assert trouble(str(bound / "bridge.db"), DYNO="web.1") is None
    with small_disk(bound / "memory", 1 << 20) as memory:
        assert trouble(str(memory / "bridge.db"), DYNO="web.1") is not None
