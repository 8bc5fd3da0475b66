"""Slack: the Events API, slash commands and interactivity of an app.

Source of the rules: https://docs.slack.dev (verifying requests, Events API, slash commands, interaction
payloads).
"""

from __future__ import annotations

from hashlib import sha256

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Event, Request
from bridge.core.secrets import Secret
from bridge.sources.base.bodies import FieldsForm, JsonBody, JsonForm
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import names
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, text_at

#: The most fields of a form. A slash command has about 15.
MAX_FIELDS = 30

#: The outer types of the Events API, which accepts any 2xx. Commands and interactions require a 200.
_EVENTS_API = ("event_callback", "app_rate_limited")
#: The body of the 200: a command's text is shown to its user, a modal is closed.
_REPLIES: dict[str, dict[str, JSON]] = {
    "slash_command": {"response_type": "ephemeral", "text": "Received."},
    "view_submission": {"response_action": "clear"},
    "block_suggestion": {"options": []},
}

#: The Events API (https://docs.slack.dev/reference/events), then commands and interactivity.
_EVENTS = names(
    """
    agent_session_{stopped title_changed} app_{context_changed deleted home_opened installed mention requested
    uninstalled uninstalled_team rate_limited} assistant_thread_{started context_changed} call_rejected
    channel_{archive created deleted history_changed id_changed left rename shared unarchive unshared}
    dnd_{updated updated_user} email_domain_changed emoji_changed entity_details_requested file_change
    file_comment_{added deleted edited} file_{created deleted public shared unshared} function_executed
    grid_migration_{finished started} group_{archive close deleted history_changed left open rename unarchive}
    im_{close created history_changed open} invite_requested link_shared member_{joined_channel left_channel}
    message message_metadata_{deleted posted updated} pin_{added removed} reaction_{added removed}
    resources_{added removed} scope_{denied granted} shared_channel_invite_{accepted approved declined
    received requested} star_{added removed} subteam_{created members_changed self_added self_removed updated}
    team_{access_granted access_revoked domain_change join rename} tokens_revoked url_verification
    user_{change connection huddle_changed profile_changed status_changed} user_resource_{denied granted
    removed} workflow_{deleted published step_deleted step_execute unpublished} slash_command ssl_check
    block_{actions suggestion} message_action shortcut view_{closed submission} interactive_message
    dialog_{submission cancellation suggestion} workflow_step_edit
    """
)


class Slack(SourceType):
    """An HMAC over ``v0:<time>:<body>`` in ``X-Slack-Signature``, of JSON and of forms alike.

    The event is the type inside an ``event_callback``, else the outer type, else ``slash_command``. The
    bridge ignores and removes the shared ``token`` of older apps.
    """

    name = "slack"
    guide = Guide(
        title="Slack",
        setup="""
            Open your app at api.slack.com/apps. *Basic Information* shows the *Signing Secret*. Start the
            bridge with this secret first, because Slack sends a request as soon as you enter the URL. Then
            set the *Request URL* to the source's URL, under *Event Subscriptions*, *Slash Commands* or
            *Interactivity & Shortcuts*, for each of these that you use.
        """,
        route="""
            event: slash_command.deploy
            match:
              payload.channel_name: releases
            task_arguments:
              - ${{ payload.text }}
              - ${{ payload.user_name }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (
        HmacSignature(
            "X-Slack-Signature",
            prefix="v0=",
            timestamp_header="X-Slack-Request-Timestamp",
            signed="v0:{ts}:{body}",
        ),
    )
    events = dict.fromkeys(_EVENTS, ())
    #: The Events API sends JSON. Interactivity, commands and the certificate check send forms.
    bodies = (
        JsonBody(),
        JsonForm("payload"),
        FieldsForm(("command", "team_id", "channel_id", "user_id", "response_url"), MAX_FIELDS),
        FieldsForm(("ssl_check",), MAX_FIELDS),
    )
    credential_fields = ("token", "bot_access_token", "event.bot_access_token")
    setup_events = ("url_verification", "ssl_check")
    dedupe = 600.0

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        names = _names(payload)
        if names is None:
            raise self.unreadable("the field type, event.type (Events API), command or ssl_check")
        event, action = names
        if text_at(payload, "type") == "url_verification" and text_at(payload, "challenge") is None:
            raise Unreadable("a Slack url_verification must have a text as challenge")
        return ParsedWebhook(
            event,
            action,
            text_at(payload, "event_id") or text_at(payload, "trigger_id"),
            fingerprint=sha256(request.body).hexdigest(),
        )

    def is_setup_event(self, event: Event) -> bool:
        return super().is_setup_event(event) and text_at(event.payload, "type") not in _EVENTS_API

    def reply(self, event: Event, secrets: tuple[Secret, ...]) -> dict[str, JSON] | None:
        del secrets
        outer = text_at(event.payload, "type")
        if outer == "url_verification":
            return {"challenge": event.payload["challenge"]}
        return None if outer in _EVENTS_API else _REPLIES.get(event.event, {})


def _names(payload: JSON) -> tuple[str, str | None] | None:
    """Return the event and the action; None if the payload names no event."""
    outer, command = text_at(payload, "type"), text_at(payload, "command")
    if outer == "event_callback":
        event = text_at(payload, "event", "type")
        if event is not None:
            return event, text_at(payload, "event", "subtype")
    elif outer is not None:
        return outer, None
    elif command is not None:
        return "slash_command", command.removeprefix("/") or None
    elif text_at(payload, "ssl_check"):
        return "ssl_check", None
    return None
