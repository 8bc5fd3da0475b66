"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.intake import Intake

#: The senders' vectors and samples, where they are there: the project passes its tests without them.
SHARED = Path(os.environ.get("BRIDGE_TEST_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def senders() -> Path:
    """The folder with vectors.json and samples of real senders; skips where there is none."""
    folder = SHARED / "senders"
    if not folder.is_dir():
        pytest.skip("no senders' samples beside the checkout")
    return folder


@pytest.fixture
def make_intake(tmp_path: Path) -> Iterator[Callable[[str], Intake]]:
    """Makes the intake of one table, on a store in `tmp_path`."""
    made: list[Intake] = []

    def make(text: str) -> Intake:
        made.append(Intake(text, tmp_path))
        return made[-1]

    yield make
    for intake in made:
        intake.close()
