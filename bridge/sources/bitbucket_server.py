"""Bitbucket Data Center and Server: repository and project webhooks.

Source of the rules: https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html and
https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from uuid import uuid4

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import Options, Reading, SourceType, read_json
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import BasicAuth, HmacSignature, Proof

#: What *Test connection* sends.
_TEST = "diagnostics:ping"


class BitbucketServer(SourceType):
    """An HMAC-SHA256 over the raw body in ``X-Hub-Signature``, or basic auth, or both.

    *Test connection* is not signed, though the hook has a secret: it is answered and not stored. The
    signature covers no header, so the body's ``eventKey`` must be what ``X-Event-Key`` says.
    """

    name: ClassVar[str] = "bitbucket-server"
    guide: ClassVar[Guide] = Guide(
        title="Bitbucket Data Center and Server",
        setup="""
            Open Repository (or project) settings → Webhooks → Create webhook. Set *URL* to the source's URL
            and *Secret* to the secret. Select the events that your routes name. If your version offers
            basic authentication for webhooks, you can use `basic_auth:` instead. *Test connection* must
            show 200.
        """,
        example="""
sources:
  bitbucket:
    type: bitbucket-server
    secret: ${{ env.BITBUCKET_WEBHOOK_SECRET }}
routes:
  - source: bitbucket
    event: repo:refs_changed
    loop: payload.changes
    match:
      item.refId: refs/heads/main
      item.type: {not: DELETE}
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.repository.project.key }}/${{ payload.repository.slug }}
      - ${{ item.toHash }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature("X-Hub-Signature", "sha256", "sha256="), BasicAuth(),
    )  # fmt: skip
    event_header: ClassVar[str | None] = "X-Event-Key"
    replayable: ClassVar[bool] = True
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mirror:repo_synchronized": ("repository",),
        "pr:comment:added": ("pullRequest", "comment"),
        "pr:comment:deleted": ("pullRequest", "comment"),
        "pr:comment:edited": ("pullRequest", "comment"),
        "pr:declined": ("pullRequest",),
        "pr:deleted": ("pullRequest",),
        "pr:from_ref_updated": ("pullRequest",),
        "pr:merged": ("pullRequest",),
        "pr:modified": ("pullRequest",),
        "pr:opened": ("pullRequest",),
        "pr:reviewer:approved": ("pullRequest", "participant"),
        "pr:reviewer:changes_requested": ("pullRequest",),
        "pr:reviewer:needs_work": ("pullRequest", "participant"),
        "pr:reviewer:unapproved": ("pullRequest", "participant"),
        "pr:reviewer:updated": ("pullRequest",),
        "pr:to_ref_updated": ("pullRequest",),
        "project:modified": ("old", "new"),
        "repo:comment:added": ("repository", "comment"),
        "repo:comment:deleted": ("repository", "comment"),
        "repo:comment:edited": ("repository", "comment"),
        "repo:forked": ("repository",),
        "repo:modified": ("old", "new"),
        "repo:refs_changed": ("repository", "changes"),
        "repo:secret_detected": (),
    }
    fields: ClassVar[Mapping[str, Inside]] = {
        "repo:refs_changed": fields(
            "eventKey date actor repository commits toCommit",
            changes=[fields("refId fromHash toHash type", ref=fields("id displayId type"))],
        )
    }

    handshakes: ClassVar[tuple[str, ...]] = (_TEST,)

    def is_unsigned_test(self, request: Request) -> bool:
        return request.headers.get("X-Event-Key") == _TEST

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable("Bitbucket names the event in a header: say which, as in --event pr:opened")
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Event-Key": event,
            "X-Request-Id": str(uuid4()),
        }

    def read(self, request: Request, options: Options) -> Reading:
        del options
        event = request.headers.get("X-Event-Key")
        delivery = request.headers.get("X-Request-Id")
        if not event or not delivery:
            raise Unreadable("a Bitbucket Data Center webhook has X-Event-Key and X-Request-Id")
        payload, body = read_json(request)
        if isinstance(payload, dict) and payload.get("eventKey", event) != event:
            raise Unreadable("X-Event-Key is not the eventKey of the body")
        return Reading(event=event, action=None, payload=payload, body=body, delivery_id=delivery)
