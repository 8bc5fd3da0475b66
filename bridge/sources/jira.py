"""Jira: webhooks of a site's administrator, Cloud and Data Center.

Source of the rules: https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar
from uuid import uuid4

import orjson

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import HmacSignature, Proof, UrlToken

_ID_HEADER = "X-Atlassian-Webhook-Identifier"


class Jira(SourceType):
    """An HMAC over the raw body in ``X-Hub-Signature``; the event is the body's ``webhookEvent``.

    A webhook may be set to have no body: its event is ``event`` and its payload ``{}``.
    """

    name: ClassVar[str] = "jira"
    guide: ClassVar[Guide] = Guide(
        title="Jira",
        setup="""
            Open Settings → System → WebHooks → *Create a WebHook*. Set *URL* to the source's URL and
            *Secret* to the secret. Select the events that your routes name. If your Jira has no field
            *Secret*, use `url_token:` and append `?token=…` to the URL.
        """,
        example="""
sources:
  jira:
    secret: ${{ env.JIRA_WEBHOOK_SECRET }}
routes:
  - source: jira
    event: "jira:issue_updated"
    match:
      payload.issue.fields.status.name: Done
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.issue.key }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature("X-Hub-Signature", "sha256", "sha256="), UrlToken(),
    )  # fmt: skip
    dedupe: ClassVar[float | None] = 30.0
    replayable: ClassVar[bool] = True
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "event": (),
        "jira:issue_created": ("issue",),
        "jira:issue_updated": ("issue",),
        "jira:issue_deleted": ("issue",),
        "jira:worklog_updated": (),
        "jira:version_created": (),
        "jira:version_updated": (),
        "jira:version_released": (),
        "jira:version_unreleased": (),
        "jira:version_moved": (),
        "jira:version_merged": (),
        "jira:version_deleted": (),
        "attachment_created": (),
        "attachment_deleted": (),
        "board_configuration_changed": (),
        "board_created": (),
        "board_deleted": (),
        "board_updated": (),
        "comment_created": ("comment",),
        "comment_deleted": ("comment",),
        "comment_updated": ("comment",),
        "issue_property_deleted": (),
        "issue_property_set": (),
        "issuelink_created": (),
        "issuelink_deleted": (),
        "project_archived": (),
        "project_created": (),
        "project_deleted": (),
        "project_restored_archived": (),
        "project_restored_deleted": (),
        "project_soft_deleted": (),
        "project_updated": (),
        "sprint_closed": (),
        "sprint_created": (),
        "sprint_deleted": (),
        "sprint_started": (),
        "sprint_updated": (),
        "user_created": (),
        "user_deleted": (),
        "user_updated": (),
        "worklog_created": (),
        "worklog_deleted": (),
        "worklog_updated": (),
    }

    def headers_for(self, event: str | None) -> dict[str, str]:
        return {**super().headers_for(event), _ID_HEADER: str(uuid4())}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = ({}, b"{}") if not request.body else read_json(request)
        event = text_at(payload, "webhookEvent") or ("event" if not request.body else None)
        if event is None:
            raise Unreadable("a Jira webhook has its event's name as webhookEvent")
        told = sha256(orjson.dumps(dict(request.query), option=orjson.OPT_SORT_KEYS) + request.body)
        return Reading(
            event=event,
            action=text_at(payload, "issue_event_type_name"),
            payload=payload,
            body=body,
            delivery_id=request.headers.get(_ID_HEADER),
            fingerprint=told.hexdigest(),
        )
