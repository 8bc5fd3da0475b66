"""Bitbucket Cloud: repository and workspace webhooks.

Source of the rules: https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/ and
https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/
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
from bridge.sources.recognition import Marks
from bridge.sources.signatures import HmacSignature, Proof


class Bitbucket(SourceType):
    """An HMAC-SHA256 over the raw body in ``X-Hub-Signature``, a name without the ``-256`` of GitHub's.

    ``X-Hook-UUID`` names the hook and proves nothing. The signature covers no header, so a body must be
    one of the event that ``X-Event-Key`` names.
    """

    name: ClassVar[str] = "bitbucket"
    guide: ClassVar[Guide] = Guide(
        title="Bitbucket Cloud",
        setup="""
            Open Repository (or workspace) settings → Webhooks → Add webhook. Set *URL* to the source's URL
            and *Secret* to the secret. Select the triggers that your routes name.
        """,
        example="""
sources:
  bitbucket:
    secret: ${{ env.BITBUCKET_WEBHOOK_SECRET }}
routes:
  - source: bitbucket
    event: repo:push
    loop: payload.push.changes
    when: item.new.type == "branch"
    match:
      item.new.name: main
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.repository.full_name }}
      - ${{ item.new.target.hash }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (HmacSignature("X-Hub-Signature", "sha256", "sha256="),)
    event_header: ClassVar[str | None] = "X-Event-Key"
    replayable: ClassVar[bool] = True
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "issue:comment_created": ("issue", "comment"),
        "issue:created": ("issue",),
        "issue:updated": ("issue",),
        "project:updated": (),
        "pullrequest:approved": ("pullrequest", "approval"),
        "pullrequest:changes_request_created": ("pullrequest", "changes_request"),
        "pullrequest:changes_request_removed": ("pullrequest", "changes_request"),
        "pullrequest:comment_created": ("pullrequest", "comment"),
        "pullrequest:comment_deleted": ("pullrequest", "comment"),
        "pullrequest:comment_reopened": ("pullrequest", "comment"),
        "pullrequest:comment_resolved": ("pullrequest", "comment"),
        "pullrequest:comment_updated": ("pullrequest", "comment"),
        "pullrequest:created": ("pullrequest",),
        "pullrequest:fulfilled": ("pullrequest",),
        "pullrequest:rejected": ("pullrequest",),
        "pullrequest:unapproved": ("pullrequest", "approval"),
        "pullrequest:updated": ("pullrequest",),
        "repo:commit_comment_created": ("repository", "comment"),
        "repo:commit_status_created": ("repository", "commit_status"),
        "repo:commit_status_updated": ("repository", "commit_status"),
        "repo:created": ("repository",),
        "repo:deleted": ("repository",),
        "repo:fork": ("repository", "fork"),
        "repo:imported": ("repository",),
        "repo:push": ("repository", "push"),
        "repo:transfer": ("repository",),
        "repo:updated": ("repository", "changes"),
    }
    marks: ClassVar[Marks | None] = Marks(
        context=("repository",),
        optional={"issue:updated": ("changes",), "project:updated": ("changes", "project")},
        texts={
            "pullrequest.state": {
                "pullrequest:created": ("OPEN",),
                "pullrequest:fulfilled": ("MERGED",),
                "pullrequest:rejected": ("DECLINED",),
            }
        },
    )
    fields: ClassVar[Mapping[str, Inside]] = {
        "repo:push": fields(
            "actor repository",
            push={"changes": [fields("old new created closed forced commits truncated links")]},
        )
    }

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable("Bitbucket names the event in a header: say which, as in --event repo:push")
        return {**super().headers_for(event), "X-Event-Key": event, "X-Request-UUID": str(uuid4())}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        event = request.headers.get("X-Event-Key")
        delivery = request.headers.get("X-Request-UUID")
        if not event or not delivery:
            raise Unreadable("a Bitbucket webhook has X-Event-Key and X-Request-UUID")
        payload, body = read_json(request)
        return Reading(event=event, action=None, payload=payload, body=body, delivery_id=delivery)
