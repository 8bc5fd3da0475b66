"""Fixtures of the tests that start processes of the bridge."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.pushes import stand_in
from tests.support.theeye import StandIn


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    """TheEye with the tasks of the pushes."""
    with stand_in() as stand:
        yield stand


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that every user can read, unlike pytest's."""
    folder = Path(mkdtemp(prefix="bridge-home-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
