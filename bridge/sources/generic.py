"""Any sender of JSON that can sign it, or send a token, a bearer token or basic auth."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

import orjson

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Request, rfc3339
from bridge.core.fields import Path
from bridge.core.json_values import Absent, json_type
from bridge.sources.base.guide import Guide
from bridge.sources.base.proofs import BasicAuth, BearerToken, HeaderToken, HmacSignature, UrlToken
from bridge.sources.base.source_type import Options, ParsedWebhook, Replays, SourceType


class Generic(SourceType):
    """The table's field paths name the event, the action and the delivery id.

    Without a path, the event is ``event``. Without a delivery id, a hash over these and the body identifies
    the webhook.
    """

    name = "generic"
    guide = Guide(
        title="Any other sender",
        is_one_sender=False,
        setup="""
            Send JSON with POST to the source's URL, with one of the credentials. For `secret:`, describe
            the signature under `signature:` with `header`, `algorithm` (default: sha256), `encoding`
            (default: hex) and `prefix`. If the sender also signs the time, add `timestamp_header` and
            `signed` (default: `{ts}.{body}`). For a single header such as `t=1767225600,v1=…`, write its
            name as `header` and as `timestamp_header`, and set `prefix: v1=`. If the body has the time,
            add `timestamp_field`.
        """,
        source="backup",
        source_keys="""
            signature: {header: X-Signature, prefix: sha256=}
            event: payload.kind
            delivery_id: headers["X-Backup-Id"]
            replays: note
        """,
        route="""
            event: "*.failed"
            task_arguments:
              - ${{ payload.host }}
        """,
    )
    proofs = (
        HmacSignature("X-Signature"), HeaderToken("X-Token"), BearerToken(), BasicAuth(), UrlToken(),
    )  # fmt: skip
    options = ("header", "event", "action", "delivery_id", "signature")
    dedupe = 30.0
    replayable = True

    def default_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        # An id in the body is signed with it. Without an id, a sender may repeat a body on purpose.
        is_unsigned = options.delivery_id is not None and options.delivery_id.root != "payload"
        return super().default_replays(options, proofs) if is_unsigned else None

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        return self.read_with(request, payload, Options())

    def read_with(self, request: Request, payload: JSON, options: Options) -> ParsedWebhook:
        scope = {
            "payload": payload,
            "headers": request.headers,
            "query": request.query,
            "received_at": rfc3339(request.received_at),
        }
        event = _name(options.event, scope, "event")
        if options.event is not None and event is None:
            raise Unreadable(f"{options.event.text} is missing; it must contain the event")
        action = _name(options.action, scope, "action")
        delivery = _name(options.delivery_id, scope, "delivery id")
        if options.delivery_id is not None and delivery is None:
            raise Unreadable(f"{options.delivery_id.text} is missing; it must contain the delivery id")
        fingerprint = sha256(orjson.dumps([event, action]) + request.body).hexdigest()
        return ParsedWebhook(event or "event", action, delivery, fingerprint)


def _name(path: Path | None, scope: dict[str, JSON], what: str) -> str | None:
    """Return the text or number at `path` as text, or None. Raises Unreadable."""
    value = path.value(scope) if path is not None else None
    if value is None or value == "" or isinstance(value, Absent):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable(f"the {what} at {path.text if path else ''} is {json_type(value)}, expected text")
    return str(value)
