"""Docker Hub: a repository's webhook.

Source of the rules: https://docs.docker.com/docker-hub/repos/manage/webhooks/
"""

from __future__ import annotations

import math

from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields
from bridge.sources.base.proofs import UrlToken
from bridge.sources.base.source_type import ParsedWebhook, SourceType, text_at


class DockerHub(SourceType):
    """Docker Hub signs nothing and sends no custom header. It sends a token in the URL.

    The repository, the tag and the second identify a push. The bridge never calls the body's
    ``callback_url``, since the sender chooses it.
    """

    name = "dockerhub"
    guide = Guide(
        title="Docker Hub",
        setup="""
            Open the repository → Webhooks. Enter any name. Set *Webhook URL* to the source's URL, followed
            by `?token=` and the token. Use a token of letters and digits, such as one from `openssl rand
            -hex 32`.
        """,
        route="""
            event: push
            match:
              payload.repository.repo_name: acme/api
              payload.push_data.tag: latest
            task_arguments:
              - ${{ payload.repository.repo_name }}:${{ payload.push_data.tag }}
        """,
    )
    proofs = (UrlToken(),)
    events = {"push": ("push_data", "repository")}
    fields = {
        "push": fields(
            "callback_url",
            push_data=fields("images media_type pushed_at pusher tag"),
            repository=fields(
                "comment_count date_created description dockerfile full_description is_official is_private "
                "is_trusted name namespace owner repo_name repo_url star_count status"
            ),
        )
    }

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del request
        repository, tag = text_at(payload, "repository", "repo_name"), text_at(payload, "push_data", "tag")
        pushed_at = _seconds(payload)
        if repository is None or tag is None or pushed_at is None:
            raise self.unreadable("the fields repository.repo_name, push_data.tag and push_data.pushed_at")
        return ParsedWebhook("push", delivery_id=f"{repository}:{tag}@{pushed_at}")


def _seconds(payload: JSON) -> int | None:
    """Return the time of the push. Docker Hub writes it as 1417566161 or as 1.417566161e+09."""
    data = payload.get("push_data") if isinstance(payload, dict) else None
    value = data.get("pushed_at") if isinstance(data, dict) else None
    return math.floor(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
