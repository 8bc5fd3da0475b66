"""Sentry: internal and public integrations.

Source of the rules: https://docs.sentry.io/organization/integrations/integration-platform/webhooks/ and
Sentry's sentry_apps package.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import uuid4

import orjson

from bridge.core.event import JSON, Request
from bridge.core.exact_json import dumps
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import EVERY_EVENT, ParsedWebhook, SourceType, required_headers, text_at

#: By resource, the field that only its `data` has.
_RESOURCE_KEYS = {
    "comment": "comment_id",
    "error": "error",
    "event_alert": "event",
    "installation": "installation",
    "issue": "issue",
    "metric_alert": "metric_alert",
}


class Sentry(SourceType):
    """An HMAC over the raw body, bare hex, in ``Sentry-Hook-Signature``.

    The signature covers no header, so ``data`` must fit the resource in ``Sentry-Hook-Resource``.
    ``Request-ID`` differs between attempts, so a hash over the event's id or the payload identifies it.
    """

    name = "sentry"
    guide = Guide(
        title="Sentry",
        setup="""
            Open *Settings* → *Developer Settings* → *Create New Integration* → *Internal*. Set *Webhook
            URL* to the source's URL. Select the resources under *Webhooks*, or select *Alert Rule Action*
            and choose the integration in an alert. The secret is the integration's *Client Secret*.
        """,
        route="""
            event: issue.created
            match:
              payload.data.issue.project.slug: api
            task_arguments:
              - ${{ payload.data.issue.id }}
              - ${{ payload.data.issue.title }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (HmacSignature("Sentry-Hook-Signature"),)
    credential_headers = ("Sentry-App-Signature",)
    #: An installation's token is granted for this code.
    credential_fields = ("data.installation.code",)
    event_header = "Sentry-Hook-Resource"
    events = {
        **{resource: ("action", f"data.{key}") for resource, key in _RESOURCE_KEYS.items()},
        **dict.fromkeys(("activity_alert", "preprod_artifact", "seer"), ("action", "data")),
    }
    fields = {EVERY_EVENT: fields("action actor data installation")}
    setup_events = ("installation.created",)
    dedupe = 960.0
    replayable = True

    def headers_for(self, event: str | None) -> dict[str, str]:
        return {**super().headers_for(event), "Request-ID": uuid4().hex}

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        (resource,) = required_headers(request, "Sentry-Hook-Resource")
        if not isinstance(payload, dict) or not isinstance(payload.get("data"), dict):
            raise self.unreadable("the field data, an object")
        action = text_at(payload, "action")
        return ParsedWebhook(resource, action, fingerprint=_fingerprint(resource, action, payload))


def _fingerprint(resource: str, action: str | None, payload: JSON) -> str:
    """Return a hash over what is equal in all attempts: Sentry may read an issue again."""
    event = text_at(payload, "data", _RESOURCE_KEYS.get(resource, ""), "event_id")
    hashed = payload if event is None else [event, text_at(payload, "data", "triggered_rule")]
    return sha256(dumps([resource, action, hashed], option=orjson.OPT_SORT_KEYS)).hexdigest()
