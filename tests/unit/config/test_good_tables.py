"""Good tables: no warning, however much their text looks like a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.load import load
from bridge.sources.base.discovery import discover

TYPES = discover()

HEAD = """\
theeye: {customer: acme}
sources:
  github: {secret: "${{ env.SECRET }}"}
  gitlab: {token: "${{ env.SECRET }}"}
  gitea: {secret: "${{ env.SECRET }}"}
  bitbucket: {secret: "${{ env.SECRET }}"}
  bitbucket-server: {secret: "${{ env.SECRET }}"}
  alertmanager: {bearer_token: "${{ env.SECRET }}"}
  shop: {type: generic, bearer_token: "${{ env.SECRET }}", event: payload.kind}
tasks:
  deploy: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{ env.KEY }}"}
routes:
"""

#: Fixed arguments that may be meant as they are written.
ARGUMENTS = [
    "main", "event", "action", "source", "headers", "query", "index", "refs/heads/main", "payload.json",
    "/srv/payload.zip", "query.sql", "item.csv", "costs $5", "US$", "5$", "a$b", "100%", "'{a,b}'",
    "'{\"a\": 1}'", "'[0-9]'", "a|b", "/a/b/", "^x$", "'*'", "'#1'", "https://example.org/payload/after?x={y}",
    "my-payload.after", "payload-after", "the payload", "true", "null", "5", "-1", "'5'", "[a, b]",
    "{a: b}", "{name: x, value: y}", "{value: 1}", "{ref: '${{ payload.ref }}'}", "${{ payload.after }}",
    "--ref=${{ payload.ref }}",
    "'{\"ref\": \"${{ payload.ref }}\"}'", "${{ payload.ref.removeprefix('refs/heads/') }}",
    "${{ (payload.after ~ 'x')[:7] }}", "Basic authentication", "Bearer bond", "the token",
    "${{ 'a' + payload.ref }}", "${{ 'n' ~ payload.repository.size }}",
    "${{ 'x' + (payload.repository.forks_count | string) }}",
    "|\n        a\n        b", "a@b.example", "C:\\data\\w", "'$'", "$1", "<none>", "=5", "'!x'",
]  # fmt: skip

#: A source, an event and a line of match, or a condition.
MATCHES = [
    ("github", "push", "payload.ref: refs/heads/main"), ("github", "push", "payload.ref: refs/tags/v*"),
    ("github", "push", "payload.ref: '*/main'"), ("github", "push", "payload.ref: refs/*"),
    ("github", "push", "payload.ref: '*'"), ("github", "push", "payload.ref: 'r?fs/heads/main'"),
    ("github", "push", "payload.ref: {not: refs/heads/main}"), ("github", "push", "payload.base_ref: null"),
    ("github", "push", "payload.ref: {regex: '^refs/heads/(main|dev)$'}"),
    ("github", "push", "payload.ref: {regex: main}"), ("github", "push", "payload.deleted: false"),
    ("github", "push", "payload.repository.full_name: acme/*"),
    ("github", "push", "payload.repository.full_name: '*api'"),
    ("github", "push", "payload.repository.name: api"), ("github", "push", "payload.head_commit: null"),
    ("github", "push", "payload.sender.login: 'dependabot[bot]'"),
    ("github", "push", '"payload.commits[*].modified[*]": src/**/*.py'),
    ("github", "push", '"payload.commits[*].modified[*]": "package.*"'),
    ("github", "push", '"payload.commits[*].{added,modified,removed}[*]": src/*'),
    ("github", "push", "payload.head_commit.message: '[skip ci]*'"),
    ("github", "push", "payload.head_commit.message: 'fix(api): *'"),
    ("github", "push", "payload.head_commit.url: {regex: /api/v1/}"),
    ("github", "push", "payload.repository.custom_properties.team: x"),
    ("github", "pull_request.closed", "payload.pull_request.merged: true"),
    ("github", "pull_request.*", "payload.pull_request.base.ref: main"),
    ("github", "pull_request.synchronize", "payload.pull_request.state: open"),
    ("github", "pull_request", "payload.action: [opened, reopened]"),
    ("github", "pull_request", "payload.pull_request.head.ref: feature/*"),
    ("github", "workflow_run.completed", "payload.workflow_run.conclusion: failure"),
    ("github", "workflow_run", "payload.workflow_run.head_branch: {not: main}"),
    ("github", "release.published", "payload.release.tag_name: v1.*"),
    ("github", "create", "payload.ref: main"), ("github", "delete", "payload.ref: refs-old"),
    ("github", "[push, create]", "payload.ref: main"), ("github", "workflow_dispatch", "payload.ref: main"),
    ("github", "project_card.moved", "payload.project_card.id: 1"),
    ("github", "project", "payload.action: x"),
    ("github", "project_column", "payload.action: x"),
    ("github", "installation_repositories", '"payload.repositories_removed[0].name": x'),
    ("github", "deployment", "payload.deployment.environment: x"), ("github", "fork", "payload.forkee.id: 1"),
    ("github", "issues.opened", '"payload.issue.labels[*].name": "bug|crash report"'),
    ("gitlab", "Push Hook", "payload.ref: refs/heads/main"), ("gitlab", "Push Hook", "payload.own: x"),
    ("gitlab", "Tag Push Hook", "payload.ref: refs/tags/v*"), ("gitlab", "Service Hook", "payload.ref: x"),
    ("gitlab", "Build Hook", "payload.build_status: failed"),
    ("gitlab", "Merge Request Hook.merge", "payload.object_attributes.target_branch: main"),
    ("gitlab", "Pipeline Hook.failed", "payload.object_attributes.ref: main"),
    ("gitea", "push", "payload.ref: refs/heads/main"),
    ("gitea", "pull_request.synchronized", "payload.pull_request.base.ref: main"),
    ("bitbucket", "repo:push", '"payload.push.changes[*].new.name": main'),
    ("bitbucket-server", "repo:refs_changed", '"payload.changes[*].refId": refs/heads/main'),
    ("bitbucket-server", "repo:refs_changed", '"payload.changes[*].ref.displayId": main'),
    ("alertmanager", "firing", "payload.commonLabels.severity: critical"),
    ("alertmanager", "firing", '"payload.alerts[*].status": resolved'),
    ("github", "push", "payload.deleted: true"), ("github", "push", "payload.ref: {regex: '.*'}"),
    ("github", "push", "payload.base_ref: {regex: '^(refs/heads/.*)?$'}"),
    ("github", "push", '"payload.commits[*].modified[*]": ".*"'),
    ("github", "push", '"payload.commits[*].added[*]": "src/__init__.*"'),
    ("github", "push", "payload.head_commit.message: not found"),
    ("alertmanager", "firing", '"payload.alerts[*].labels.instance": node1.*'),
    ("alertmanager", "firing", '"payload.alerts[*].labels.severity": crit*'),
    ("alertmanager", "firing", '"payload.alerts[*].labels.severity": {regex: "crit.*"}'),
    ("alertmanager", "firing", "payload.commonAnnotations.summary: not ready"),
    ("github", "pull_request.labeled", "payload.label.name: deploy"), ("github", "create", "payload.ref: v*"),
    ("github", "pull_request", '"payload.pull_request.labels[*].name": deploy'),
    ("github", "pull_request", "payload.pull_request.milestone: null"),
    ("github", "push", "payload.repository.full_name: 'acme/**'"),
    ("github", "push", '"payload.commits[*].added[*]": ".github/*"'),
    ("github", "push", '"payload.commits[*].added[*]": "*/Makefile"'),
    ("github", "push", '"payload.commits[*].added[*]": {regex: /test/}'),
    ("github", "push", "payload.ref: {regex: /release/}"),
    ("gitlab", "Push Hook", "payload.project.path_with_namespace: acme/sub/api"),
    ("gitlab", "Merge Request Hook", '"payload.labels[*].title": deploy'),
    ("alertmanager", "firing", "payload.commonLabels.priority: 1"),
    ("alertmanager", "firing", "payload.commonLabels.page: true"),
    ("alertmanager", "firing", "payload.commonLabels.service: x"),
    ("shop", "order.created", "'headers[\"Idempotency-Key\"]': x"), ("shop", "x", "query.team: x"),
    ("shop", "order.created", "payload.ref: main"), ("shop", "'*'", "payload.file: payload.json"),
    ("shop", "x", 'payload.tags: "*,production,*"'), ("shop", "x", 'payload.city: "Paris, France"'),
    ("shop", "x", 'headers.accept: "text/html,application/json"'),
    ("shop", "x", "payload.comment: yes or no"),
    ("shop", "x", "payload.request.path: /api/v1/"), ("shop", "x", "payload.file: incoming/"),
    ("alertmanager", "firing", 'payload.commonLabels.alertname: "Latency, EU"'),
]  # fmt: skip

CONDITIONS = [
    "payload.ref == 'refs/heads/main'", "payload.ref != 'refs/heads/main'", "payload.ref | upper == 'MAIN'",
    "payload.ref.removeprefix('refs/heads/') == 'main'", "payload.ref[11:] == 'main'",
    "payload.repository.name == 'api' or payload.after == payload.before",
    "payload.commits | map(attribute='distinct') | map('int') | sum > 1",
    "payload.commits | map(attribute='id') | list == []", "'main' in payload.ref",
    "payload.deleted == true", "not payload.deleted", "payload.head_commit != null", "payload.commits != []",
    "payload.repository.size > 5", "payload.ref is not none", "payload.ref in ('refs/heads/a',)",
    "'.md' in payload.head_commit.message", "payload.repository == null", "payload.head_commit != none",
    "payload.after >= '2.1'", "payload.head_commit.timestamp >= '2026'", "payload.after[0] in '0123456789'",
]  # fmt: skip

#: Loops of a route for Alertmanager.
LOOPS = [
    "once_within: 5m\n    once_key: ${{ item.fingerprint }}", "once_within: 5m\n    once_key: ${{ index }}",
    "task_arguments: ['${{ payload.alerts[0].startsAt }}', '${{ item.labels.alertname }}']",
    "task_arguments: ['${{ payload.groupKey }}']",
]  # fmt: skip

#: Sources of the type generic.
SOURCES = [
    "{type: generic, bearer_token: S, delivery_id: payload.id}",
    "{type: generic, bearer_token: S, delivery_id: payload.event.id}",
    "{type: generic, bearer_token: S, delivery_id: 'headers[\"X-Id\"]'}",
    "{type: generic, secret: S, signature: {header: X-S}, delivery_id: payload.webhook_id}",
    "{type: generic, secret: S, signature: {header: X-S}, delivery_id: 'headers[\"X-Id\"]', replays: refuse}",
    "{type: generic, secret: S, signature: {header: X-S, timestamp_header: X-T}, delivery_id: headers.id}",
    "{type: generic, token: S, header: X-Token, event: 'headers[\"X-Topic\"]'}",
    "{type: generic, token: S, header: Headers-Of-Mine}",
    "{type: generic, secret: S, signature: {header: X-S, prefix: sha256=}}",
    "{type: generic, secret: S, signature: {header: X-S, prefix: 'HMAC '}}",
]


def tables() -> dict[str, str]:
    made = {
        f"argument {text}": f"{HEAD}  - source: github\n    event: push\n    task: deploy\n"
        f"    task_arguments:\n      - {text}\n"
        for text in ARGUMENTS
    }
    route = "  - source: {}\n    event: {}\n    task: deploy\n    task_arguments: []\n    {}\n"
    for source, event, line in MATCHES:
        made[f"{source} {event} {line}"] = HEAD + route.format(source, event, f"match: {{{line}}}")
    for text in CONDITIONS:
        made[f"when {text}"] = HEAD + route.format("github", "push", f'when: "{text}"')
    for text in LOOPS:
        more = "" if "task_arguments" in text else "\n    task_arguments: []"
        made[f"loop {text}"] = (
            f"{HEAD}  - source: alertmanager\n    loop: payload.alerts\n    task: deploy{more}\n    {text}\n"
        )
    for text in SOURCES:
        given = text.replace("S,", '"${{ env.SECRET }}",', 1).replace(" S}", ' "${{ env.SECRET }}"}')
        made[f"source {text}"] = HEAD.replace("tasks:", f"  own: {given}\ntasks:") + route.format(
            "own", "x", "name: own"
        )
    return made


TABLES = tables()


def test_there_are_a_hundred_good_tables() -> None:
    assert len(TABLES) > 100


@pytest.mark.parametrize("name", TABLES)
def test_a_good_table_has_no_warning(tmp_path: Path, name: str) -> None:
    (tmp_path / "table.yml").write_text(TABLES[name], "utf-8")
    problems = load(tmp_path, {"SECRET": "s1" * 16, "KEY": "k1" * 32}, TYPES).problems
    assert [str(each) for each in problems if "no route uses" not in each.message] == []
