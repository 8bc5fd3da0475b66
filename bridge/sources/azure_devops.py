"""Azure DevOps: service hooks.

Source of the rules: https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks and
https://learn.microsoft.com/azure/devops/service-hooks/events
"""

from __future__ import annotations

from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import BasicAuth, HeaderToken, Proof


class AzureDevOps(SourceType):
    """It signs nothing: basic auth, or a header with a token, proves it."""

    name: ClassVar[str] = "azure-devops"
    guide: ClassVar[Guide] = Guide(
        title="Azure DevOps",
        setup="""
            Project settings → Service hooks → + → *Web Hooks*, the event, and then: *URL* the source's URL,
            *Basic authentication username* and *password*. Instead, *HTTP headers* can hold a token, as
            `X-Bridge-Token:…`: write `token:` and `header: X-Bridge-Token`.
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
        events="the body's `eventType`, such as `git.push`; no action. `git.pullrequest.*` is any of these.",
        identity="""
            `subscriptionId` and `notificationId`, the same when it is sent again; the event's `id` where
            they are missing.
        """,
        repeats="""
            On 408, 502, 503 and 504 it sends again, up to 8 times with growing waits. Other errors put the
            subscription on probation, and what happens then is lost.
        """,
        traps=(
            "*Resource details to send*: with *None*, `payload.resource` has next to nothing.",
            "The button *Test* sends an event that never happened, with names such as Fabrikam.",
        ),
    )
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
