"""Any sender of JSON that can sign it, or send a token, a bearer token or basic auth."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import ClassVar

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON, Request, rfc3339
from bridge.fields import Absent, Path, kind
from bridge.sources import Options, Reading, Replays, SourceType, read_json
from bridge.sources.guide import Guide
from bridge.sources.signatures import BasicAuth, BearerToken, HeaderToken, HmacSignature, Proof, UrlToken


class Generic(SourceType):
    """Event, action and delivery id stand where the table's field paths say.

    Without a path the event is ``event``. Without a delivery id a hash over these and the body stands for it.
    """

    name: ClassVar[str] = "generic"
    guide: ClassVar[Guide] = Guide(
        title="Any other sender",
        setup="""
            Send JSON with POST to the source's URL, with one of the credentials. For `secret:`, describe
            the signature under `signature:` with `header`, `algorithm` (sha256), `encoding` (hex) and
            `prefix`. If the time is signed too, add `timestamp_header` and `signed` (`{ts}.{body}`).
        """,
        example="""
sources:
  backup:
    type: generic
    secret: ${{ env.BACKUP_SECRET }}
    signature: {header: X-Signature, prefix: sha256=}
    event: payload.kind
    delivery_id: headers["X-Backup-Id"]
routes:
  - source: backup
    event: "*.failed"
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.host }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature("X-Signature"), HeaderToken("X-Token"), BearerToken(), BasicAuth(), UrlToken(),
    )  # fmt: skip
    options: ClassVar[tuple[str, ...]] = ("header", "event", "action", "delivery_id", "signature")
    dedupe: ClassVar[float | None] = 30.0
    replayable: ClassVar[bool] = True

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        signature, token, *others = self.proofs
        return (options.signature or signature, HeaderToken(options.header or token.header), *others)

    def usual_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        # An id in the body is signed with it. Without an id, a body may well come again on purpose.
        is_unsigned = options.delivery_id is not None and options.delivery_id.root != "payload"
        return super().usual_replays(options, proofs) if is_unsigned else None

    def read(self, request: Request, options: Options) -> Reading:
        payload, body = read_json(request)
        scope = {
            "payload": payload,
            "headers": request.headers,
            "query": request.query,
            "received_at": rfc3339(request.received_at),
        }
        event = _name(options.event, scope, "event")
        if options.event is not None and event is None:
            raise Unreadable(f"{options.event.text} is missing, where the event stands")
        action = _name(options.action, scope, "action")
        delivery = _name(options.delivery_id, scope, "delivery id")
        if options.delivery_id is not None and delivery is None:
            raise Unreadable(f"{options.delivery_id.text} is missing, where the delivery id stands")
        return Reading(
            event=event or "event",
            action=action,
            payload=payload,
            body=body,
            delivery_id=delivery,
            fingerprint=sha256(orjson.dumps([event, action]) + body).hexdigest(),
        )


def _name(path: Path | None, scope: dict[str, JSON], what: str) -> str | None:
    """The text or number at `path`; None where nothing stands there. Raises Unreadable."""
    value = path.value(scope) if path is not None else None
    if value is None or value == "" or isinstance(value, Absent):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable(f"the {what} at {path.text if path else ''} is {kind(value)}, expected text")
    return str(value)
