"""GitLab: project, group and system hooks.

Source of the rules: https://docs.gitlab.com/user/project/integrations/webhooks/ (and webhook_events),
https://docs.gitlab.com/administration/system_hooks/ and GitLab's WebHookService.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import ClassVar
from uuid import uuid4

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, Replays, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.recognition import Marks
from bridge.sources.signatures import HeaderToken, Proof
from bridge.sources.standard_webhooks import StandardSignature

#: What is said of a secret that is none.
_FLAWED = "a signing token is whsec_ and base64, found another; a secret token stands under token:"

#: What a system hook's header says, whatever happened.
_SYSTEM = "System Hook"

#: What a project's or group's hook may say in X-Gitlab-Event.
_HOOKS = (
    "Push Hook", "Tag Push Hook", "Merge Request Hook", "Issue Hook", "Confidential Issue Hook",
    "Work Item Hook", "Note Hook", "Confidential Note Hook", "Pipeline Hook", "Job Hook", "Deployment Hook",
    "Release Hook", "Milestone Hook", "Wiki Page Hook", "Feature Flag Hook", "Emoji Hook", "Member Hook",
    "Project Hook", "Subgroup Hook", "Vulnerability Hook", "Resource Access Token Hook",
    "Resource Deploy Token Hook",
)  # fmt: skip

#: What a system hook's body may say as its event_name, or as its object_kind.
_SYSTEM_EVENTS = (
    "push", "tag_push", "merge_request", "repository_update", "project_create", "project_destroy",
    "project_rename", "project_transfer", "project_update", "group_create", "group_destroy", "group_rename",
    "user_create", "user_destroy", "user_rename", "user_failed_login", "user_add_to_team",
    "user_remove_from_team", "user_update_for_team", "user_add_to_group", "user_remove_from_group",
    "user_update_for_group", "user_access_request_to_project", "user_access_request_revoked_for_project",
    "user_access_request_to_group", "user_access_request_revoked_for_group", "key_create", "key_destroy",
    "gitlab_subscription_member_approval", "gitlab_subscription_member_approvals",
)  # fmt: skip

#: Which of a body's ``object_kind`` go with a hook; of Member, Project and Subgroup it has none.
_KINDS = {
    "Push Hook": ("push",), "Tag Push Hook": ("tag_push",), "Merge Request Hook": ("merge_request",),
    "Issue Hook": ("issue", "work_item"), "Confidential Issue Hook": ("issue", "work_item"),
    "Work Item Hook": ("issue", "work_item"), "Note Hook": ("note",), "Confidential Note Hook": ("note",),
    "Pipeline Hook": ("pipeline",), "Job Hook": ("build",), "Deployment Hook": ("deployment",),
    "Release Hook": ("release",), "Milestone Hook": ("milestone",), "Wiki Page Hook": ("wiki_page",),
    "Feature Flag Hook": ("feature_flag",), "Emoji Hook": ("emoji",),
    "Vulnerability Hook": ("vulnerability",), "Resource Access Token Hook": ("access_token",),
    "Resource Deploy Token Hook": ("deploy_token",), "Member Hook": (), "Project Hook": (),
    "Subgroup Hook": (),
}  # fmt: skip
#: Which of a body's ``event_name`` go with a hook.
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

#: Where a body says what was done, or how it stands: the first that is there.
_ACTIONS = (
    ("object_attributes", "action"), ("object_attributes", "status"), ("action",), ("build_status",),
    ("status",),
)  # fmt: skip


class GitLab(SourceType):
    """A token as it is in ``X-Gitlab-Token``, or a signature of Standard Webhooks, or both.

    The header names the event, for a user may write the body's template and leave anything out of it;
    for that reason no key is asked for either. A body that says what it is must be what the header says.
    ``X-Gitlab-Webhook-UUID`` differs each time that a webhook is sent and ``X-Gitlab-Event-UUID`` is shared
    by different ones: neither identifies it.
    """

    name: ClassVar[str] = "gitlab"
    guide: ClassVar[Guide] = Guide(
        title="GitLab",
        setup="""
            Open Project or group → Settings → Webhooks → Add new webhook (for the whole instance: Admin →
            System hooks). Set *URL* to the source's URL and *Secret token* to the token. Select the
            triggers that your routes name. GitLab 19.0 and newer can create a *signing token* there, which
            is safer: write it as `secret:` instead of `token:`. While you move your webhooks to it, write
            both under `any_of:`.
        """,
        example="""
sources:
  gitlab:
    token: ${{ env.GITLAB_WEBHOOK_TOKEN }}
routes:
  - source: gitlab
    event: Pipeline Hook.failed
    match:
      payload.object_attributes.ref: main
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.project.path_with_namespace }}
      - ${{ payload.object_attributes.sha }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("secret",)
    proofs: ClassVar[tuple[Proof, ...]] = (
        HeaderToken("X-Gitlab-Token"), StandardSignature(flawed=_FLAWED),
    )  # fmt: skip
    event_header: ClassVar[str | None] = "X-Gitlab-Event"
    events: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys((*_HOOKS, *_SYSTEM_EVENTS), ())
    marks: ClassVar[Marks | None] = Marks(texts={"object_kind": _KINDS, "event_name": _EVENT_NAMES})
    dedupe: ClassVar[float | None] = 30.0
    replayable: ClassVar[bool] = True

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable("GitLab names the event in a header: say which, as in --event 'Push Hook'")
        delivery = str(uuid4())
        return {
            **super().headers_for(event),
            "X-Gitlab-Event": event if event.endswith(" Hook") else _SYSTEM,
            "Idempotency-Key": delivery,
            "webhook-id": delivery,
        }

    def usual_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        # A signature of Standard Webhooks covers webhook-id.
        return None if "secret" in proofs else super().usual_replays(options, proofs)

    def advice(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        del loops
        for event in events:
            hook = f"{event.replace('_', ' ').title()} Hook"
            if event in _SYSTEM_EVENTS and hook in _HOOKS and hook not in events:
                message = f"{event} is what a system hook says; a project's or group's says {hook}"
                return message, f"write event: {hook}, or both"
        return None

    def read(self, request: Request, options: Options) -> Reading:
        del options
        event = request.headers.get("X-Gitlab-Event")
        if not event:
            raise Unreadable("a GitLab webhook has X-Gitlab-Event")
        payload, body = read_json(request)
        if event in _SYSTEM_EVENTS:
            raise Unreadable(f"X-Gitlab-Event is {event}, which GitLab sends as {_SYSTEM}")
        if event == _SYSTEM:
            event = text_at(payload, "event_name") or text_at(payload, "object_kind") or event
        return Reading(
            event=event,
            action=_action(payload),
            payload=payload,
            body=body,
            # Both are the same where both come, but only webhook-id is signed.
            delivery_id=request.headers.get("webhook-id") or request.headers.get("Idempotency-Key"),
            fingerprint=sha256(event.encode() + b"\n" + body).hexdigest(),
        )


def _action(payload: JSON) -> str | None:
    return next((text for path in _ACTIONS if (text := text_at(payload, *path))), None)
