"""Zoom: event subscriptions of an app.

Source of the rules: https://developers.zoom.us/docs/api/webhooks/ (validating, verifying, retries).
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import ClassVar

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import HmacSignature, Proof, secret_bytes

_VALIDATION = "endpoint.url_validation"


class Zoom(SourceType):
    """An HMAC over ``v0:<time>:<body>`` in ``x-zm-signature``.

    The answer to a validation is an HMAC, with the same key, of what its sender chose: given to anybody
    it would sign for them, so only a signed one is answered. A webhook has no id: a hash over event, time
    and payload stands for it.
    """

    name: ClassVar[str] = "zoom"
    guide: ClassVar[Guide] = Guide(
        title="Zoom",
        setup="""
            marketplace.zoom.us → *Develop* → your app → *Features* → *Access*: copy the *Secret Token*; under
            *Event Subscriptions* the source's URL is the *Event notification endpoint URL*. Let the bridge
            run with the token, then press *Validate*.
        """,
        example="""
sources:
  zoom:
    secret: ${{ env.ZOOM_SECRET_TOKEN }}
routes:
  - source: zoom
    event: recording.completed
    match:
      payload.payload.account_id: AAAAAABBBB
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.payload.object.uuid }}
""",
        events="the body's `event`, such as `meeting.started`; no action.",
        identity="""
            none that it sends. A hash over event, `event_ts` and payload stands for it, for 2 h (`dedupe:`).
        """,
        repeats="""
            Zoom waits 3 s and sends again 5, 25 and 85 min after the first time. It asks for
            `endpoint.url_validation` again every 72 h, which the bridge answers.
        """,
        traps=(
            "What Zoom tells is in its body's own `payload`: `payload.payload.object`.",
            "A `download_token` is taken out: download recordings with an access token of your own.",
            "A time more than 300 s from now is refused.",
        ),
    )
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature(
            "x-zm-signature",
            prefix="v0=",
            timestamp_header="x-zm-request-timestamp",
            signed="v0:{ts}:{body}",
        ),
    )
    private_keys: ClassVar[tuple[str, ...]] = ("download_token",)
    dedupe: ClassVar[float | None] = 7200.0

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event = text_at(payload, "event")
        if event is None:
            raise Unreadable("a Zoom webhook has its event's name as event")
        if event == _VALIDATION and text_at(payload, "payload", "plainToken") is None:
            raise Unreadable(f"a Zoom {_VALIDATION} has payload.plainToken, found no text there")
        told = [event, payload.get("event_ts"), payload.get("payload")]
        return Reading(
            event=event,
            action=None,
            payload=payload,
            body=body,
            fingerprint=sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest(),
            handshake=event == _VALIDATION,
        )

    def reply(self, reading: Reading) -> dict[str, JSON] | None:
        if not reading.handshake or not reading.secrets:
            return None
        token: str = reading.payload["payload"]["plainToken"]
        digest = hmac.new(secret_bytes(reading.secrets[0]), token.encode(), "sha256").hexdigest()
        return {"plainToken": token, "encryptedToken": digest}
