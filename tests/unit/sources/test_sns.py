"""Amazon SNS: RSA signatures, the topics that are allowed, and what may be fetched for whom."""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import tests.support.intake
from bridge.core.errors import (
    FetchFailed,
    NotAuthentic,
    NotSent,
    SettingsError,
    Unreadable,
    UnsupportedContent,
)
from bridge.core.event import Headers, Request
from bridge.core.payload import parse_json
from bridge.intake.answer import Answer
from bridge.sources import sns
from bridge.sources.base import bodies as body_formats
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import Options
from bridge.sources.sns import (
    CERTIFICATES_LIMIT,
    FAILED_FETCHES_LIMIT,
    FETCH_RETRY_INTERVAL,
    MESSAGE_AGE_LIMIT,
    MESSAGE_SIZE_LIMIT,
    WAITING_REQUESTS_LIMIT,
    Certificates,
)
from tests.support.aws import CERTIFICATE_URL, Aws, a_topic
from tests.support.intake import Intake, everything_stored, sample
from tests.support.tables import wait_until

MakeIntake = Callable[[str], Intake]

TOPIC = a_topic("right-5ecret")
NOW = 1_800_000_000.0

NOTIFICATION: dict[str, Any] = orjson.loads(sample("sns/Notification.json"))
SUBSCRIPTION: dict[str, Any] = orjson.loads(sample("sns/SubscriptionConfirmation.json"))
UNSUBSCRIPTION: dict[str, Any] = orjson.loads(sample("sns/UnsubscribeConfirmation.json"))

TABLE = f"""
sources:
  alarms:
    type: sns
    topic_arns: ["{a_topic("other")}", "{TOPIC}"]
routes:
  - source: alarms
    task: TASK
    secret_key: KEY
    task_arguments:
      - ${{{{ payload.Message | regex_search('"AlarmName":"([^"]+)"') }}}}
"""


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
def source(aws: Aws) -> Source:
    source_type = discover(aws.fetch)["sns"]
    return Source("alarms", source_type, (RequiredProof(source_type.proofs_with(Options())[0], (TOPIC,)),))


@pytest.fixture
def intake(aws: Aws, make_intake: MakeIntake, monkeypatch: pytest.MonkeyPatch) -> Intake:
    monkeypatch.setattr(tests.support.intake, "discover", lambda: discover(aws.fetch))
    return make_intake(TABLE)


def headers(message: dict[str, Any]) -> dict[str, str]:
    return {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": str(message.get("Type"))}


def request(message: Any, now: float = NOW) -> Request:
    return Request("alarms", Headers(headers(message).items()), {}, orjson.dumps(message), now)


def post(intake: Intake, message: dict[str, Any]) -> Answer:
    return intake.post("alarms", orjson.dumps(message), headers(message))


def refused(source: Source, message: Any, now: float = NOW) -> None:
    with pytest.raises(NotAuthentic):
        source.verify(request(message, now))


class TestSignature:
    """Over some texts of the body, with a key whose certificate stands at AWS."""

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize(
        "name",
        ["Notification", "Notification__no_subject", "SubscriptionConfirmation", "UnsubscribeConfirmation"],
    )
    def test_of_both_versions(self, aws: Aws, source: Source, name: str, version: str) -> None:
        message = aws.sign(orjson.loads(sample(f"sns/{name}.json")), version)
        source.verify(request(message))
        refused(source, {**message, "SignatureVersion": "2" if version == "1" else "1"})
        assert aws.fetched == [CERTIFICATE_URL]

    def test_the_samples(self, aws: Aws, senders: Path) -> None:
        """Their key's certificate is younger than they are: here the key has one of their time."""
        folder = senders / "samples" / "sns"
        given = x509.load_pem_x509_certificate((folder / "test-signing-cert.pem.txt").read_bytes())
        key = given.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        certificate = aws.certify(key)
        source_type = discover(lambda url: certificate)["sns"]
        topic = "arn:aws:sns:us-east-1:123456789012:MyTopic"
        source = Source("a", source_type, (RequiredProof(source_type.proofs_with(Options())[0], (topic,)),))
        paths = sorted(folder.glob("*.json"))
        assert len(paths) == 4
        for path in paths:
            message = orjson.loads(path.read_bytes())
            refused(source, message)  # its certificate stands at localhost, which nobody signs
            message["SigningCertURL"] = CERTIFICATE_URL
            now = datetime.fromisoformat(message["Timestamp"]).timestamp()
            source.verify(request(message, now))
            refused(source, {**message, "Message": message["Message"] + "."}, now)
            refused(source, message, now + MESSAGE_AGE_LIMIT + 1)
            event, _ = source.read(request(message))
            assert event.delivery_id == message["MessageId"]

    @pytest.mark.parametrize("message", [NOTIFICATION, SUBSCRIPTION, UNSUBSCRIPTION])
    def test_every_signed_text_counts(self, aws: Aws, source: Source, message: dict[str, Any]) -> None:
        signed = aws.sign(message)
        names = {"Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"}
        for name in names & message.keys():
            refused(source, {**signed, name: signed[name] + "x"})
            refused(source, {key: value for key, value in signed.items() if key != name})
            others: tuple[Any, ...] = (None, 5, ["x"], {}, "")
            for value in others:
                refused(source, {**signed, name: value})

    def test_a_subject_that_is_added(self, aws: Aws, source: Source) -> None:
        signed = aws.sign({key: value for key, value in NOTIFICATION.items() if key != "Subject"})
        source.verify(request(signed))
        source.verify(request({**signed, "Subject": None}))
        refused(source, {**signed, "Subject": "x"})

    def test_what_is_not_signed_may_be_anything(self, aws: Aws, source: Source) -> None:
        source.verify(request({**aws.sign(NOTIFICATION), "MessageAttributes": 5, "UnsubscribeURL": None}))

    def test_one_text_is_not_read_as_two(self, aws: Aws, source: Source) -> None:
        """What is signed has no quotes: a line break in a message must not make another message of it."""
        told = "harmless\nMessageId\nfirst\nSubject\nevil"
        signed = aws.sign({**NOTIFICATION, "Message": told, "MessageId": "second", "Subject": "s"})
        source.verify(request(signed))
        forged = {
            **signed,
            "Message": "harmless",
            "MessageId": "first",
            "Subject": "evil\nMessageId\nsecond\nSubject\ns",
        }
        refused(source, forged)

    @pytest.mark.parametrize("signature", ["", "x", "é", "====", b64encode(b"x" * 256).decode(), None, 5, []])
    def test_a_spoiled_signature(self, aws: Aws, source: Source, signature: Any) -> None:
        refused(source, {**aws.sign(NOTIFICATION), "Signature": signature})

    def test_a_signature_with_more_in_it(self, aws: Aws, source: Source) -> None:
        signed = aws.sign(NOTIFICATION)
        for other in (" " + signed["Signature"], signed["Signature"] + "\n", "!" + signed["Signature"]):
            refused(source, {**signed, "Signature": other})
        longer = b64encode(b64decode(signed["Signature"]) + b"\0").decode()
        refused(source, {**signed, "Signature": longer})

    @pytest.mark.parametrize("version", ["", "0", "3", "1 ", 1, 2, None, ["2"]])
    def test_an_unknown_version(self, aws: Aws, source: Source, version: Any) -> None:
        refused(source, {**aws.sign(NOTIFICATION, "2"), "SignatureVersion": version})
        assert aws.fetched == []

    @pytest.mark.parametrize(
        "message", [None, [], "text", 5, True, {}, {"TopicArn": TOPIC}, {"Type": "Notification"}]
    )
    def test_what_is_no_message(self, aws: Aws, source: Source, message: Any) -> None:
        with pytest.raises(NotAuthentic, match="has no Signature or TopicArn in its body"):
            source.verify(Request("alarms", Headers(headers({}).items()), {}, orjson.dumps(message), NOW))
        assert aws.fetched == []

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 70, b'{"TopicArn":"\\ud800"}'])
    def test_what_is_no_json(self, source: Source, body: bytes) -> None:
        with pytest.raises(NotAuthentic):
            source.verify(replace(request(NOTIFICATION), body=body))

    def test_a_large_body_is_not_even_parsed(
        self, aws: Aws, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signed = aws.sign({**NOTIFICATION, "Message": "x" * (1024 * 1024)})
        source.verify(request(signed))
        monkeypatch.setattr(sns, "parse_json", None)
        refused(source, {**signed, "Message": "x" * MESSAGE_SIZE_LIMIT})

    def test_anothers_key(self, aws: Aws, source: Source) -> None:
        refused(source, Aws().sign(NOTIFICATION))
        assert aws.fetched == [CERTIFICATE_URL]

    def test_a_key_that_is_no_rsa(self, aws: Aws, source: Source) -> None:
        aws.certificate = aws.certify(ec.generate_private_key(ec.SECP256R1()).public_key())
        refused(source, aws.sign(NOTIFICATION))

    @pytest.mark.parametrize(
        ("now", "holds"),
        [
            (datetime(2026, 12, 31, tzinfo=UTC), False),
            (datetime(2027, 1, 2, tzinfo=UTC), True),
            (datetime(2027, 1, 30, tzinfo=UTC), True),
            (datetime(2027, 2, 2, tzinfo=UTC), False),
        ],
    )
    def test_the_certificates_time(self, aws: Aws, source: Source, now: datetime, holds: bool) -> None:
        aws.certificate = aws.of_another_time(
            datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)
        )
        signed = aws.sign({**NOTIFICATION, "Timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.000Z"})
        if holds:
            source.verify(request(signed, now.timestamp()))
        else:
            refused(source, signed, now.timestamp())

    @pytest.mark.parametrize(
        ("age", "holds"),
        [(-301, False), (-300, True), (0, True), (3600, True), (3900, True), (3901, False), (10**8, False)],
    )
    def test_the_messages_time(self, aws: Aws, source: Source, age: int, holds: bool) -> None:
        """It is signed once, and sent for up to an hour."""
        signed = aws.sign({**NOTIFICATION, "Timestamp": "2027-01-15T08:00:00.000Z"})
        if holds:
            source.verify(request(signed, NOW + age))
        else:
            side = "behind" if age > 0 else "ahead of"
            with pytest.raises(NotAuthentic, match=f"the body's Timestamp is {abs(age):,} s {side}"):
                source.verify(request(signed, NOW + age))

    def test_the_time_of_a_forged_message_is_not_named(self, aws: Aws, source: Source) -> None:
        signed = {**aws.sign(NOTIFICATION), "Message": "another"}
        with pytest.raises(NotAuthentic, match="does not match"):
            source.verify(request(signed, NOW + 10_000))

    @pytest.mark.parametrize(
        "timestamp",
        [
            "2027-13-15T08:00:00.000Z", "2027-01-15T08:00:00", "2027-01-15 08:00:00.000Z", "20270115T080000Z",
            "1800000000", "2027-01-15T08:00:00.000+00:00", "٢027-01-15T08:00:00.000Z", "now",
        ],
    )  # fmt: skip
    def test_what_is_no_time_of_sns(self, aws: Aws, source: Source, timestamp: str) -> None:
        refused(source, aws.sign({**NOTIFICATION, "Timestamp": timestamp}))
        assert aws.fetched == []


class TestCost:
    """How often a body is parsed."""

    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """The bodies that were parsed, one for each time."""
        bodies: list[bytes] = []

        def parse(body: bytes) -> Any:
            bodies.append(body)
            return parse_json(body)

        monkeypatch.setattr(sns, "parse_json", parse)
        monkeypatch.setattr(body_formats, "parse_json", parse)
        return bodies

    @pytest.mark.parametrize("message", [NOTIFICATION, SUBSCRIPTION, UNSUBSCRIPTION])
    def test_an_accepted_message_is_parsed_once(
        self, aws: Aws, intake: Intake, parsed: list[bytes], message: dict[str, Any]
    ) -> None:
        signed = aws.sign(message)
        post(intake, signed)
        assert parsed == [orjson.dumps(signed)]
        post(intake, signed)
        assert len(parsed) == 2

    def test_who_knows_no_topic_costs_no_parsing(self, intake: Intake, parsed: list[bytes]) -> None:
        message = Aws().sign({**NOTIFICATION, "TopicArn": a_topic("unknown")})
        unsigned = {name: value for name, value in NOTIFICATION.items() if name != "Signature"}
        large = {**Aws().sign(NOTIFICATION), "Message": "x" * MESSAGE_SIZE_LIMIT}
        for refused_one in (message, unsigned, large, {}, {"Signature": "x", "TopicArn": [TOPIC[:-1]]}):
            with pytest.raises(NotAuthentic):
                post(intake, refused_one)
        assert parsed == []
        assert intake.rows() == (0, 0)

    def test_who_knows_a_topic_costs_one(self, aws: Aws, intake: Intake, parsed: list[bytes]) -> None:
        forged = Aws().sign(NOTIFICATION)
        others = [
            forged, {**forged, "TopicArn": a_topic("unknown"), "Subject": TOPIC}, {**forged, "Timestamp": 5},
            {**forged, "Type": "Another"}, {**forged, "SigningCertURL": "https://example.com/a.pem"},
        ]  # fmt: skip
        for number, message in enumerate(others, start=1):
            with pytest.raises(NotAuthentic):
                post(intake, message)
            assert len(parsed) == number
        with pytest.raises(NotAuthentic):
            intake.post("alarms", orjson.dumps(forged) + b"]", headers(forged))
        assert len(parsed) == len(others) + 1

    def test_another_body_of_the_same_request_is_parsed_anew(self, aws: Aws, source: Source) -> None:
        """What was proven is what is read, though copies of a request share what was parsed."""
        signed = request(aws.sign(NOTIFICATION))
        source.verify(signed)
        other = replace(signed, body=orjson.dumps({**aws.sign(NOTIFICATION), "Message": "other"}))
        with pytest.raises(NotAuthentic):
            source.verify(other)
        assert source.read(other)[0].payload["Message"] == "other"
        assert source.read(signed)[0].payload["Message"] == NOTIFICATION["Message"]


class TestTopic:
    """Any account at AWS can have SNS sign: only that its topic is allowed makes it a proof."""

    @pytest.mark.parametrize(
        "topic",
        [
            a_topic("stranger"), TOPIC.upper(), f"{TOPIC} ", f"{TOPIC}\n", TOPIC[:-1], f"{TOPIC}x", "", "*",
            None, 5, [TOPIC], {TOPIC: TOPIC},
        ],
    )  # fmt: skip
    def test_nothing_is_fetched_for_another(self, aws: Aws, source: Source, topic: Any) -> None:
        refused(source, aws.sign({**NOTIFICATION, "TopicArn": topic}))
        refused(source, aws.sign({**SUBSCRIPTION, "TopicArn": topic}))
        assert aws.fetched == []

    def test_its_subscription_is_not_confirmed(self, aws: Aws, intake: Intake) -> None:
        with pytest.raises(NotAuthentic, match="Signature or TopicArn in its body does not match"):
            post(intake, aws.sign({**SUBSCRIPTION, "TopicArn": a_topic("stranger")}))
        assert aws.fetched == []
        assert intake.rows() == (0, 0)

    def test_any_of_several(self, aws: Aws, intake: Intake) -> None:
        for topic in (TOPIC, a_topic("other")):
            message = {**NOTIFICATION, "TopicArn": topic, "MessageId": topic[-8:]}
            assert post(intake, aws.sign(message)).status == 202

    def test_who_proves_nothing_confirms_nothing(
        self, aws: Aws, make_intake: MakeIntake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tests.support.intake, "discover", lambda: discover(aws.fetch))
        intake = make_intake("sources: {alarms: {type: sns, allow_unsigned: true}}\nroutes: []")
        sent = {**headers(SUBSCRIPTION), "Content-Type": "application/json"}
        assert intake.post("alarms", orjson.dumps(SUBSCRIPTION), sent).status == 200
        assert aws.fetched == []


class TestCertificateUrl:
    """The certificate comes from AWS, and from no other place that an URL could be made to look like it."""

    @pytest.mark.parametrize(
        "url",
        [
            "http://sns.us-east-1.amazonaws.com/a.pem",
            "HTTPS://sns.us-east-1.amazonaws.com/a.pem",
            "ftp://sns.us-east-1.amazonaws.com/a.pem",
            "//sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com:8443/a.pem",
            "https://sns.us-east-1.amazonaws.com:80/a.pem",
            "https://sns.us-east-1.amazonaws.com:/a.pem",
            "https://user@sns.us-east-1.amazonaws.com/a.pem",
            "https://user:password@sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
            "https://sns.us-east-1.amazonaws.com\\@evil.example/a.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com/a.pem",
            "https://evil.example/?https://sns.us-east-1.amazonaws.com/a.pem",
            "https://evil.example#sns.us-east-1.amazonaws.com/a.pem",
            "https://xsns.us-east-1.amazonaws.com/a.pem",
            "https://x.sns.us-east-1.amazonaws.com/a.pem",
            "https://snsxus-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1xamazonaws.com/a.pem",
            "https://sns.us-east-1.amazonawsxcom/a.pem",
            "https://sns.us-east-1.amazonaws.com.cn.evil.example/a.pem",
            "https://sns.us-east-1.amazonaws.comm/a.pem",
            "https://sns.s3.amazonaws.com/a.pem",
            "https://sns.s3-us-west-2.amazonaws.com/a.pem",
            "https://sns.S3-us-west-2.amazonaws.com/a.pem",
            "https://sns.s3-accelerate.amazonaws.com/a.pem",
            "https://sns.us.east.amazonaws.com/a.pem",
            "https://sns.amazonaws.com/a.pem",
            "https://sns..amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com./a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem\n",
            "https://sns.us-east-1.amazonaws.com/a.pem?x=.pem",
            "https://sns.us-east-1.amazonaws.com/a?x=.pem",
            "https://sns.us-east-1.amazonaws.com/a#.pem",
            "https://sns.us-east-1.amazonaws.com/a;.pem",
            "https://sns.us-east-1.amazonaws.com/../a.pem",
            "https://sns.us-east-1.amazonaws.com//a.pem",
            "https://sns.us-east-1.amazonaws.com/%2e.pem",
            "https://sns.us-east-1.amazonaws.com/a.txt",
            "https://sns.us-east-1.amazonaws.com/a.pem.txt",
            "https://sns.us-east-1.amazonaws.com/.pem",
            "https://sns.us-east-1.amazonaws.com",
            "https://sns.us-éast-1.amazonaws.com/a.pem",
            " https://sns.us-east-1.amazonaws.com/a.pem",
            "", None, 5, ["https://sns.us-east-1.amazonaws.com/a.pem"], "x" * 100_000,
        ],
    )  # fmt: skip
    def test_any_other_is_refused_and_not_fetched(self, aws: Aws, source: Source, url: Any) -> None:
        refused(source, aws.sign({**NOTIFICATION, "SigningCertURL": url}))
        assert aws.fetched == []

    @pytest.mark.parametrize(
        ("url", "fetched"),
        [
            ("https://sns.cn-north-1.amazonaws.com.cn/a-B_1.pem", None),
            ("https://sns.us-gov-west-1.amazonaws.com/a.pem", None),
            ("https://sns.us-east-1.amazonaws.com:443/a.pem", "https://sns.us-east-1.amazonaws.com/a.pem"),
            ("https://sns.US-East-1.amazonaws.com/a.pem", "https://sns.us-east-1.amazonaws.com/a.pem"),
        ],
    )
    def test_its_own(self, aws: Aws, source: Source, url: str, fetched: str | None) -> None:
        topic = TOPIC.replace("us-east-1", url.split(".")[1].lower())
        (required,) = source.required
        source = replace(source, required=(replace(required, secrets=(topic,)),))
        source.verify(request(aws.sign({**NOTIFICATION, "TopicArn": topic, "SigningCertURL": url})))
        assert aws.fetched == [fetched or url]

    def test_another_regions_is_refused_and_not_fetched(self, aws: Aws, source: Source) -> None:
        url = CERTIFICATE_URL.replace("us-east-1", "us-east-2")
        refused(source, aws.sign({**NOTIFICATION, "SigningCertURL": url}))
        assert aws.fetched == []

    def test_how_it_is_spelled_makes_no_further_fetch(self, aws: Aws, source: Source) -> None:
        for region in ("us-east-1", "US-EAST-1", "Us-East-1", "us-east-1.amazonaws.com:443/a.pem"):
            url = f"https://sns.{region}.amazonaws.com/a.pem".replace(".pem.amazonaws.com/a.pem", ".pem")
            source.verify(request(aws.sign({**NOTIFICATION, "SigningCertURL": url})))
        assert len(aws.fetched) == 1


def url_of(number: int) -> str:
    return f"https://sns.us-east-1.amazonaws.com/{number}.pem"


class TestCertificates:
    """Fetched once, and nobody can make the bridge fetch again and again."""

    class Clock:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    @pytest.fixture
    def clock(self) -> Clock:
        return self.Clock()

    def test_a_failed_fetch_is_remembered_for_a_minute(self, aws: Aws, clock: Clock) -> None:
        fetched: list[str] = []

        def fails(url: str) -> bytes:
            fetched.append(url)
            raise NotSent("no connection")

        certificates = Certificates(fails, clock)
        for _ in range(5):
            with pytest.raises(FetchFailed):
                certificates(url_of(1))
        assert fetched == [url_of(1)]
        clock.now += FETCH_RETRY_INTERVAL
        with pytest.raises(FetchFailed, match="no connection"):
            certificates(url_of(1))
        assert fetched == [url_of(1)] * 2

    def test_many_failures_keep_no_other_from_its_certificate(self, aws: Aws, clock: Clock) -> None:
        fetched: list[str] = []

        def fetch(url: str) -> bytes:
            fetched.append(url)
            if url == CERTIFICATE_URL:
                return aws.certificate
            raise NotSent("no connection")

        certificates = Certificates(fetch, clock)
        for number in range(1000):
            with pytest.raises(FetchFailed):
                certificates(url_of(number))
        assert certificates(CERTIFICATE_URL)
        assert len(certificates._failed) == FAILED_FETCHES_LIMIT

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    )
    def test_what_is_no_certificate_is_a_failed_fetch(self, clock: Clock, body: bytes) -> None:
        fetched: list[str] = []

        def fetch(url: str) -> bytes:
            fetched.append(url)
            return body

        certificates = Certificates(fetch, clock)
        for _ in range(2):
            with pytest.raises(FetchFailed):
                certificates(url_of(1))
        assert fetched == [url_of(1)]

    def test_only_so_many_are_kept(self, aws: Aws, clock: Clock) -> None:
        certificates = Certificates(aws.fetch, clock)
        for number in [*range(CERTIFICATES_LIMIT), 0, -1]:
            certificates.mark_proven(url_of(number), certificates(url_of(number)))
        assert (len(certificates._proven), len(certificates._unproven)) == (CERTIFICATES_LIMIT, 0)
        for number in (0, 2, -1):
            certificates(url_of(number))
        assert len(aws.fetched) == CERTIFICATES_LIMIT + 1
        certificates(url_of(1))
        assert aws.fetched[-1] == url_of(1)

    def test_forged_messages_push_no_other_out(self, aws: Aws, source: Source) -> None:
        source.verify(request(aws.sign(NOTIFICATION)))
        for number in range(2 * CERTIFICATES_LIMIT):
            forged = aws.sign({**NOTIFICATION, "SigningCertURL": url_of(number)})
            refused(source, {**forged, "Message": "forged"})
        source.verify(request(aws.sign(NOTIFICATION)))
        assert aws.fetched.count(CERTIFICATE_URL) == 1

    def test_what_proved_nothing_is_remembered_for_a_while(self, aws: Aws, clock: Clock) -> None:
        certificates = Certificates(aws.fetch, clock)
        for number in range(CERTIFICATES_LIMIT + 1):
            certificates(url_of(number))
        for number in range(1, CERTIFICATES_LIMIT + 1):
            certificates(url_of(number))
        assert len(certificates._unproven) == CERTIFICATES_LIMIT
        assert len(aws.fetched) == CERTIFICATES_LIMIT + 1

    def test_many_at_once_make_one_fetch_and_few_wait_for_it(self, aws: Aws) -> None:
        asked, go = threading.Event(), threading.Event()
        fetched: list[str] = []

        def fetch(url: str) -> bytes:
            fetched.append(url)
            asked.set()
            assert go.wait(20)
            return aws.certificate

        certificates = Certificates(fetch)
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(certificates(url_of(1))))
            for _ in range(WAITING_REQUESTS_LIMIT)
        ]
        for thread in threads:
            thread.start()
        assert asked.wait(20)
        wait_until(lambda: certificates._waiting._value == 0)
        with pytest.raises(FetchFailed, match=f"{WAITING_REQUESTS_LIMIT} requests already wait"):
            certificates(url_of(2))
        go.set()
        for thread in threads:
            thread.join(20)
        assert fetched == [url_of(1)]
        assert len(found) == WAITING_REQUESTS_LIMIT

    def test_who_waits_for_anothers_fetch_gives_up(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sns, "FETCH_WAIT_TIMEOUT", 0.05)
        certificates = Certificates(aws.fetch)
        with certificates._lock, pytest.raises(FetchFailed, match="another download took longer than"):
            certificates(url_of(1))

    def test_a_message_that_cannot_be_verified_is_to_be_sent_again(self, aws: Aws, intake: Intake) -> None:
        aws.certificate = b"out of order"
        with pytest.raises(FetchFailed) as caught:
            post(intake, aws.sign(NOTIFICATION))
        assert caught.value.status == 503
        assert intake.rows() == (0, 0)


class TestSubscription:
    """A subscription of an allowed topic is confirmed, once it is stored."""

    def test_it_is_confirmed(self, aws: Aws, intake: Intake) -> None:
        answer = post(intake, aws.sign(SUBSCRIPTION))
        assert (answer.status, answer.body["jobs"]) == (200, [])
        assert aws.fetched == [CERTIFICATE_URL, SUBSCRIPTION["SubscribeURL"]]
        assert intake.outbox.event(1).event == "SubscriptionConfirmation"

    def test_what_cannot_be_confirmed_is_to_be_sent_again(
        self, aws: Aws, intake: Intake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "https://sns.us-east-1.amazonaws.com/?Action=Unreachable"
        with pytest.raises(FetchFailed) as caught:
            post(intake, aws.sign({**SUBSCRIPTION, "SubscribeURL": url}))
        assert caught.value.status == 503
        answer = post(intake, aws.sign({**SUBSCRIPTION}))
        assert answer.body["duplicate"]
        assert aws.fetched[-1] == SUBSCRIPTION["SubscribeURL"]

    @pytest.mark.parametrize(
        "url",
        [
            "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
            "https://sns.us-east-1.amazonaws.com:8443/?Action=ConfirmSubscription",
            "https://user@sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
            "https://sns.s3-us-west-2.amazonaws.com/?Action=ConfirmSubscription",
            "https://sns.us-east-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
            "https://evil.example/?Action=ConfirmSubscription",
            "https://169.254.169.254/?Action=ConfirmSubscription",
            "https://sns.us-east-1.amazonaws.com/?Action=Confirm Subscription",
            "https://sns.us-east-1.amazonaws.com/?a#b",
            "https://sns.us-east-1.amazonaws.com/?a\\b",
            "https://sns.us-east-1.amazonaws.com/?é",
            "https://sns.us-east-1.amazonaws.com/",
            "x",
        ],
    )
    def test_elsewhere_nothing_is_fetched(self, aws: Aws, intake: Intake, url: str) -> None:
        with pytest.raises(Unreadable, match="not a URL of SNS"):
            post(intake, aws.sign({**SUBSCRIPTION, "SubscribeURL": url}))
        assert aws.fetched == [CERTIFICATE_URL]
        assert intake.rows() == (0, 0)

    def test_the_end_of_one_is_stored_and_left(self, aws: Aws, intake: Intake) -> None:
        """Its SubscribeURL would begin it again."""
        answer = post(intake, aws.sign(UNSUBSCRIPTION))
        assert (answer.status, answer.body["jobs"]) == (200, [])
        assert intake.outbox.event(1).event == "UnsubscribeConfirmation"
        assert aws.fetched == [CERTIFICATE_URL]

    def test_what_opens_the_subscription_is_not_stored(
        self, aws: Aws, intake: Intake, tmp_path: Path
    ) -> None:
        for message in (SUBSCRIPTION, UNSUBSCRIPTION, NOTIFICATION):
            post(intake, aws.sign(message))
        stored = everything_stored(tmp_path)
        assert SUBSCRIPTION["Token"].encode() not in stored
        assert b"Action=" not in stored
        assert b"api is slow" in stored


class TestMessage:
    """What a notification says."""

    def test_a_job_of_it(self, aws: Aws, intake: Intake) -> None:
        answer = post(intake, aws.sign(NOTIFICATION))
        assert answer.status == 202
        assert [job.arguments for job in intake.jobs()] == [("api is slow",)]
        event = intake.outbox.event(1)
        assert (event.event, event.action, event.delivery_id) == (
            "Notification", None, NOTIFICATION["MessageId"],
        )  # fmt: skip

    def test_it_is_known_again(self, aws: Aws, intake: Intake) -> None:
        post(intake, aws.sign(NOTIFICATION))
        intake.clock.now += 3600
        assert post(intake, aws.sign(NOTIFICATION, "1")).body["duplicate"]
        assert not post(intake, aws.sign({**NOTIFICATION, "MessageId": "another"})).body["duplicate"]

    @pytest.mark.parametrize("said", ["SubscriptionConfirmation", "notification", "", None])
    def test_the_header_must_fit_the_body(self, aws: Aws, intake: Intake, said: str | None) -> None:
        message = aws.sign(NOTIFICATION)
        sent = {**headers(message)} if said is None else {**headers(message), "x-amz-sns-message-type": said}
        if said is None:
            del sent["x-amz-sns-message-type"]
        with pytest.raises(Unreadable, match="x-amz-sns-message-type is not the Type of the body"):
            intake.post("alarms", orjson.dumps(message), sent)
        assert intake.rows() == (0, 0)

    def test_raw_delivery_is_refused(self, intake: Intake) -> None:
        sent = {**headers(NOTIFICATION), "x-amz-sns-rawdelivery": "true", "x-amz-sns-topic-arn": TOPIC}
        with pytest.raises(NotAuthentic):
            intake.post("alarms", b'{"AlarmName":"api is slow"}', sent)

    def test_without_a_proof_plain_text_is_not_taken(self, make_intake: MakeIntake) -> None:
        """Any page could have a browser send it."""
        intake = make_intake("sources: {alarms: {type: sns, allow_unsigned: true}}\nroutes: []")
        with pytest.raises(UnsupportedContent):
            post(intake, NOTIFICATION)


def test_nobody_else_can_sign(source: Source) -> None:
    with pytest.raises(SettingsError, match="only AWS can sign"):
        source.sign(request(NOTIFICATION))


def test_a_process_that_fetches_nothing_verifies_nothing(aws: Aws, source: Source) -> None:
    source_type = discover()["sns"]
    commands = replace(source, type=source_type, required=(RequiredProof(source_type.proofs[0], (TOPIC,)),))
    with pytest.raises(FetchFailed):
        commands.verify(request(aws.sign(NOTIFICATION)))


def test_two_tables_share_no_certificate(aws: Aws) -> None:
    one, other = discover(aws.fetch)["sns"], discover(aws.fetch)["sns"]
    for source_type in (one, other):
        proof = source_type.proofs_with(Options())[0]
        assert proof.verify(request(aws.sign(NOTIFICATION)), (TOPIC,))
    assert len(aws.fetched) == 2
