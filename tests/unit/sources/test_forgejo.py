"""What Forgejo has and Gitea has not; the rest is in test_gitea.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.errors import NotAuthentic
from bridge.sources.base.discovery import discover
from tests.support.intake import Intake, sample
from tests.unit.sources.test_gitea import digest, sent

TABLE = """
sources:
  forgejo: {secret: "${{ env.GITHUB_SECRET }}"}
  gitea: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - name: failed
    source: forgejo
    event: action_run_failure
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.run.workflow_id }}"]
"""


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


def test_a_run_that_failed_becomes_its_job(intake: Intake) -> None:
    body = sample("forgejo/action_run_failure.failure.json")
    assert intake.post("forgejo", body, sent(body, "Forgejo", "action_run_failure")).status == 202
    assert [job.arguments for job in intake.jobs()] == [("test.yml",)]


def test_its_webhooks_are_gitea_s_too_but_not_the_other_way_round(intake: Intake) -> None:
    """It sends Gitea's headers beside its own."""
    body = sample("forgejo/push.json")
    assert intake.post("gitea", body, sent(body, "Forgejo")).status == 200
    with pytest.raises(NotAuthentic):
        intake.post("forgejo", body, sent(body, "Gitea"))


def test_a_wrong_signature_beside_right_ones_of_other_names(intake: Intake) -> None:
    body = sample("forgejo/push.json")
    with pytest.raises(NotAuthentic):
        intake.post("forgejo", body, sent(body, "Forgejo", X_Forgejo_Signature=digest(body, "another")))


def test_its_runs_are_called_otherwise_than_gitea_s() -> None:
    events = discover()["forgejo"].events.keys()
    assert {"action_run_failure", "action_run_recover", "action_run_success"} <= events
    assert not {"workflow_job", "workflow_run"} & events
