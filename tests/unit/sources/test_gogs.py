"""What is special to Gogs; the rest is in test_gitea.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.errors import NotAuthentic
from tests.support.intake import Intake, sample
from tests.unit.sources.test_gitea import sent

TABLE = """
sources:
  gogs: {secret: "${{ env.GITHUB_SECRET }}"}
  gitea: {secret: "${{ env.GITHUB_SECRET }}"}
  github: {secret: "${{ env.GITHUB_SECRET }}"}
routes: []
"""

PUSH = sample("gogs/push.json")


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


def test_it_is_no_other_type(intake: Intake) -> None:
    """It sends GitHub's event and id too, but no signature of that name."""
    for source in ("gitea", "github"):
        with pytest.raises(NotAuthentic):
            intake.post(source, PUSH, sent(PUSH, "Gogs"))


def test_a_redelivery_by_hand_is_harmless(intake: Intake) -> None:
    intake.post("gogs", PUSH, sent(PUSH, "Gogs"))
    intake.clock.now += 3 * 24 * 3600
    assert intake.post("gogs", PUSH, sent(PUSH, "Gogs")).body["duplicate"]


def test_its_push_has_no_head_commit(intake: Intake) -> None:
    intake.post("gogs", PUSH, sent(PUSH, "Gogs"))
    assert "head_commit" not in intake.outbox.event(1).payload
