"""GitHub: repository, organization and app webhooks.

Source of the rules: https://docs.github.com/webhooks (validating deliveries, events and payloads).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from uuid import uuid4

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import FORM_TYPE, JSON_TYPE, Options, Reading, SourceType, read_json_or_form, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import HmacSignature, Proof


class GitHub(SourceType):
    """An HMAC over the raw body in ``X-Hub-Signature-256``; the older SHA-1 alone is refused.

    The signature covers no header, so a body must have the keys of the event that
    ``X-GitHub-Event`` names.
    """

    name: ClassVar[str] = "github"
    guide: ClassVar[Guide] = Guide(
        title="GitHub",
        setup="""
            Repository, organization or app → Settings → Webhooks → Add webhook: *Payload URL* the source's
            URL, *Content type* `application/json` (a form is taken too), *Secret* a text of your own, and the
            events that your routes name.
        """,
        example="""
sources:
  github:
    secret: ${{ env.GITHUB_WEBHOOK_SECRET }}
routes:
  - source: github
    event: push
    match:
      payload.ref: refs/heads/main
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.after }}
""",
        events="""
            what `X-GitHub-Event` says, such as `push`; the action is the body's `action`, such as `opened`.
        """,
        identity="""
            `X-GitHub-Delivery`, which a redelivery keeps. A hook of the repository and one of its
            organization have ids of their own for the same push.
        """,
        repeats="GitHub waits 10 s and sends nothing again by itself; *Redeliver* in the hook's list does.",
        traps=(
            "The signature covers no header, so a body without the keys of its event is refused.",
            "A branch that is deleted is a push too, with `payload.deleted: true` and no `head_commit`.",
            "A body over 25 MB is not sent at all.",
        ),
    )
    proofs: ClassVar[tuple[Proof, ...]] = (HmacSignature("X-Hub-Signature-256", "sha256", "sha256="),)
    private_headers: ClassVar[tuple[str, ...]] = ("X-Hub-Signature",)
    event_header: ClassVar[str | None] = "X-GitHub-Event"
    handshakes: ClassVar[tuple[str, ...]] = ("ping",)
    content_types: ClassVar[tuple[str, ...]] = (JSON_TYPE, FORM_TYPE)
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "branch_protection_configuration": ("action",),
        "branch_protection_rule": ("action", "rule"),
        "check_run": ("action", "check_run"),
        "check_suite": ("action", "check_suite"),
        "code_scanning_alert": ("action", "alert"),
        "commit_comment": ("action", "comment"),
        "create": ("ref", "ref_type"),
        "custom_property": ("action", "definition"),
        "custom_property_values": ("action",),
        "delete": ("ref", "ref_type"),
        "dependabot_alert": ("action", "alert"),
        "deploy_key": ("action", "key"),
        "deployment": ("action", "deployment"),
        "deployment_protection_rule": ("action",),
        "deployment_review": ("action",),
        "deployment_status": ("action", "deployment_status"),
        "discussion": ("action", "discussion"),
        "discussion_comment": ("action", "comment"),
        "fork": ("forkee",),
        "github_app_authorization": ("action",),
        "gollum": ("pages",),
        "installation": ("action", "installation"),
        "installation_repositories": ("action", "installation"),
        "installation_target": ("action",),
        "issue_comment": ("action", "issue", "comment"),
        "issue_dependencies": ("action",),
        "issues": ("action", "issue"),
        "label": ("action", "label"),
        "marketplace_purchase": ("action", "marketplace_purchase"),
        "member": ("action", "member"),
        "membership": ("action", "member", "team"),
        "merge_group": ("action", "merge_group"),
        "meta": ("action", "hook"),
        "milestone": ("action", "milestone"),
        "org_block": ("action", "blocked_user"),
        "organization": ("action", "organization"),
        "package": ("action", "package"),
        "page_build": ("build",),
        "personal_access_token_request": ("action",),
        "ping": ("zen", "hook_id"),
        "projects_v2": ("action", "projects_v2"),
        "projects_v2_item": ("action", "projects_v2_item"),
        "projects_v2_status_update": ("action",),
        "public": ("repository",),
        "pull_request": ("action", "number", "pull_request"),
        "pull_request_review": ("action", "pull_request", "review"),
        "pull_request_review_comment": ("action", "pull_request", "comment"),
        "pull_request_review_thread": ("action", "pull_request", "thread"),
        "push": ("ref", "before", "after"),
        "registry_package": ("action", "registry_package"),
        "release": ("action", "release"),
        "repository": ("action", "repository"),
        "repository_advisory": ("action", "repository_advisory"),
        "repository_dispatch": ("action", "branch"),
        "repository_import": ("status",),
        "repository_ruleset": ("action", "repository_ruleset"),
        "repository_vulnerability_alert": ("action", "alert"),
        "secret_scanning_alert": ("action", "alert"),
        "secret_scanning_alert_location": ("action", "alert", "location"),
        "secret_scanning_scan": ("action",),
        "security_advisory": ("action", "security_advisory"),
        "security_and_analysis": ("changes",),
        "sponsorship": ("action", "sponsorship"),
        "star": ("action", "repository"),
        "status": ("sha", "state"),
        "sub_issues": ("action",),
        "team": ("action", "team"),
        "team_add": ("team",),
        "watch": ("action", "repository"),
        "workflow_dispatch": ("ref", "workflow"),
        "workflow_job": ("action", "workflow_job"),
        "workflow_run": ("action", "workflow_run"),
    }

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable("GitHub names the event in a header: say which, as in --event push")
        delivery = str(uuid4())
        return {**super().headers_for(event), "X-GitHub-Event": event, "X-GitHub-Delivery": delivery}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        event = request.headers.get("X-GitHub-Event")
        delivery = request.headers.get("X-GitHub-Delivery")
        if not event or not delivery:
            raise Unreadable("a GitHub webhook has X-GitHub-Event and X-GitHub-Delivery")
        payload, body = read_json_or_form(request, "payload")
        return Reading(
            event=event,
            action=text_at(payload, "action"),
            payload=payload,
            body=body,
            delivery_id=delivery,
            handshake=event in self.handshakes,
        )
