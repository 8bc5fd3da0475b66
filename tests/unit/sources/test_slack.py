"""Slack's events, slash commands and interactivity, signed and told as Slack does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from bridge.config.load import load
from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.payload import MAX_FORM_FIELDS, parse_form
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from bridge.sources.slack import MAX_FIELDS
from tests.support.intake import VARIABLES, Intake, changed, everything_stored, sample, table, without

MakeIntake = Callable[[str], Intake]

SLACK = discover()["slack"]

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"

TABLE = """
sources:
  slack: {secret: "${{ env.TOKEN }}"}
routes:
  - {name: everything, source: slack, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
  - name: deploy
    source: slack
    event: slash_command.deploy
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.text }}"]
"""

MENTION = sample("slack/app_mention.json")

#: A slash command's fields, as many as Slack sends.
COMMAND = {
    "token": "legacy-t0ken",
    "team_id": "T1",
    "team_domain": "acme",
    "enterprise_id": "E1",
    "enterprise_name": "Acme & Söhne",
    "channel_id": "C1",
    "channel_name": "releases",
    "user_id": "U1",
    "user_name": "maria",
    "command": "/deploy",
    "text": "api 1.4.2 + 50%",
    "api_app_id": "A1",
    "is_enterprise_install": "false",
    "response_url": "https://hooks.slack.com/commands/T1/2/3",
    "trigger_id": "13345224609.738474920.8088930838d88f008e0",
}

#: The vectors that Slack's documentation and its library give: secret, time, body, signature.
VECTORS = [
    (
        "8f742231b10e8888abcd99yyyzzz85a5",
        "1531420618",
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
        "96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    ),
    (
        "8f742231b10e8888abcd99yyyzzz85a5",
        "1531420618",
        '{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":'
        '"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}',
        "v0=f9bd80929259f3f6d5fe3a3186c453c89cd1ad4862815a15837584f31c993652",
    ),
]


def signed(body: bytes, now: float, content: str = JSON_TYPE) -> dict[str, str]:
    """The headers with which Slack sends `body`."""
    text = f"v0:{int(now)}:".encode() + body
    digest = hmac.new(VARIABLES["TOKEN"].encode(), text, hashlib.sha256).hexdigest()
    return {
        "Content-Type": content,
        "X-Slack-Request-Timestamp": str(int(now)),
        "X-Slack-Signature": f"v0={digest}",
    }


def post(intake: Intake, body: bytes, content: str = JSON_TYPE, **more: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return intake.post("slack", body, {**signed(body, intake.clock.now, content), **headers})


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def interactive(**payload: Any) -> bytes:
    return form(payload=orjson.dumps(payload).decode())


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


class TestVectors:
    """The time, the version and the raw body are signed."""

    def holds(self, secret: str, time: str, body: str, signature: str, now: float) -> bool:
        headers = Headers({"X-Slack-Request-Timestamp": time, "X-Slack-Signature": signature}.items())
        required = RequiredProof(SLACK.proofs[0], (Secret(secret),))
        return required.verify(Request("slack", headers, {}, body.encode(), now))

    @pytest.mark.parametrize("vector", VECTORS)
    def test_they_hold(self, vector: tuple[str, str, str, str]) -> None:
        now = float(vector[1])
        for seconds in (0.0, 300.0, -300.0):
            assert self.holds(*vector, now + seconds)
        for seconds in (301.0, -301.0):
            assert not self.holds(*vector, now + seconds)

    @pytest.mark.parametrize("vector", VECTORS)
    def test_what_is_changed_does_not(self, vector: tuple[str, str, str, str]) -> None:
        secret, time, body, signature = vector
        now = float(time)
        assert not self.holds(secret, str(int(time) + 1), body, signature, now)
        assert not self.holds(secret, time, body.replace("t", "T", 1), signature, now)
        assert not self.holds(secret, time, body, signature.replace("v0=", "v1="), now)
        assert not self.holds(secret, time, body, signature.removeprefix("v0="), now)
        assert not self.holds(secret.upper(), time, body, signature, now)

    @pytest.mark.parametrize(
        "time", ["abc", "1e3", "", "1531420618.0", "+1531420618", "-1", "\u0661", "\xff"]
    )
    def test_a_time_that_is_none_is_refused_and_never_raises(self, time: str) -> None:
        secret, _, body, _ = VECTORS[0]
        text = f"v0:{time}:{body}".encode()
        signature = "v0=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
        for now in (0.0, 1531420618.0):
            assert not self.holds(secret, time, body, signature, now)


class TestHandshake:
    """Slack asks whether the URL is its app's."""

    def test_the_challenge_is_answered(self, intake: Intake) -> None:
        body = b'{"token":"legacy-t0ken","challenge":"3eZbrw1aBm2r","type":"url_verification"}'
        answer = post(intake, body)
        assert (answer.status, answer.body) == (200, {"challenge": "3eZbrw1aBm2r"})
        assert intake.rows() == (1, 0)
        assert intake.outbox.event(1).event == "url_verification"
        again = post(intake, body)
        assert (again.status, again.body) == (200, {"challenge": "3eZbrw1aBm2r"})

    def test_one_without_a_signature_is_not(self, intake: Intake) -> None:
        body = b'{"challenge":"3eZbrw1aBm2r","type":"url_verification"}'
        for headers in (
            {},
            {"X-Slack-Signature": "v0=" + "0" * 64, "X-Slack-Request-Timestamp": "1800000000"},
        ):
            with pytest.raises(NotAuthentic):
                intake.post("slack", body, {"Content-Type": JSON_TYPE, **headers})
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("challenge", [None, 5, "", [], {"a": 1}])
    def test_a_challenge_that_is_no_text(self, intake: Intake, challenge: Any) -> None:
        with pytest.raises(Unreadable, match="must have a text as challenge"):
            post(intake, orjson.dumps({"type": "url_verification", "challenge": challenge}))

    def test_the_check_of_the_certificate(self, intake: Intake) -> None:
        body = form(token="legacy-t0ken", ssl_check="1")
        assert post(intake, body, FORM_TYPE).status == 200
        assert intake.rows() == (1, 0)
        with pytest.raises(NotAuthentic):
            intake.post("slack", body, {"Content-Type": FORM_TYPE})


class TestEvent:
    """The Events API."""

    def test_the_inner_type_is_the_event(self, intake: Intake) -> None:
        assert post(intake, MENTION).status == 202
        event = intake.outbox.event(1)
        assert (event.full_name, event.delivery_id) == ("app_mention", "Ev0A1B2C3D4E")
        assert event.body == MENTION

    def test_the_subtype_is_the_action(self, intake: Intake) -> None:
        post(intake, sample("slack/message.channel_topic.json"))
        assert intake.outbox.event(1).full_name == "message.channel_topic"

    def test_one_sent_again_is_the_same(self, intake: Intake) -> None:
        post(intake, MENTION)
        intake.clock.now += 3600
        again = post(intake, MENTION, X_Slack_Retry_Num="1", X_Slack_Retry_Reason="http_timeout")
        assert (again.status, again.body["duplicate"]) == (200, True)

    def test_another_event_with_the_same_text_is_another(self, intake: Intake) -> None:
        post(intake, MENTION)
        assert post(intake, changed(MENTION, event_id="Ev2")).status == 202

    def test_a_limit_of_the_rate_is_an_event(self, intake: Intake) -> None:
        limited = sample("slack/app_rate_limited.json")
        assert post(intake, limited).status == 202
        intake.clock.now += 361
        assert post(intake, limited).body["duplicate"]
        intake.clock.now += 240
        assert post(intake, limited).status == 202

    @pytest.mark.parametrize(
        "body",
        [
            b"{}", b"[]", b"null", b'"x"', b'{"type":null}', b'{"type":["app_mention"]}',
            without(MENTION, "event"), changed(MENTION, event={}), changed(MENTION, event="app_mention"),
            changed(MENTION, event={"type": 5}), changed(MENTION, event=[]), b'{"ssl_check":1}',
        ],
    )  # fmt: skip
    def test_what_is_no_event(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body)
        assert intake.rows() == (0, 0)

    def test_the_shared_token_is_stored_nowhere(self, intake: Intake, tmp_path: Path) -> None:
        for number, body in enumerate(
            [
                changed(MENTION, token="marked-1"),
                b'{"\\u0074oken":"marked-2","token":{"a":"marked-3"},' + MENTION[1:].replace(b"4E", b"4G"),
            ],
            start=1,
        ):
            assert post(intake, body).status == 202
            event = intake.outbox.event(number)
            assert "token" not in event.payload
            assert orjson.loads(event.body) == event.payload
        post(intake, form(**{**COMMAND, "token": "marked-4"}), FORM_TYPE)
        post(intake, interactive(type="shortcut", token="marked-5", callback_id="x"), FORM_TYPE)
        assert intake.rows()[0] == 4
        stored = everything_stored(tmp_path)
        assert b"marked-" not in stored
        assert b"releases" in stored


class TestCommand:
    """A slash command is a form with plain fields."""

    def test_it_becomes_its_jobs(self, intake: Intake) -> None:
        assert len(COMMAND) > MAX_FORM_FIELDS
        answer = post(intake, form(**COMMAND), FORM_TYPE)
        assert (answer.status, answer.body["text"]) == (200, "Received.")
        assert [job.route for job in intake.jobs()] == ["everything", "deploy"]
        assert [job.arguments for job in intake.jobs()] == [("slash_command",), ("api 1.4.2 + 50%",)]
        event = intake.outbox.event(1)
        assert event.full_name == "slash_command.deploy"
        assert event.delivery_id == COMMAND["trigger_id"]
        assert event.payload == {name: value for name, value in COMMAND.items() if name != "token"}
        assert orjson.loads(event.body) == event.payload

    def test_the_same_words_again_are_another(self, intake: Intake) -> None:
        post(intake, form(**COMMAND), FORM_TYPE)
        post(intake, form(**{**COMMAND, "trigger_id": "13345224610.1.2"}), FORM_TYPE)
        assert len(intake.jobs()) == 4

    def test_it_takes_so_many_fields_and_no_more(self, intake: Intake) -> None:
        more = {f"field_{number}": "x" for number in range(MAX_FIELDS - len(COMMAND))}
        assert post(intake, form(**COMMAND, **more), FORM_TYPE).status == 200
        with pytest.raises(Unreadable, match="more than 30 fields"):
            post(intake, form(**COMMAND, **more, one="more"), FORM_TYPE)

    def test_other_forms_take_no_more_than_before(self) -> None:
        fields = [f"f{number}=x" for number in range(MAX_FORM_FIELDS)]
        assert len(parse_form("&".join(fields).encode())) == MAX_FORM_FIELDS
        with pytest.raises(Unreadable, match="more than 10 fields"):
            parse_form("&".join([*fields, "one=more"]).encode())

    def test_one_of_an_app_without_the_shared_token(self, intake: Intake) -> None:
        fields = {name: value for name, value in COMMAND.items() if name != "token"}
        post(intake, form(**fields), FORM_TYPE)
        assert orjson.loads(intake.outbox.event(1).body) == fields

    def test_a_command_of_a_slash_alone(self, intake: Intake) -> None:
        post(intake, form(**{**COMMAND, "command": "/"}), FORM_TYPE)
        assert intake.outbox.event(1).full_name == "slash_command"

    @pytest.mark.parametrize("body", [b"", b"text=x", b"command=", b"%ff=1&command=%ff", b"command=%zz"])
    def test_what_is_no_command(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body, FORM_TYPE)


class TestInteractivity:
    """An interaction is JSON in a form's ``payload``."""

    def test_its_type_is_the_event(self, intake: Intake) -> None:
        clicked = sample("slack/block_actions.json")
        answer = post(intake, form(payload=clicked.decode()), FORM_TYPE)
        assert (answer.status, answer.body) == (200, {})
        event = intake.outbox.event(1)
        assert (event.full_name, event.body) == ("block_actions", clicked)
        assert event.delivery_id == orjson.loads(clicked)["trigger_id"]

    @pytest.mark.parametrize("payload", ["", "{", "null", "[]", "{}", '{"type":5}', "\udcff"])
    def test_what_is_none(self, intake: Intake, payload: str) -> None:
        with pytest.raises(Unreadable):
            post(intake, b"payload=" + payload.encode(errors="surrogateescape"), FORM_TYPE)

    def test_the_signature_is_over_the_form(self, intake: Intake) -> None:
        clicked = sample("slack/block_actions.json")
        headers = signed(clicked, intake.clock.now, FORM_TYPE)
        with pytest.raises(NotAuthentic):
            intake.post("slack", form(payload=clicked.decode()), headers)


class TestReply:
    """What Slack shows to whoever pressed the button."""

    def reply(self, body: bytes, content: str = JSON_TYPE) -> dict[str, Any] | None:
        source = Source("slack", SLACK, (RequiredProof(SLACK.proofs[0], (Secret(VARIABLES["TOKEN"]),)),))
        request = Request("slack", Headers(signed(body, 1e9, content).items()), {}, body, 1e9)
        event, _ = source.read(request)
        return source.reply(request, event)

    def test_of_an_event_nothing(self) -> None:
        assert self.reply(MENTION) is None
        assert self.reply(sample("slack/app_rate_limited.json")) is None

    def test_of_a_command_a_text(self) -> None:
        assert self.reply(form(**COMMAND), FORM_TYPE) == {"response_type": "ephemeral", "text": "Received."}

    def test_of_an_interaction(self) -> None:
        submitted = sample("slack/view_submission.json").decode()
        assert self.reply(form(payload=submitted), FORM_TYPE) == {"response_action": "clear"}
        assert self.reply(interactive(type="block_suggestion"), FORM_TYPE) == {"options": []}
        assert self.reply(interactive(type="shortcut"), FORM_TYPE) == {}

    def test_an_event_that_is_named_as_one_of_them_is_still_an_event(self) -> None:
        for name in ("url_verification", "ssl_check", "slash_command", "view_submission"):
            body = changed(MENTION, event={"type": name})
            event, _ = Source("slack", SLACK, ()).read(Request("slack", Headers(), {}, body, 1e9))
            assert not SLACK.is_setup_event(event)
            assert self.reply(body) is None


def test_every_sample_is_read(senders: Path, intake: Intake) -> None:
    samples = sorted((senders / "samples" / "slack").glob("*.json"))
    assert samples
    for path in samples:
        event = path.stem.partition(".")[0]
        answer = post(intake, path.read_bytes())
        assert answer.status == (200 if event == "url_verification" else 202)
    events = {intake.outbox.event(number).event for number in range(1, len(samples) + 1)}
    assert events == {path.stem.partition(".")[0] for path in samples}


@pytest.mark.parametrize(
    ("event", "warned"),
    [
        ("app_mention", False), ("message.channel_topic", False), ("slash_command.deploy", False),
        ("app_installed", False), ("view_submission", False), ("app_rate_limited", False),
        ("app_mentoin", True), ("url_verification", True), ("ssl_check", True), ("slash_comand.deploy", True),
    ],
)  # fmt: skip
def test_check_warns_of_a_name_that_slack_does_not_have(tmp_path: Path, event: str, warned: bool) -> None:
    path = tmp_path / "table.yml"
    path.write_text(table(TABLE.replace("event: slash_command.deploy", f"event: {event}")), "utf-8")
    problems = load(path, VARIABLES, discover()).problems
    assert [event in problem.message for problem in problems] == [True] * warned
