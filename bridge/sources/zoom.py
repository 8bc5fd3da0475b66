"""Zoom: event subscriptions of an app.

Source of the rules: https://developers.zoom.us/docs/api/webhooks/ (validating, verifying, retries).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import EVERY_EVENT, Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import HmacSignature, Proof, secret_bytes

_VALIDATION = "endpoint.url_validation"


#: Of meetings, webinars, recordings, users, Phone, Team Chat and rooms: https://developers.zoom.us/docs/api/
_EVENTS = (
    "meeting.alert", "meeting.created", "meeting.updated", "meeting.deleted", "meeting.permanently_deleted",
    "meeting.recovered", "meeting.started", "meeting.ended", "meeting.registration_created",
    "meeting.registration_approved", "meeting.registration_cancelled", "meeting.registration_denied",
    "meeting.sharing_started", "meeting.sharing_ended", "meeting.participant_joined",
    "meeting.participant_left", "meeting.participant_joined_waiting_room",
    "meeting.participant_left_waiting_room", "meeting.participant_put_in_waiting_room",
    "meeting.participant_admitted", "meeting.participant_jbh_joined", "meeting.participant_jbh_waiting",
    "meeting.participant_jbh_waiting_left", "meeting.participant_role_changed",
    "meeting.participant_qos_summary", "meeting.participant_data", "meeting.participant_feedback",
    "meeting.participant_bind", "meeting.participant_room_system_callout_accepted",
    "meeting.participant_room_system_callout_failed", "meeting.participant_room_system_callout_missed",
    "meeting.participant_room_system_callout_rejected", "meeting.participant_room_system_callout_ringing",
    "meeting.participant_phone_callout_accepted", "meeting.participant_phone_callout_missed",
    "meeting.participant_phone_callout_rejected", "meeting.participant_phone_callout_ringing",
    "meeting.chat_message_sent", "meeting.chat_message_file_sent", "meeting.chat_message_file_downloaded",
    "meeting.live_streaming_started", "meeting.live_streaming_stopped", "meeting.risk_alert",
    "meeting.summary_completed", "meeting.summary_deleted", "meeting.summary_recovered",
    "meeting.summary_shared", "meeting.summary_trashed", "meeting.summary_updated",
    "meeting.invitation_accepted", "meeting.invitation_dispatched", "meeting.invitation_rejected",
    "meeting.invitation_timeout", "meeting.converted_to_webinar", "meeting.device_tested",
    "meeting.breakout_room_sharing_started", "meeting.breakout_room_sharing_ended",
    "meeting.participant_joined_breakout_room", "meeting.participant_left_breakout_room",
    "meeting.aic_transcript_completed", "meeting.rtms_started", "meeting.rtms_stopped",
    "meeting.rtms_interrupted", "webinar.created", "webinar.updated", "webinar.deleted",
    "webinar.permanently_deleted", "webinar.recovered", "webinar.started", "webinar.ended", "webinar.alert",
    "webinar.registration_created", "webinar.registration_approved", "webinar.registration_cancelled",
    "webinar.registration_denied", "webinar.sharing_started", "webinar.sharing_ended",
    "webinar.participant_joined", "webinar.participant_left", "webinar.participant_bind",
    "webinar.participant_role_changed", "webinar.participant_qos_summary", "webinar.participant_data",
    "webinar.participant_feedback", "webinar.chat_message_sent", "webinar.chat_message_file_sent",
    "webinar.chat_message_file_downloaded", "webinar.converted_to_meeting", "webinar.live_streaming_started",
    "webinar.live_streaming_stopped", "webinar.rtms_started", "webinar.rtms_stopped",
    "webinar.rtms_interrupted", "recording.started", "recording.paused", "recording.resumed",
    "recording.stopped", "recording.completed", "recording.renamed", "recording.trashed", "recording.deleted",
    "recording.recovered", "recording.transcript_completed", "recording.registration_created",
    "recording.registration_approved", "recording.registration_denied", "recording.batch_trashed",
    "recording.batch_deleted", "recording.batch_recovered", "recording.archive_files_completed",
    "recording.cloud_storage_usage_updated", "user.created", "user.updated", "user.activated",
    "user.deactivated", "user.deleted", "user.disassociated", "user.invitation_accepted",
    "user.settings_updated", "user.signed_in", "user.signed_out", "user.presence_status_updated",
    "user.personal_notes_updated", "user.tsp_created", "user.tsp_deleted", "user.tsp_updated",
    "phone.caller_ringing", "phone.caller_connected", "phone.caller_ended", "phone.caller_hold",
    "phone.caller_unhold", "phone.caller_mute", "phone.caller_unmute", "phone.caller_call_log_completed",
    "phone.caller_call_history_completed", "phone.caller_meeting_inviting", "phone.callee_ringing",
    "phone.callee_answered", "phone.callee_ended", "phone.callee_missed", "phone.callee_rejected",
    "phone.callee_hold", "phone.callee_unhold", "phone.callee_mute", "phone.callee_unmute",
    "phone.callee_parked", "phone.callee_call_log_completed", "phone.callee_call_history_completed",
    "phone.callee_meeting_inviting", "phone.voicemail_received", "phone.voicemail_received_for_access_member",
    "phone.voicemail_deleted", "phone.voicemail_permanently_deleted", "phone.voicemail_transcript_completed",
    "phone.recording_started", "phone.recording_paused", "phone.recording_resumed", "phone.recording_stopped",
    "phone.recording_completed", "phone.recording_completed_for_access_member", "phone.recording_deleted",
    "phone.recording_permanently_deleted", "phone.recording_transcript_completed", "phone.sms_sent",
    "phone.sms_sent_failed", "phone.sms_received", "phone.sms_campaign_number_opt_in",
    "phone.sms_campaign_number_opt_out", "phone.warm_transfer_accepted", "phone.warm_transfer_cancelled",
    "phone.blind_transfer_initiated", "phone.transfer_call_to_voicemail_initiated", "phone.call_log_deleted",
    "phone.call_log_permanently_deleted", "phone.call_history_deleted", "phone.call_element_deleted",
    "phone.emergency_alert", "phone.generic_device_provision", "phone.peering_number_cnam_updated",
    "phone.peering_number_emergency_address_updated", "phone.account_settings_updated",
    "phone.group_settings_updated", "phone.user_settings_updated", "phone.device_registration",
    "phone.conference_started", "phone.ai_call_summary_changed", "phone.recording_failed",
    "phone.sms_etiquette_block", "phone.sms_etiquette_warn", "account.created", "account.updated",
    "account.disassociated", "account.settings_updated", "account.vanity_url_approved",
    "account.vanity_url_rejected", "account.lock_settings_updated", "app_deauthorized", "bot_installed",
    "bot_notification", "interactive_message_actions", "interactive_message_editable",
    "interactive_message_fields_editable", "interactive_message_select", "team_chat.app_mention",
    "team_chat.link_shared", "team_chat.bookmark_added", "team_chat.bookmark_removed",
    "team_chat.channel_app_added", "team_chat.channel_app_removed", "team_chat.channel_archived",
    "team_chat.channel_invitation_accepted", "team_chat.channel_invitation_approval_requested",
    "team_chat.channel_invitation_approved", "team_chat.channel_invitation_created",
    "team_chat.channel_invitation_declined", "team_chat.channel_invitation_rejected",
    "team_chat.channel_invitation_removed", "team_chat.channel_join_approval_requested",
    "team_chat.channel_join_approved", "team_chat.channel_join_declined", "team_chat.channel_join_requested",
    "team_chat.channel_message_deleted", "team_chat.channel_message_posted",
    "team_chat.channel_message_updated", "team_chat.channel_pin_added", "team_chat.channel_pin_removed",
    "team_chat.channel_reaction_added", "team_chat.channel_reaction_removed", "team_chat.channel_unarchived",
    "team_chat.dm_message_deleted", "team_chat.dm_message_posted", "team_chat.dm_message_updated",
    "team_chat.dm_reaction_added", "team_chat.dm_reaction_removed", "team_chat.emoji_added",
    "team_chat.emoji_removed", "team_chat.file_changed", "team_chat.file_deleted",
    "team_chat.file_downloaded", "team_chat.file_shared", "team_chat.file_unshared",
    "team_chat.file_uploaded", "team_chat.shared_spaces_edited", "team_chat.shared_spaces_member_invited",
    "team_chat.shared_spaces_member_left", "team_chat.shared_spaces_member_removed", "team_chat.starred",
    "team_chat.unstarred", "chat_message.sent", "chat_message.updated", "chat_message.deleted",
    "chat_message.replied", "chat_message.rule_reaction", "chat_channel.created", "chat_channel.updated",
    "chat_channel.deleted", "chat_channel.invitation_accepted", "chat_channel.member_invited",
    "chat_channel.member_joined", "chat_channel.member_left", "chat_channel.member_removed", "zoomroom.alert",
    "zoomroom.checked_in", "zoomroom.checked_out", "zoomroom.delayed_alert", "zoomroom.sensor_data",
    "app.authorization_request_created", "group.admin_added", "group.admin_deleted", "group.created",
    "group.deleted", "group.lock_settings_updated", "group.member_added", "group.member_deleted",
    "group.settings_updated", "group.updated", "information_barriers.policy_created",
    "information_barriers.policy_deleted", "information_barriers.policy_updated", "session.alert",
    "session.ended", "session.live_streaming_started", "session.live_streaming_stopped",
    "session.recording_completed", "session.recording_deleted", "session.recording_paused",
    "session.recording_recovered", "session.recording_resumed", "session.recording_started",
    "session.recording_stopped", "session.recording_summary_completed",
    "session.recording_transcript_completed", "session.recording_transcript_failed",
    "session.recording_trashed", "session.sharing_ended", "session.sharing_started", "session.started",
    "session.stream_ingestion_connected", "session.stream_ingestion_disconnected",
    "session.stream_ingestion_started", "session.stream_ingestion_stopped", "session.stream_ingestion_unbind",
    "session.user_joined", "session.user_left", "session.user_phone_callout_accepted",
    "session.user_phone_callout_canceled", "session.user_phone_callout_missed",
    "session.user_phone_callout_rejected", "session.user_phone_callout_ringing",
    "session.user_room_system_callout_accepted", "session.user_room_system_callout_failed",
    "session.user_room_system_callout_missed", "session.user_room_system_callout_rejected",
    "session.user_room_system_callout_ringing", "endpoint.url_validation",
)  # fmt: skip


class Zoom(SourceType):
    """An HMAC over ``v0:<time>:<body>`` in ``x-zm-signature``.

    The answer to a validation is an HMAC, with the same key, of what its sender chose: given to anybody
    it would sign for them, so only a signed one is answered. A webhook has no id: a hash over event, time
    and payload stands for it.
    """

    name: ClassVar[str] = "zoom"
    guide: ClassVar[Guide] = Guide(
        title="Zoom",
        setup="""
            At marketplace.zoom.us, open *Develop* → your app → *Features* → *Access* and copy the *Secret
            Token*. Start the bridge with this token first. Then set the *Event notification endpoint URL*
            under *Event Subscriptions* to the source's URL, and press *Validate*.
        """,
        example="""
sources:
  zoom:
    secret: ${{ env.ZOOM_SECRET_TOKEN }}
routes:
  - source: zoom
    event: recording.completed
    match:
      payload.payload.account_id: AAAAAABBBB
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.payload.object.uuid }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("secret",)
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature(
            "x-zm-signature",
            prefix="v0=",
            timestamp_header="x-zm-request-timestamp",
            signed="v0:{ts}:{body}",
        ),
    )
    events: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(_EVENTS, ("payload",))
    fields: ClassVar[Mapping[str, Inside]] = {EVERY_EVENT: fields("event event_ts payload")}
    private_keys: ClassVar[tuple[str, ...]] = ("download_token",)
    handshakes: ClassVar[tuple[str, ...]] = (_VALIDATION,)
    dedupe: ClassVar[float | None] = 7200.0

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event = text_at(payload, "event")
        if event is None:
            raise Unreadable("a Zoom webhook has its event's name as event")
        if event == _VALIDATION and text_at(payload, "payload", "plainToken") is None:
            raise Unreadable(f"a Zoom {_VALIDATION} has payload.plainToken, found no text there")
        told = [event, payload.get("event_ts"), payload.get("payload")]
        return Reading(
            event=event,
            action=None,
            payload=payload,
            body=body,
            fingerprint=sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest(),
            handshake=event in self.handshakes,
        )

    def reply(self, reading: Reading) -> dict[str, JSON] | None:
        if not reading.handshake or not reading.secrets:
            return None
        token: str = reading.payload["payload"]["plainToken"]
        digest = hmac.new(secret_bytes(reading.secrets[0]), token.encode(), "sha256").hexdigest()
        return {"plainToken": token, "encryptedToken": digest}
