"""A terminal: a table, a store, and the commands run on them as a person calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.core.attempt_result import AttemptResult
from bridge.core.event import Event, Headers
from bridge.core.job import Job, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from tests.support.tables import attempt_of, claim_jobs

TABLE = """
theeye:
  customer: acme
sources:
  github:
    secret: ${{ env.HOOK_SECRET }}
tasks:
  deploy:
    id: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
routes:
  - name: deploy
    source: github
    event: push
    match:
      payload.ref: refs/heads/main
    when: payload.commits | length > 0
    task: deploy
    task_arguments:
      - ${{ payload.after }}
"""

PUSH = {"ref": "refs/heads/main", "before": "0", "after": "abc", "commits": [1]}


class Terminal:
    """A folder with a table and a store, and commands run in it."""

    def __init__(self, folder: Path, table: str = TABLE) -> None:
        self.config = folder / "table.yml"
        self.config.write_text(table)
        self.push = folder / "push.json"
        self.push.write_text(json.dumps(PUSH))
        self.database_url = f"sqlite:///{folder / 'bridge.db'}"
        Outbox(self.database_url).close()
        self.environ = {"BRIDGE_CONFIG": str(self.config), "DATABASE_URL": self.database_url}

    def run(self, *arguments: str, stdin: str | None = None, **environ: str) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, env={**self.environ, **environ})

    def store(self, arguments: tuple[str, ...] | None, payload: Mapping[str, object] = PUSH) -> Job:
        """A job of the route, waiting, or dead where its arguments could not be built."""
        outbox = Outbox(self.database_url)
        body = json.dumps(dict(payload)).encode()
        event = Event(
            "github", "push", "made", f"d{time.time_ns()}",
            Headers([("X-GitHub-Event", "push")]), {"team": "a"}, payload, time.time(), body,
        )  # fmt: skip
        reason = None if arguments is not None else "argument 1: payload.after is missing"
        new = NewJob("deploy", "5f3c9a7be4b0a1c2d3e4f501", "deploy", "", None, arguments, reason)
        stored = outbox.store(Webhook(event, None, None, (new,), ("route 'deploy': when: odd",), b""))
        job = outbox.job(stored.jobs[0].id)
        outbox.close()
        return job

    def attempt(self, decision: Decision, outcome: Outcome) -> None:
        """One attempt of the next due job, with this end."""
        outbox = Outbox(self.database_url)
        token, (job,) = claim_jobs(outbox)
        attempt_id = attempt_of(outbox, job)
        outbox.record(job, token, attempt_id, AttemptResult(0.25, outcome, 500, "500 oh", None), decision)
        outbox.close()

    def job(self, job_id: int) -> Job:
        outbox = Outbox(self.database_url)
        job = outbox.job(job_id)
        outbox.close()
        return job
