"""Azure DevOps: service hooks.

Source of the rules: https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks and
https://learn.microsoft.com/azure/devops/service-hooks/events
"""

from __future__ import annotations

from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields, names
from bridge.sources.base.proofs import BasicAuth, HeaderToken
from bridge.sources.base.source_type import EVERY_EVENT, ParsedWebhook, SourceType, text_at

#: https://learn.microsoft.com/azure/devops/service-hooks/events
_EVENTS = names(
    """
    build.complete ms.vss-release.{release-created-event release-abandoned-event
    deployment-approval-completed-event deployment-approval-pending-event deployment-completed-event
    deployment-started-event} ms.vss-pipelines.{run-state-changed-event stage-state-changed-event
    job-state-changed-event} ms.vss-pipelinechecks-events.{approval-pending approval-completed}
    elasticagentpool.resized git.push git.pullrequest.{created updated merged}
    ms.vss-code.git-pullrequest-comment-event git.repo.{created deleted forked renamed statuschanged}
    tfvc.checkin workitem.{created updated deleted restored commented} ms.vss-endpoint.{endpoint-created
    endpoint-updated} ms.vss-alerts.{alert-created-event alert-updated-event alert-state-changed-event}
    message.posted
    """
)


class AzureDevOps(SourceType):
    """Azure DevOps signs nothing. It sends basic auth or a token in a header."""

    name = "azure-devops"
    guide = Guide(
        title="Azure DevOps",
        setup="""
            Open Project settings → Service hooks → + → *Web Hooks* and choose the event. Set *URL* to the
            source's URL, and set *Basic authentication username* and *password*. To use a token instead,
            set *HTTP headers* to `X-Bridge-Token:…`, and write `token:` and `header: X-Bridge-Token` in the
            table.
        """,
        route="""
            event: build.complete
            match:
              payload.resource.status: failed
            task_arguments:
              - ${{ payload.resource.buildNumber }}
        """,
    )
    events = dict.fromkeys(_EVENTS, ())
    fields = {
        EVERY_EVENT: fields(
            "createdDate detailedMessage eventType id message notificationId publisherId resource "
            "resourceContainers resourceVersion scope subscriptionId"
        )
    }
    proofs = (BasicAuth(), HeaderToken("X-Token"))
    options = ("header",)

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del request
        event, delivery = text_at(payload, "eventType"), _delivery(payload)
        if event is None or delivery is None:
            raise self.unreadable("the field eventType, with subscriptionId and notificationId, or with id")
        return ParsedWebhook(event, delivery_id=delivery)


def _delivery(payload: JSON) -> str | None:
    """Return the notification's id, else the event's, which several subscriptions share."""
    subscription = text_at(payload, "subscriptionId")
    number = payload.get("notificationId") if isinstance(payload, dict) else None
    if subscription is not None and isinstance(number, int) and not isinstance(number, bool):
        return f"{subscription}/{number}"
    return text_at(payload, "id")
