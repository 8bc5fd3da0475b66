"""Bitbucket Data Center and Server: repository and project webhooks.

Source of the rules: https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html and
https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html
"""

from __future__ import annotations

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import BRANCH, REF, fields, keyed
from bridge.sources.base.proofs import BasicAuth, HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, required_headers

#: The event of *Test connection*.
_TEST = "diagnostics:ping"
_CHANGE = fields(
    "fromHash toHash", refId=REF, type=("ADD", "DELETE", "UPDATE"),
    ref=fields("type", id=REF, displayId=BRANCH),
)  # fmt: skip


class BitbucketServer(SourceType):
    """An HMAC-SHA256 over the raw body in ``X-Hub-Signature``, or basic auth, or both.

    *Test connection* is never signed, so the bridge answers and does not store it. The signature covers no
    header, so the body's ``eventKey`` must equal ``X-Event-Key``.
    """

    name = "bitbucket-server"
    guide = Guide(
        title="Bitbucket Data Center and Server",
        setup="""
            Open Repository (or project) settings → Webhooks → Create webhook. Set *URL* to the source's URL
            and *Secret* to the secret. Select the events that your routes name. If your version offers
            basic authentication for webhooks, you can use `basic_auth:` instead. *Test connection* must
            show 200.
        """,
        route="""
            event: repo:refs_changed
            loop: payload.changes
            match:
              item.refId: refs/heads/main
              item.type: {not: DELETE}
            task_arguments:
              - ${{ payload.repository.project.key }}/${{ payload.repository.slug }}
              - ${{ item.toHash }}
        """,
    )
    proofs = (
        HmacSignature("X-Hub-Signature", "sha256", "sha256="), BasicAuth(),
    )  # fmt: skip
    event_header = "X-Event-Key"
    id_header = "X-Request-Id"
    replayable = True
    events = keyed(
        """
        mirror:repo_synchronized(repository) pr:comment:added(pullRequest comment)
        pr:comment:deleted(pullRequest comment) pr:comment:edited(pullRequest comment)
        pr:declined(pullRequest) pr:deleted(pullRequest) pr:from_ref_updated(pullRequest)
        pr:merged(pullRequest) pr:modified(pullRequest) pr:opened(pullRequest)
        pr:reviewer:approved(pullRequest participant) pr:reviewer:changes_requested(pullRequest)
        pr:reviewer:needs_work(pullRequest participant) pr:reviewer:unapproved(pullRequest participant)
        pr:reviewer:updated(pullRequest) pr:to_ref_updated(pullRequest) project:modified(old new)
        repo:comment:added(repository comment) repo:comment:deleted(repository comment)
        repo:comment:edited(repository comment) repo:forked(repository) repo:modified(old new)
        repo:refs_changed(repository changes) repo:secret_detected()
        """
    )
    fields = {
        "repo:refs_changed": fields("eventKey date actor repository commits toCommit", changes=[_CHANGE])
    }
    setup_events = (_TEST,)

    def is_unsigned_test(self, request: Request) -> bool:
        return request.headers.get("X-Event-Key") == _TEST

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        event, delivery = required_headers(request, "X-Event-Key", "X-Request-Id")
        if isinstance(payload, dict) and payload.get("eventKey", event) != event:
            raise Unreadable("X-Event-Key is not the eventKey of the body")
        return ParsedWebhook(event, delivery_id=delivery)
