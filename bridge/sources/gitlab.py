"""GitLab: project, group and system hooks.

Source of the rules: https://docs.gitlab.com/user/project/integrations/webhooks/ (and webhook_events),
https://docs.gitlab.com/administration/system_hooks/ and GitLab's WebHookService.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import ClassVar

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Request
from bridge.sources.base.event_mismatch import Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import ANY, BRANCH, FILES, REF, FieldTree, fields, names
from bridge.sources.base.proofs import HeaderToken
from bridge.sources.base.source_type import (
    Options,
    ParsedWebhook,
    Replays,
    SourceType,
    required_headers,
    text_at,
)
from bridge.sources.standard_webhooks import StandardSignature

_SIGNING_ERROR = "a signing token must be whsec_ and base64; write a secret token under token:"

#: The header of every system hook.
_SYSTEM = "System Hook"

#: The event_name or object_kind of system hooks.
_SYSTEM_EVENTS = (
    "push", "tag_push", "merge_request", "repository_update", "project_create", "project_destroy",
    "project_rename", "project_transfer", "project_update", "group_create", "group_destroy", "group_rename",
    "user_create", "user_destroy", "user_rename", "user_failed_login", "user_add_to_team",
    "user_remove_from_team", "user_update_for_team", "user_add_to_group", "user_remove_from_group",
    "user_update_for_group", "user_access_request_to_project", "user_access_request_revoked_for_project",
    "user_access_request_to_group", "user_access_request_revoked_for_group", "key_create", "key_destroy",
    "gitlab_subscription_member_approval", "gitlab_subscription_member_approvals",
)  # fmt: skip

#: By the header of a project or group hook, the ``object_kind`` of its bodies.
_KINDS = {
    "Push Hook": ("push",), "Tag Push Hook": ("tag_push",), "Merge Request Hook": ("merge_request",),
    "Issue Hook": ("issue", "work_item"), "Confidential Issue Hook": ("issue", "work_item"),
    "Work Item Hook": ("issue", "work_item"), "Note Hook": ("note",), "Confidential Note Hook": ("note",),
    "Pipeline Hook": ("pipeline",), "Job Hook": ("build",), "Build Hook": ("build",),
    "Deployment Hook": ("deployment",),
    "Release Hook": ("release",), "Milestone Hook": ("milestone",), "Wiki Page Hook": ("wiki_page",),
    "Feature Flag Hook": ("feature_flag",), "Emoji Hook": ("emoji",),
    "Vulnerability Hook": ("vulnerability",), "Resource Access Token Hook": ("access_token",),
    "Resource Deploy Token Hook": ("deploy_token",), "Member Hook": (), "Project Hook": (),
    "Subgroup Hook": (),
}  # fmt: skip
#: The header of project and group hooks.
_HOOKS = tuple(_KINDS)
#: By hook, the ``event_name`` of its bodies.
_EVENT_NAMES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_HOOKS, ()),
    "Push Hook": ("push",),
    "Tag Push Hook": ("tag_push",),
    "Member Hook": (
        "user_add_to_group", "user_update_for_group", "user_remove_from_group",
        "user_access_request_to_group", "user_access_request_revoked_for_group",
    ),
    "Project Hook": ("project_create", "project_destroy"),
    "Subgroup Hook": ("subgroup_create", "subgroup_destroy"),
}  # fmt: skip

_NAMED_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "Issue Hook": ("open", "close", "reopen", "update"),
    "Merge Request Hook": names(
        "open close reopen update approved unapproved approval unapproval merge"
    ),
    "Pipeline Hook": names(
        "created waiting_for_resource preparing pending running success failed canceled canceling skipped "
        "manual scheduled waiting_for_callback"
    ),
}  # fmt: skip

#: Fields with the action or the state: the first that exists.
_ACTIONS = (
    ("object_attributes", "action"), ("object_attributes", "status"), ("action",), ("build_status",),
    ("status",),
)  # fmt: skip

_LABEL = fields("title *")
#: Fields of every event of a project. The name of a subgroup has several slashes, and no scheme.
_ALL = fields(
    "*", project=fields("*", path_with_namespace=("*/*", "!*:*")), user=fields("username *"),
    repository=fields("name url description homepage git_http_url git_ssh_url visibility_level"),
)  # fmt: skip


class GitLab(SourceType):
    """A token in ``X-Gitlab-Token``, or a signature of Standard Webhooks, or both.

    The header names the event, since a user's template may leave any field out of the body. If the body names
    its kind, it must fit the header. ``X-Gitlab-Webhook-UUID`` differs between attempts, and several webhooks
    share an ``X-Gitlab-Event-UUID``: neither identifies a webhook.
    """

    name = "gitlab"
    guide = Guide(
        title="GitLab",
        setup="""
            Open Project or group → Settings → Webhooks → Add new webhook (for the whole instance: Admin →
            System hooks). Set *URL* to the source's URL and *Secret token* to the token. Select the
            triggers that your routes name. GitLab 19.0 and newer can create a *signing token* there, which
            is safer: write it as `secret:` instead of `token:`. While you move your webhooks to it, write
            both under `any_of:`.
        """,
        route="""
            event: Pipeline Hook.failed
            match:
              payload.object_attributes.ref: main
            task_arguments:
              - ${{ payload.project.path_with_namespace }}
              - ${{ payload.object_attributes.sha }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (
        HeaderToken("X-Gitlab-Token"), StandardSignature(error_text=_SIGNING_ERROR),
    )  # fmt: skip
    event_header = "X-Gitlab-Event"
    id_header = "webhook-id"
    events = dict.fromkeys((*_HOOKS, "Service Hook", *_SYSTEM_EVENTS), ())
    retired_events = ("Build Hook",)
    markers = Markers(texts={"object_kind": _KINDS, "event_name": _EVENT_NAMES})
    actions = _NAMED_ACTIONS
    fields: ClassVar[Mapping[str, FieldTree]] = {
        "Push Hook": {**_ALL, "ref": REF[:1], "commits": [{ANY: None, **FILES}]},
        "Tag Push Hook": {**_ALL, "ref": REF[1:]},
        "Merge Request Hook": {
            **_ALL, "labels": [_LABEL],
            "object_attributes": {
                ANY: None, "source_branch": BRANCH, "target_branch": BRANCH, "labels": [_LABEL],
                "action": _NAMED_ACTIONS["Merge Request Hook"],
            },
        },
        "Issue Hook": {**_ALL, "labels": [_LABEL], "object_attributes": {ANY: None, "labels": [_LABEL]}},
        "Pipeline Hook": {
            **_ALL,
            "object_attributes": {ANY: None, "ref": BRANCH, "status": _NAMED_ACTIONS["Pipeline Hook"]},
        },
    }  # fmt: skip
    dedupe = 30.0
    replayable = True

    def headers_for(self, event: str | None) -> dict[str, str]:
        headers = super().headers_for(event)
        if not headers["X-Gitlab-Event"].endswith(" Hook"):
            headers["X-Gitlab-Event"] = _SYSTEM
        return {**headers, "Idempotency-Key": headers["webhook-id"]}

    def default_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        # The signature of Standard Webhooks covers webhook-id.
        return None if "secret" in proofs else super().default_replays(options, proofs)

    def route_warning(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        del loops
        for event in events:
            hook = f"{event.replace('_', ' ').title()} Hook"
            if event in _SYSTEM_EVENTS and hook in _HOOKS and hook not in events:
                message = f"{event} is an event of system hooks; project and group hooks send {hook}"
                return message, f"write event: {hook}, or both"
        return None

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        (event,) = required_headers(request, "X-Gitlab-Event")
        if event in _SYSTEM_EVENTS:
            reason = f"{event} is an event of system hooks"
            raise Unreadable(f"X-Gitlab-Event is {event}; expected {_SYSTEM}, because {reason}")
        if event == _SYSTEM:
            event = text_at(payload, "event_name") or text_at(payload, "object_kind") or event
        return ParsedWebhook(
            event,
            _action(payload),
            # Their values are equal, but only webhook-id is signed.
            request.headers.get("webhook-id") or request.headers.get("Idempotency-Key"),
            fingerprint=sha256(event.encode() + b"\n" + request.body).hexdigest(),
        )


def _action(payload: JSON) -> str | None:
    return next((text for path in _ACTIONS if (text := text_at(payload, *path))), None)
