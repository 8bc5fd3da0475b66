"""Gitea; and what Forgejo and Gogs have in common with it.

Source of the rules: https://docs.gitea.com/usage/webhooks and Gitea's services/webhook/deliver.go and
modules/webhook/type.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Request
from bridge.sources.base.bodies import Body, JsonBody, JsonForm, body_text
from bridge.sources.base.event_mismatch import Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import ANY, BRANCH, FILES, REF, fields, keyed, names
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, required_headers, text_at

#: The formats of all three.
_BODIES: tuple[Body, ...] = (JsonBody(), JsonForm("payload"))


@dataclass(frozen=True)
class GiteaSignature(HmacSignature):
    """An HMAC-SHA256 as bare hex over the JSON, also of a form, where GitHub signs the form's bytes."""

    def content(self, request: Request) -> bytes:
        try:
            return body_text(request, _BODIES)
        except Unreadable:
            return b""  # a form in another format has no signed part


def guide_of(brand: str) -> Guide:
    """Return the guide of the type whose headers begin with ``X-<brand>-``."""
    return Guide(
        title=brand,
        setup=f"""
            Open Repository or organization → Settings → Webhooks → Add webhook → {brand}. Set *Target URL* to
            the source's URL, *HTTP Method* (if shown) to POST, *POST Content Type* to `application/json` (a
            form also works) and *Secret* to the secret. Select the events that your routes name.
        """,
        route="""
            event: push
            match:
              payload.ref: refs/heads/main
            task_arguments:
              - ${{ payload.repository.full_name }}
              - ${{ payload.after }}
        """,
    )


#: Events of Gitea, Forgejo and Gogs.
COMMON_EVENTS: Mapping[str, tuple[str, ...]] = keyed(
    """
    create(ref ref_type) delete(ref ref_type) fork(forkee) issue_comment(action issue comment)
    issues(action issue) pull_request(action number pull_request) push(ref before after)
    release(action release)
    """
)

#: For all three. Older releases write the shorter `review.type`.
MARKERS = Markers(
    context=("repository",),
    optional=keyed(
        """
        create(sha) delete(pusher_type) issue_comment(is_pull pull_request) issues(number)
        pull_request_approved(number) pull_request_comment(number) pull_request_rejected(number)
        """
    ),
    texts={
        "review.type": {
            "pull_request": (),
            "pull_request_approved": ("pull_request_review_approved", "pull_request_approved"),
            "pull_request_comment": ("pull_request_review_comment", "pull_request_comment"),
            "pull_request_rejected": ("pull_request_review_rejected", "pull_request_rejected"),
        }
    },
)


class Gitea(SourceType):
    """A signature in ``X-Gitea-Signature``; the event in ``X-Gitea-Event``.

    It also sends the headers of Gogs and GitHub, which the bridge ignores and removes. The signature covers
    no header, so the body must fit the event.
    """

    name = "gitea"
    guide: ClassVar[Guide] = guide_of("Gitea")
    proofs = (GiteaSignature("X-Gitea-Signature"),)
    #: Older releases send the webhook's secret in the body.
    credential_fields = ("secret",)
    credential_headers = (
        "X-Forgejo-Signature", "X-Gitea-Signature", "X-Gogs-Signature", "X-Hub-Signature",
        "X-Hub-Signature-256",
    )  # fmt: skip
    event_header = "X-Gitea-Event"
    replayable = True
    id_header = "X-Gitea-Delivery"
    bodies = _BODIES
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **COMMON_EVENTS,
        **keyed(
            """
            package(action package) pull_request_approved(action pull_request review.type)
            pull_request_comment(action pull_request review.type)
            pull_request_rejected(action pull_request review.type) repository(action repository)
            status(sha state) wiki(action page) workflow_job(action workflow_job)
            workflow_run(action workflow_run)
            """
        ),
    }
    markers = MARKERS
    fields = {
        "push": fields(
            "before after compare_url total_commits head_commit repository pusher sender",
            ref=REF,
            commits=[{ANY: None, **FILES}],
        ),
        "pull_request": {ANY: None, "pull_request": {ANY: None, "base": {ANY: None, "ref": BRANCH}}},
    }
    actions = dict.fromkeys(
        ("issues", "pull_request"),
        names(
            "assigned closed deleted demilestoned edited label_cleared label_updated milestoned opened "
            "reopened review_request_removed review_requested synchronized unassigned"
        ),
    )

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        name = str(self.event_header)
        (delivery,) = required_headers(request, str(self.id_header))
        # Some versions leave the event's header empty for some events, such as a package.
        event = request.headers.get(name) or request.headers.get(f"{name}-Type")
        if not event:
            raise Unreadable(f"the request has no header {name}")
        return ParsedWebhook(event, text_at(payload, "action"), delivery)
