"""Bitbucket Cloud: repository and workspace webhooks.

Source of the rules: https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/ and
https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/
"""

from __future__ import annotations

from bridge.core.event import JSON, Request
from bridge.sources.base.event_mismatch import Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import ANY, BRANCH, FieldTree, fields, keyed
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, required_headers

#: A branch or tag before or after a push.
_REF: FieldTree = {ANY: None, "name": BRANCH}


class Bitbucket(SourceType):
    """An HMAC-SHA256 over the raw body in ``X-Hub-Signature``, without GitHub's ``-256``.

    The signature covers no header, so the body must fit the event in ``X-Event-Key``.
    """

    name = "bitbucket"
    guide = Guide(
        title="Bitbucket Cloud",
        setup="""
            Open Repository (or workspace) settings → Webhooks → Add webhook. Set *URL* to the source's URL
            and *Secret* to the secret. Select the triggers that your routes name.
        """,
        route="""
            event: repo:push
            loop: payload.push.changes
            when: item.new.type == "branch"
            match:
              item.new.name: main
            task_arguments:
              - ${{ payload.repository.full_name }}
              - ${{ item.new.target.hash }}
        """,
    )
    proofs = (HmacSignature("X-Hub-Signature", "sha256", "sha256="),)
    event_header = "X-Event-Key"
    id_header = "X-Request-UUID"
    replayable = True
    events = keyed(
        """
        issue:comment_created(issue comment) issue:created(issue) issue:updated(issue) project:updated()
        pullrequest:approved(pullrequest approval)
        pullrequest:changes_request_created(pullrequest changes_request)
        pullrequest:changes_request_removed(pullrequest changes_request)
        pullrequest:comment_created(pullrequest comment) pullrequest:comment_deleted(pullrequest comment)
        pullrequest:comment_reopened(pullrequest comment) pullrequest:comment_resolved(pullrequest comment)
        pullrequest:comment_updated(pullrequest comment) pullrequest:created(pullrequest)
        pullrequest:fulfilled(pullrequest) pullrequest:rejected(pullrequest)
        pullrequest:unapproved(pullrequest approval) pullrequest:updated(pullrequest)
        repo:commit_comment_created(repository comment) repo:commit_status_created(repository commit_status)
        repo:commit_status_updated(repository commit_status) repo:created(repository) repo:deleted(repository)
        repo:fork(repository fork) repo:imported(repository) repo:push(repository push)
        repo:transfer(repository) repo:updated(repository changes)
        """
    )
    markers = Markers(
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
    fields = {
        "repo:push": fields(
            "actor repository",
            push={"changes": [fields("created closed forced commits truncated links", old=_REF, new=_REF)]},
        )
    }

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del payload
        event, delivery = required_headers(request, "X-Event-Key", "X-Request-UUID")
        return ParsedWebhook(event, delivery_id=delivery)
