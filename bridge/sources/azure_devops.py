"""Azure DevOps: service hooks.

Source of the rules: https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks and
https://learn.microsoft.com/azure/devops/service-hooks/events
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import EVERY_EVENT, Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import BasicAuth, HeaderToken, Proof

#: Of https://learn.microsoft.com/azure/devops/service-hooks/events
_EVENTS = (
    "build.complete", "ms.vss-release.release-created-event", "ms.vss-release.release-abandoned-event",
    "ms.vss-release.deployment-approval-completed-event", "ms.vss-release.deployment-approval-pending-event",
    "ms.vss-release.deployment-completed-event", "ms.vss-release.deployment-started-event",
    "ms.vss-pipelines.run-state-changed-event", "ms.vss-pipelines.stage-state-changed-event",
    "ms.vss-pipelines.job-state-changed-event", "ms.vss-pipelinechecks-events.approval-pending",
    "ms.vss-pipelinechecks-events.approval-completed", "elasticagentpool.resized", "git.push",
    "git.pullrequest.created", "git.pullrequest.updated", "git.pullrequest.merged",
    "ms.vss-code.git-pullrequest-comment-event", "git.repo.created", "git.repo.deleted", "git.repo.forked",
    "git.repo.renamed", "git.repo.statuschanged", "tfvc.checkin", "workitem.created", "workitem.updated",
    "workitem.deleted", "workitem.restored", "workitem.commented", "ms.vss-endpoint.endpoint-created",
    "ms.vss-endpoint.endpoint-updated", "ms.vss-alerts.alert-created-event",
    "ms.vss-alerts.alert-updated-event", "ms.vss-alerts.alert-state-changed-event", "message.posted",
)  # fmt: skip


class AzureDevOps(SourceType):
    """It signs nothing: basic auth, or a header with a token, proves it."""

    name: ClassVar[str] = "azure-devops"
    guide: ClassVar[Guide] = Guide(
        title="Azure DevOps",
        setup="""
            Open Project settings → Service hooks → + → *Web Hooks* and choose the event. Set *URL* to the
            source's URL, and set *Basic authentication username* and *password*. To use a token instead,
            set *HTTP headers* to `X-Bridge-Token:…`, and write `token:` and `header: X-Bridge-Token` in the
            table.
        """,
        example="""
sources:
  azure-devops:
    basic_auth: {username: azure, password: "${{ env.AZURE_PASSWORD }}"}
routes:
  - source: azure-devops
    event: build.complete
    match:
      payload.resource.status: failed
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.resource.buildNumber }}
""",
    )
    events: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(_EVENTS, ())
    fields: ClassVar[Mapping[str, Inside]] = {
        EVERY_EVENT: fields(
            "createdDate detailedMessage eventType id message notificationId publisherId resource "
            "resourceContainers resourceVersion scope subscriptionId"
        )
    }
    proofs: ClassVar[tuple[Proof, ...]] = (BasicAuth(), HeaderToken("X-Token"))
    options: ClassVar[tuple[str, ...]] = ("header",)

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        basic, token = self.proofs
        return (basic, HeaderToken(options.header or token.header))

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event, delivery = text_at(payload, "eventType"), _delivery(payload)
        if event is None or delivery is None:
            raise Unreadable("a service hook has eventType, and subscriptionId and notificationId, or id")
        return Reading(event=event, action=None, payload=payload, body=body, delivery_id=delivery)


def _delivery(payload: JSON) -> str | None:
    """What identifies a notification; the event's own id, which others of its subscriptions share, else."""
    subscription = text_at(payload, "subscriptionId")
    number = payload.get("notificationId") if isinstance(payload, dict) else None
    if subscription is not None and isinstance(number, int) and not isinstance(number, bool):
        return f"{subscription}/{number}"
    return text_at(payload, "id")
