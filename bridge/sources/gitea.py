"""Gitea; and what Forgejo and Gogs have in common with it.

Source of the rules: https://docs.gitea.com/usage/webhooks and Gitea's services/webhook/deliver.go and
modules/webhook/type.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import Options, Reading, SourceType, text_at
from bridge.sources.bodies import Body, JsonBody, JsonForm, body_text, read_body
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.recognition import Marks
from bridge.sources.signatures import HmacSignature, Proof

#: What each of the three sends.
_BODIES: tuple[Body, ...] = (JsonBody(), JsonForm("payload"))


@dataclass(frozen=True)
class GiteaSignature(HmacSignature):
    """An HMAC-SHA256 as bare hex, over the JSON: in a form too, where GitHub signs the form's bytes."""

    def content(self, request: Request) -> bytes:
        try:
            return body_text(request, _BODIES)
        except Unreadable:
            return b""  # a form of another shape holds nothing that is signed


def guide_of(brand: str) -> Guide:
    """Return the guide of the type whose headers begin with ``X-<brand>-``."""
    return Guide(
        title=brand,
        setup=f"""
            Open Repository or organization → Settings → Webhooks → Add webhook → {brand}. Set *Target URL* to
            the source's URL, *HTTP Method* (if shown) to POST, *POST Content Type* to `application/json` (a
            form also works) and *Secret* to the secret. Select the events that your routes name.
        """,
        example=f"""
sources:
  {brand.lower()}:
    secret: ${{{{ env.{brand.upper()}_WEBHOOK_SECRET }}}}
routes:
  - source: {brand.lower()}
    event: push
    match:
      payload.ref: refs/heads/main
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{{{ env.TASK_KEY }}}}
    task_arguments:
      - ${{{{ payload.repository.full_name }}}}
      - ${{{{ payload.after }}}}
""",
    )


#: In both lists of events.
COMMON_EVENTS: Mapping[str, tuple[str, ...]] = {
    "create": ("ref", "ref_type"),
    "delete": ("ref", "ref_type"),
    "fork": ("forkee",),
    "issue_comment": ("action", "issue", "comment"),
    "issues": ("action", "issue"),
    "pull_request": ("action", "number", "pull_request"),
    "push": ("ref", "before", "after"),
    "release": ("action", "release"),
}

#: For all three. In `review.type` older releases write the shorter text.
MARKS = Marks(
    context=("repository",),
    optional={
        "create": ("sha",),
        "delete": ("pusher_type",),
        "issue_comment": ("is_pull", "pull_request"),
        "issues": ("number",),
        "pull_request_approved": ("number",),
        "pull_request_comment": ("number",),
        "pull_request_rejected": ("number",),
    },
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

    It sends the same in the headers of Gogs and GitHub too, for receivers of theirs: they are not looked at,
    and their signatures are taken off. The signature covers no header, so a body must be one of its
    event.
    """

    name: ClassVar[str] = "gitea"
    guide: ClassVar[Guide] = guide_of("Gitea")
    proofs: ClassVar[tuple[Proof, ...]] = (GiteaSignature("X-Gitea-Signature"),)
    #: Older releases repeat the webhook's secret there.
    private_keys: ClassVar[tuple[str, ...]] = ("secret",)
    private_headers: ClassVar[tuple[str, ...]] = (
        "X-Forgejo-Signature", "X-Gitea-Signature", "X-Gogs-Signature", "X-Hub-Signature",
        "X-Hub-Signature-256",
    )  # fmt: skip
    event_header: ClassVar[str | None] = "X-Gitea-Event"
    replayable: ClassVar[bool] = True
    #: In which the delivery's id stands.
    id_header: ClassVar[str] = "X-Gitea-Delivery"
    bodies: ClassVar[tuple[Body, ...]] = _BODIES
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **COMMON_EVENTS,
        "package": ("action", "package"),
        "pull_request_approved": ("action", "pull_request", "review.type"),
        "pull_request_comment": ("action", "pull_request", "review.type"),
        "pull_request_rejected": ("action", "pull_request", "review.type"),
        "repository": ("action", "repository"),
        "status": ("sha", "state"),
        "wiki": ("action", "page"),
        "workflow_job": ("action", "workflow_job"),
        "workflow_run": ("action", "workflow_run"),
    }
    marks: ClassVar[Marks | None] = MARKS
    fields: ClassVar[Mapping[str, Inside]] = {
        "push": fields(
            "ref before after compare_url total_commits commits head_commit repository pusher sender"
        )
    }

    def headers_for(self, event: str | None) -> dict[str, str]:
        if event is None:
            raise Unreadable(f"{self.guide.title} names the event in a header: say which: --event push")
        return {
            **super().headers_for(event),
            str(self.event_header): event,
            self.id_header: str(uuid4()),
        }

    def read(self, request: Request, options: Options) -> Reading:
        del options
        headers, name = request.headers, str(self.event_header)
        # For some events, such as a package, some versions leave the coarse name empty.
        event = headers.get(name) or headers.get(f"{name}-Type")
        delivery = headers.get(self.id_header)
        if not event or not delivery:
            raise Unreadable(f"a {self.guide.title} webhook has {name} and {self.id_header}")
        payload, body = read_body(request, self.bodies)
        return Reading(
            event=event,
            action=text_at(payload, "action"),
            payload=payload,
            body=body,
            delivery_id=delivery,
        )
