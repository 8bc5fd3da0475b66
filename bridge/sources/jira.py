"""Jira: webhooks of a site's administrator, Cloud and Data Center.

Source of the rules: https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

from __future__ import annotations

from hashlib import sha256

import orjson

from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import names
from bridge.sources.base.proofs import HmacSignature, UrlToken
from bridge.sources.base.source_type import ParsedWebhook, SourceType, text_at

_ID_HEADER = "X-Atlassian-Webhook-Identifier"

_EVENTS = names(
    """
    event jira:issue_{created updated deleted} jira:worklog_updated jira:version_{created updated released
    unreleased moved merged deleted} attachment_{created deleted} board_{configuration_changed created deleted
    updated} comment_{created deleted updated} issue_property_{deleted set} issuelink_{created deleted}
    project_{archived created deleted restored_archived restored_deleted soft_deleted updated} sprint_{closed
    created deleted started updated} user_{created deleted updated} worklog_{created deleted updated}
    """
)


class Jira(SourceType):
    """An HMAC over the raw body in ``X-Hub-Signature``; the event is the body's ``webhookEvent``.

    Without a body (a setting at Jira), the event is ``event`` and the payload ``{}``.
    """

    name = "jira"
    guide = Guide(
        title="Jira",
        setup="""
            Open Settings → System → WebHooks → *Create a WebHook*. Set *URL* to the source's URL and
            *Secret* to the secret. Select the events that your routes name. If your Jira has no field
            *Secret*, use `url_token:` and append `?token=…` to the URL.
        """,
        route="""
            event: "jira:issue_updated"
            match:
              payload.issue.fields.status.name: Done
            task_arguments:
              - ${{ payload.issue.key }}
        """,
    )
    proofs = (
        HmacSignature("X-Hub-Signature", "sha256", "sha256="), UrlToken(),
    )  # fmt: skip
    id_header = _ID_HEADER
    dedupe = 30.0
    replayable = True
    events = {
        **dict.fromkeys(_EVENTS, ()),
        **dict.fromkeys(names("jira:issue_created jira:issue_updated jira:issue_deleted"), ("issue",)),
        **dict.fromkeys(names("comment_created comment_deleted comment_updated"), ("comment",)),
    }

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        event = text_at(payload, "webhookEvent") or ("event" if not request.body else None)
        if event is None:
            raise self.unreadable("the field webhookEvent")
        hashed = sha256(orjson.dumps(dict(request.query), option=orjson.OPT_SORT_KEYS) + request.body)
        return ParsedWebhook(
            event,
            text_at(payload, "issue_event_type_name"),
            request.headers.get(_ID_HEADER),
            fingerprint=hashed.hexdigest(),
        )

    def parse(self, request: Request) -> tuple[JSON, bytes]:
        return super().parse(request) if request.body else ({}, b"{}")
