"""How the templates write times."""

from __future__ import annotations

import pytest

from bridge.web.page.format import clock
from tests.support.tables import NOW


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (NOW, "22:13:20"),
        (NOW - 22 * 3600, "00:13:20"),
        (NOW - 23 * 3600, "2023-11-13 23:13"),
        (NOW + 86400, "2023-11-15 22:13"),
    ],
)
def test_a_time_of_another_day_has_its_date(seconds: float, shown: str) -> None:
    assert clock(seconds, NOW) == shown
