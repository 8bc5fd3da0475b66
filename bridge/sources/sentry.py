"""Sentry: internal and public integrations.

Source of the rules: https://docs.sentry.io/organization/integrations/integration-platform/webhooks/ and
Sentry's sentry_apps package.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar
from uuid import uuid4

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import EVERY_EVENT, Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import HmacSignature, Proof

#: By resource, the key that tells its `data` from that of the others.
_TOLD_BY = {
    "comment": "comment_id",
    "error": "error",
    "event_alert": "event",
    "installation": "installation",
    "issue": "issue",
    "metric_alert": "metric_alert",
}


class Sentry(SourceType):
    """An HMAC over the raw body, bare hex, in ``Sentry-Hook-Signature``.

    The signature covers no header, so ``data`` must be of the resource that ``Sentry-Hook-Resource`` names,
    where that resource has a key of its own there. ``Request-ID`` is another at each attempt: a webhook is
    known by a hash, over the id of the event that it tells of, or over the whole.
    """

    name: ClassVar[str] = "sentry"
    guide: ClassVar[Guide] = Guide(
        title="Sentry",
        setup="""
            Open *Settings* → *Developer Settings* → *Create New Integration* → *Internal*. Set *Webhook
            URL* to the source's URL. Select the resources under *Webhooks*, or select *Alert Rule Action*
            and choose the integration in an alert. The secret is the integration's *Client Secret*.
        """,
        example="""
sources:
  sentry:
    secret: ${{ env.SENTRY_CLIENT_SECRET }}
routes:
  - source: sentry
    event: issue.created
    match:
      payload.data.issue.project.slug: api
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.data.issue.id }}
      - ${{ payload.data.issue.title }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("secret",)
    proofs: ClassVar[tuple[Proof, ...]] = (HmacSignature("Sentry-Hook-Signature"),)
    private_headers: ClassVar[tuple[str, ...]] = ("Sentry-App-Signature",)
    event_header: ClassVar[str | None] = "Sentry-Hook-Resource"
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **{resource: ("action", f"data.{key}") for resource, key in _TOLD_BY.items()},
        **dict.fromkeys(("activity_alert", "preprod_artifact", "seer"), ("action", "data")),
    }
    fields: ClassVar[Mapping[str, Inside]] = {EVERY_EVENT: fields("action actor data installation")}
    handshakes: ClassVar[tuple[str, ...]] = ("installation.created",)
    dedupe: ClassVar[float | None] = 960.0
    replayable: ClassVar[bool] = True

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable("Sentry names the resource in a header: say which, as in --event issue")
        return {
            **super().headers_for(event),
            "Sentry-Hook-Resource": event,
            "Request-ID": uuid4().hex,
        }

    def read(self, request: Request, options: Options) -> Reading:
        del options
        resource = request.headers.get("Sentry-Hook-Resource")
        if not resource:
            raise Unreadable("a Sentry webhook has Sentry-Hook-Resource")
        payload, body = read_json(request)
        data = payload.get("data") if isinstance(payload, dict) else None
        if not isinstance(data, dict):
            raise Unreadable("a Sentry webhook has an object as data")
        if resource == "installation":
            payload, body = _without_code(payload, body)
        action = text_at(payload, "action")
        return Reading(
            event=resource,
            action=action,
            payload=payload,
            body=body,
            fingerprint=_fingerprint(resource, action, payload),
            handshake=f"{resource}.{action}" in self.handshakes,
        )


def _without_code(payload: JSON, body: bytes) -> tuple[JSON, bytes]:
    """Without the code for which an installation's token is granted."""
    data = payload["data"]
    installation = data.get("installation")
    if not isinstance(installation, dict) or "code" not in installation:
        return payload, body
    kept = {key: value for key, value in installation.items() if key != "code"}
    payload = {**payload, "data": {**data, "installation": kept}}
    return payload, orjson.dumps(payload)


def _fingerprint(resource: str, action: str | None, payload: JSON) -> str:
    """A hash over what stays the same when it is sent again: Sentry may read an issue anew."""
    event = text_at(payload, "data", _TOLD_BY.get(resource, ""), "event_id")
    told = payload if event is None else [event, text_at(payload, "data", "triggered_rule")]
    return sha256(orjson.dumps([resource, action, told], option=orjson.OPT_SORT_KEYS)).hexdigest()
