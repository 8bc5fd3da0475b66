"""The layout's law, beside what import-linter keeps: where files end, and where the environment is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

BRIDGE = Path(__file__).parents[2] / "bridge"
MODULES = sorted(BRIDGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(BRIDGE)))
def test_a_module_is_one_room(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 400
    assert module.stem not in ("util", "utils", "helper", "helpers", "misc", "common")


def test_only_settings_reads_the_environment() -> None:
    readers = [module.name for module in MODULES if re.search(r"os\.(environ|getenv)", module.read_text())]
    assert readers == ["settings.py"]


def test_every_public_module_says_what_it_is() -> None:
    assert [module.name for module in MODULES if not module.read_text().startswith('"""')] == []
