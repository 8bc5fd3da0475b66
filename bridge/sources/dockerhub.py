"""Docker Hub: a repository's webhook.

Source of the rules: https://docs.docker.com/docker-hub/repos/manage/webhooks/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import Proof, UrlToken


class DockerHub(SourceType):
    """It signs nothing and sends no header of one's own: a token in the URL proves it.

    What is pushed is known by its repository, its tag and the second. The body's ``callback_url``
    is never called: it is the sender's choice where it leads.
    """

    name: ClassVar[str] = "dockerhub"
    guide: ClassVar[Guide] = Guide(
        title="Docker Hub",
        setup="""
            Open the repository → Webhooks. Enter any name. Set *Webhook URL* to the source's URL, followed
            by `?token=` and the token. Use a token of letters and digits, such as one from `openssl rand
            -hex 32`.
        """,
        example="""
sources:
  dockerhub:
    url_token: ${{ env.DOCKERHUB_TOKEN }}
routes:
  - source: dockerhub
    event: push
    match:
      payload.repository.repo_name: acme/api
      payload.push_data.tag: latest
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.repository.repo_name }}:${{ payload.push_data.tag }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (UrlToken(),)
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {"push": ("push_data", "repository")}
    fields: ClassVar[Mapping[str, Inside]] = {
        "push": fields(
            "callback_url",
            push_data=fields("images media_type pushed_at pusher tag"),
            repository=fields(
                "comment_count date_created description dockerfile full_description is_official is_private "
                "is_trusted name namespace owner repo_name repo_url star_count status"
            ),
        )
    }

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        repository, tag = text_at(payload, "repository", "repo_name"), text_at(payload, "push_data", "tag")
        pushed_at = _seconds(payload)
        if repository is None or tag is None or pushed_at is None:
            raise Unreadable(
                "a webhook of Docker Hub has repository.repo_name, push_data.tag and push_data.pushed_at"
            )
        delivery = f"{repository}:{tag}@{pushed_at}"
        return Reading(event="push", action=None, payload=payload, body=body, delivery_id=delivery)


def _seconds(payload: JSON) -> int | None:
    """When it was pushed: Docker Hub has written the seconds as 1417566161 and as 1.417566161e+09."""
    data = payload.get("push_data") if isinstance(payload, dict) else None
    value = data.get("pushed_at") if isinstance(data, dict) else None
    return math.floor(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
