"""Zoom: event subscriptions of an app.

Source of the rules: https://developers.zoom.us/docs/api/webhooks/ (validating, verifying, retries).
"""

from __future__ import annotations

import hmac
from hashlib import sha256

import orjson

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Event, Request
from bridge.core.exact_json import dumps
from bridge.core.secrets import Secret
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields, names
from bridge.sources.base.proofs import HmacSignature, secret_bytes
from bridge.sources.base.source_type import EVERY_EVENT, ParsedWebhook, SourceType, text_at

_VALIDATION = "endpoint.url_validation"

#: https://developers.zoom.us/docs/api/
_EVENTS = names(
    """
    meeting.{alert created updated deleted permanently_deleted recovered started ended registration_created
    registration_approved registration_cancelled registration_denied sharing_started sharing_ended
    participant_joined participant_left participant_joined_waiting_room participant_left_waiting_room
    participant_put_in_waiting_room participant_admitted participant_jbh_joined participant_jbh_waiting
    participant_jbh_waiting_left participant_role_changed participant_qos_summary participant_data
    participant_feedback participant_bind participant_room_system_callout_accepted
    participant_room_system_callout_failed participant_room_system_callout_missed
    participant_room_system_callout_rejected participant_room_system_callout_ringing
    participant_phone_callout_accepted participant_phone_callout_missed participant_phone_callout_rejected
    participant_phone_callout_ringing chat_message_sent chat_message_file_sent chat_message_file_downloaded
    live_streaming_started live_streaming_stopped risk_alert summary_completed summary_deleted
    summary_recovered summary_shared summary_trashed summary_updated invitation_accepted invitation_dispatched
    invitation_rejected invitation_timeout converted_to_webinar device_tested breakout_room_sharing_started
    breakout_room_sharing_ended participant_joined_breakout_room participant_left_breakout_room
    aic_transcript_completed rtms_started rtms_stopped rtms_interrupted} webinar.{created updated deleted
    permanently_deleted recovered started ended alert registration_created registration_approved
    registration_cancelled registration_denied sharing_started sharing_ended participant_joined
    participant_left participant_bind participant_role_changed participant_qos_summary participant_data
    participant_feedback chat_message_sent chat_message_file_sent chat_message_file_downloaded
    converted_to_meeting live_streaming_started live_streaming_stopped rtms_started rtms_stopped
    rtms_interrupted} recording.{started paused resumed stopped completed renamed trashed deleted recovered
    transcript_completed registration_created registration_approved registration_denied batch_trashed
    batch_deleted batch_recovered archive_files_completed cloud_storage_usage_updated} user.{created updated
    activated deactivated deleted disassociated invitation_accepted settings_updated signed_in signed_out
    presence_status_updated personal_notes_updated tsp_created tsp_deleted tsp_updated} phone.{caller_ringing
    caller_connected caller_ended caller_hold caller_unhold caller_mute caller_unmute
    caller_call_log_completed caller_call_history_completed caller_meeting_inviting callee_ringing
    callee_answered callee_ended callee_missed callee_rejected callee_hold callee_unhold callee_mute
    callee_unmute callee_parked callee_call_log_completed callee_call_history_completed
    callee_meeting_inviting voicemail_received voicemail_received_for_access_member voicemail_deleted
    voicemail_permanently_deleted voicemail_transcript_completed recording_started recording_paused
    recording_resumed recording_stopped recording_completed recording_completed_for_access_member
    recording_deleted recording_permanently_deleted recording_transcript_completed sms_sent sms_sent_failed
    sms_received sms_campaign_number_opt_in sms_campaign_number_opt_out warm_transfer_accepted
    warm_transfer_cancelled blind_transfer_initiated transfer_call_to_voicemail_initiated call_log_deleted
    call_log_permanently_deleted call_history_deleted call_element_deleted emergency_alert
    generic_device_provision peering_number_cnam_updated peering_number_emergency_address_updated
    account_settings_updated group_settings_updated user_settings_updated device_registration
    conference_started ai_call_summary_changed recording_failed sms_etiquette_block sms_etiquette_warn}
    account.{created updated disassociated settings_updated vanity_url_approved vanity_url_rejected
    lock_settings_updated} app_deauthorized bot_installed bot_notification interactive_message_actions
    interactive_message_editable interactive_message_fields_editable interactive_message_select
    team_chat.{app_mention link_shared bookmark_added bookmark_removed channel_app_added channel_app_removed
    channel_archived channel_invitation_accepted channel_invitation_approval_requested
    channel_invitation_approved channel_invitation_created channel_invitation_declined
    channel_invitation_rejected channel_invitation_removed channel_join_approval_requested
    channel_join_approved channel_join_declined channel_join_requested channel_message_deleted
    channel_message_posted channel_message_updated channel_pin_added channel_pin_removed
    channel_reaction_added channel_reaction_removed channel_unarchived dm_message_deleted dm_message_posted
    dm_message_updated dm_reaction_added dm_reaction_removed emoji_added emoji_removed file_changed
    file_deleted file_downloaded file_shared file_unshared file_uploaded shared_spaces_edited
    shared_spaces_member_invited shared_spaces_member_left shared_spaces_member_removed starred unstarred}
    chat_message.{sent updated deleted replied rule_reaction} chat_channel.{created updated deleted
    invitation_accepted member_invited member_joined member_left member_removed} zoomroom.{alert checked_in
    checked_out delayed_alert sensor_data} app.authorization_request_created group.{admin_added admin_deleted
    created deleted lock_settings_updated member_added member_deleted settings_updated updated}
    information_barriers.{policy_created policy_deleted policy_updated} session.{alert ended
    live_streaming_started live_streaming_stopped recording_completed recording_deleted recording_paused
    recording_recovered recording_resumed recording_started recording_stopped recording_summary_completed
    recording_transcript_completed recording_transcript_failed recording_trashed sharing_ended sharing_started
    started stream_ingestion_connected stream_ingestion_disconnected stream_ingestion_started
    stream_ingestion_stopped stream_ingestion_unbind user_joined user_left user_phone_callout_accepted
    user_phone_callout_canceled user_phone_callout_missed user_phone_callout_rejected
    user_phone_callout_ringing user_room_system_callout_accepted user_room_system_callout_failed
    user_room_system_callout_missed user_room_system_callout_rejected user_room_system_callout_ringing}
    endpoint.url_validation
    """
)


class Zoom(SourceType):
    """An HMAC over ``v0:<time>:<body>`` in ``x-zm-signature``.

    The reply to a validation is an HMAC with the same key over a text that the sender chose, so the bridge
    replies only to a signed one. A webhook has no id: a hash over event, time and payload identifies it.
    """

    name = "zoom"
    guide = Guide(
        title="Zoom",
        setup="""
            At marketplace.zoom.us, open *Develop* → your app → *Features* → *Access* and copy the *Secret
            Token*. Start the bridge with this token first. Then set the *Event notification endpoint URL*
            under *Event Subscriptions* to the source's URL, and press *Validate*.
        """,
        route="""
            event: recording.completed
            match:
              payload.payload.account_id: AAAAAABBBB
            task_arguments:
              - ${{ payload.payload.object.uuid }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (
        HmacSignature(
            "x-zm-signature",
            prefix="v0=",
            timestamp_header="x-zm-request-timestamp",
            signed="v0:{ts}:{body}",
        ),
    )
    events = dict.fromkeys(_EVENTS, ("payload",))
    fields = {EVERY_EVENT: fields("event event_ts payload")}
    credential_fields = ("download_token",)
    setup_events = (_VALIDATION,)
    dedupe = 7200.0

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del request
        event = text_at(payload, "event")
        if event is None:
            raise self.unreadable("the field event")
        if event == _VALIDATION and text_at(payload, "payload", "plainToken") is None:
            raise Unreadable(f"a Zoom {_VALIDATION} must have a text as payload.plainToken")
        hashed = [event, payload.get("event_ts"), payload.get("payload")]
        fingerprint = sha256(dumps(hashed, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return ParsedWebhook(event, fingerprint=fingerprint)

    def reply(self, event: Event, secrets: tuple[Secret, ...]) -> dict[str, JSON] | None:
        if not secrets:
            return None
        token: str = event.payload["payload"]["plainToken"]
        digest = hmac.new(secret_bytes(secrets[0]), token.encode(), "sha256").hexdigest()
        return {"plainToken": token, "encryptedToken": digest}
