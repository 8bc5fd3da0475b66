"""Any sender of JSON: names where the table's paths say, a shared token, a hash where there is no id."""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import Event
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, everything_stored, sample

MakeIntake = Callable[[str], Intake]

ORDER = sample("generic/event__order.json")


def source(keys: str) -> str:
    return f"sources: {{shop: {{type: generic, {keys}}}}}\nroutes: []"


def stored(
    intake: Intake,
    body: bytes = ORDER,
    headers: Mapping[str, str] = JSON_HEADERS,
    query: Mapping[str, str] | None = None,
) -> Event:
    return intake.outbox.event(intake.post("shop", body, headers, query).body["event"])


class TestProof:
    """``token`` in the header that the table names, ``bearer_token``, ``basic_auth``."""

    def test_a_token_in_a_header(self, make_intake: MakeIntake) -> None:
        intake = make_intake(
            source('header: X-Shop-Key, token: ["${{ env.TOKEN }}", "${{ env.TOKEN_OLD }}"]')
        )
        for name in ("X-Shop-Key", "x-shop-key", "X-SHOP-KEY"):
            for token in (VARIABLES["TOKEN"], VARIABLES["TOKEN_OLD"]):
                stored(intake, headers={**JSON_HEADERS, name: token})
        for proof in ({}, {"X-Shop-Key": "x"}, {"X-Token": VARIABLES["TOKEN"]}, BEARER, {"X-Shop-Key": ""}):
            with pytest.raises(NotAuthentic):
                stored(intake, headers={**JSON_HEADERS, **proof})

    @pytest.mark.parametrize(
        ("keys", "proof"),
        [
            ("bearer_token: '${{ env.TOKEN }}'", BEARER),
            (
                "basic_auth: {username: maria, password: '${{ env.PASSWORD }}'}",
                basic("maria", VARIABLES["PASSWORD"]),
            ),
            (
                "basic_auth: [{username: a, password: '${{ env.TOKEN }}'}, "
                "{username: maria, password: '${{ env.PASSWORD }}'}]",
                basic("maria", VARIABLES["PASSWORD"]),
            ),
        ],
        ids=["bearer", "basic", "the second of two pairs"],
    )
    def test_in_authorization(self, make_intake: MakeIntake, keys: str, proof: dict[str, str]) -> None:
        intake = make_intake(source(keys))
        stored(intake, headers={**JSON_HEADERS, **proof})
        for other in (
            {},
            {"Authorization": "Bearer x"},
            basic("maria", "x"),
            {"X-Token": VARIABLES["TOKEN"]},
        ):
            with pytest.raises(NotAuthentic):
                stored(intake, headers={**JSON_HEADERS, **other})

    def test_a_token_in_the_query_proves_nothing(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source('header: X-Shop-Key, token: "${{ env.TOKEN }}"'))
        with pytest.raises(NotAuthentic):
            stored(intake, query={"token": VARIABLES["TOKEN"]})


#: How a table may say that a sender signs: `signature`, the signature's header as Python's own
#: library makes it, of the time and the body.
SIGNATURES: list[tuple[str, Callable[[bytes, bytes], dict[str, str]]]] = [
    ("{header: X-Sig}", lambda time, body: {"X-Sig": mac("sha256", body).hex()}),
    (
        "{header: X-Sig, algorithm: sha1, prefix: sha1=}",
        lambda time, body: {"X-Sig": "sha1=" + mac("sha1", body).hex()},
    ),
    (
        "{header: X-Sig, algorithm: sha512, encoding: base64}",
        lambda time, body: {"X-Sig": b64encode(mac("sha512", body)).decode()},
    ),
    (
        "{header: X-Sig, signed: 'a{body}b'}",
        lambda time, body: {"X-Sig": mac("sha256", b"a" + body + b"b").hex()},
    ),
    (
        "{header: X-Sig, timestamp_header: X-Time}",
        lambda time, body: {"X-Sig": mac("sha256", time + b"." + body).hex(), "X-Time": time.decode()},
    ),
    (
        "{header: X-Sig, timestamp_header: X-Time, signed: 'v0:{ts}:{body}', prefix: v0=}",
        lambda time, body: {
            "X-Sig": "v0=" + mac("sha256", b"v0:" + time + b":" + body).hex(),
            "X-Time": time.decode(),
        },
    ),
    (
        "{header: X-Sig, timestamp_header: X-Time, signed: '{body}{ts}{ts}', encoding: base64}",
        lambda time, body: {
            "X-Sig": b64encode(mac("sha256", body + time + time)).decode(),
            "X-Time": time.decode(),
        },
    ),
]


def mac(algorithm: str, content: bytes) -> bytes:
    return hmac.new(VARIABLES["TOKEN"].encode(), content, algorithm).digest()


each_signature = pytest.mark.parametrize(
    ("keys", "sign"), SIGNATURES, ids=[keys.replace(" ", "") for keys, _ in SIGNATURES]
)


class TestSignature:
    """``secret`` with ``signature``: how it signs is what the table says."""

    def signed(self, make_intake: MakeIntake, keys: str) -> Intake:
        secrets = '["${{ env.TOKEN_OLD }}", "${{ env.TOKEN }}"]'
        return make_intake(source(f"secret: {secrets}, signature: {keys}"))

    @each_signature
    def test_as_the_table_says(
        self, make_intake: MakeIntake, keys: str, sign: Callable[[bytes, bytes], dict[str, str]]
    ) -> None:
        intake = self.signed(make_intake, keys)
        now = str(int(intake.clock())).encode()
        right = sign(now, ORDER)
        event = stored(intake, headers={**JSON_HEADERS, **right})
        assert not {name.lower() for name in right} & set(event.headers), "they prove, and are not kept"
        wrong = [
            {},
            sign(now, ORDER + b" "),
            {**right, "X-Sig": right["X-Sig"][:-4]},
            {**right, "X-Sig": right["X-Sig"].upper()},
            {**right, "X-Sig": f"x{right['X-Sig']}"},
            {**right, "X-Sig": ""},
            {**right, "X-Sig": "\xe9"},
            {"X-Signature": right["X-Sig"]},
        ]
        if "X-Time" in right:
            wrong += [
                {"X-Sig": right["X-Sig"]},
                {**right, "X-Time": str(int(now) + 1)},
                *(sign(time, ORDER) for time in (b"", b"x", b"1e9", str(int(now) - 301).encode())),
                sign(str(int(now) + 301).encode(), ORDER),
            ]
        for headers in wrong:
            with pytest.raises(NotAuthentic):
                stored(intake, headers={**JSON_HEADERS, **headers})

    @each_signature
    def test_send_signs_so(
        self, make_intake: MakeIntake, keys: str, sign: Callable[[bytes, bytes], dict[str, str]]
    ) -> None:
        intake = make_intake(source(f"secret: '${{{{ env.TOKEN }}}}', signature: {keys}"))
        request = intake.source("shop").sign(intake.request("shop", ORDER))
        expected = sign(str(int(intake.clock())).encode(), ORDER)
        assert {name: request.headers[name] for name in expected} == expected

    def test_beside_a_token(self, make_intake: MakeIntake) -> None:
        keys = "secret: '${{ env.TOKEN }}', signature: {header: X-Sig}"
        intake = make_intake(source(f"{keys}, header: X-Key, token: '${{{{ env.TOKEN_OLD }}}}'"))
        right = {"X-Sig": mac("sha256", ORDER).hex(), "X-Key": VARIABLES["TOKEN_OLD"]}
        stored(intake, headers={**JSON_HEADERS, **right})
        for name, value in right.items():
            with pytest.raises(NotAuthentic):
                stored(intake, headers={**JSON_HEADERS, name: value})

    @pytest.mark.parametrize(
        ("time", "reason"),
        [
            (1_800_000_000, None),
            (1_800_000_000_250, None),
            ("1799999800", None),
            ("2027-01-15T08:00:00Z", None),
            ("2027-01-15T09:00:00+01:00", None),
            (1_799_999_000, "payload.sent.at is 1,000 s behind this machine's clock"),
            ("2027-01-15T09:00:00Z", "payload.sent.at is 3,600 s ahead of this machine's clock"),
            ("abc", 'payload.sent.at is "abc"; expected seconds or milliseconds since the epoch'),
            (None, "payload.sent.at is null; expected seconds"),
            ([], "payload.sent.at is []; expected seconds"),
        ],
    )
    def test_a_time_in_the_signed_body(self, make_intake: MakeIntake, time: Any, reason: str | None) -> None:
        signed = "header: X-Sig, timestamp_field: payload.sent.at"
        intake = make_intake(source(f"secret: '${{{{ env.TOKEN }}}}', signature: {{{signed}}}"))
        body = orjson.dumps({"sent": {"at": time}})
        digest = hmac.new(VARIABLES["TOKEN"].encode(), body, "sha256").hexdigest()
        headers = {**JSON_HEADERS, "X-Sig": digest}
        if reason is None:
            assert stored(intake, body, headers).body == body
        else:
            with pytest.raises(NotAuthentic, match=f"source shop: {re.escape(reason)}"):
                stored(intake, body, headers)
            with pytest.raises(NotAuthentic, match="X-Sig does not match"):
                stored(intake, body + b" ", headers)

    @pytest.mark.parametrize("header", ["t={},v1={}", "v1={1}, t={0},v0=x", "ts={};v1={}", "t={},v1=x,v1={}"])
    def test_the_time_in_the_signatures_header(self, make_intake: MakeIntake, header: str) -> None:
        signed = "header: X-Sig, timestamp_header: x-sig, signed: '{ts}.{body}'"
        intake = make_intake(source(f"secret: '${{{{ env.TOKEN }}}}', signature: {{{signed}}}"))

        def post(at: float, header: str = header) -> None:
            text = f"{at:.0f}.".encode() + ORDER
            digest = hmac.new(VARIABLES["TOKEN"].encode(), text, "sha256").hexdigest()
            stored(intake, headers={**JSON_HEADERS, "X-Sig": header.format(f"{at:.0f}", digest)})

        post(intake.clock())
        with pytest.raises(NotAuthentic, match="t= in X-Sig is 1,000 s behind this machine's clock"):
            post(intake.clock() - 1000)
        with pytest.raises(NotAuthentic, match="the request has no X-Sig with exactly one t="):
            post(intake.clock(), "v1={1}")
        intake.source("shop").verify(intake.source("shop").sign(intake.request("shop", ORDER)))

    @pytest.mark.parametrize("path", ['headers["X-Sig"]', 'headers["x-time"]'])
    def test_what_proves_is_no_name(self, make_intake: MakeIntake, path: str) -> None:
        keys = "secret: '${{ env.TOKEN }}', signature: {header: X-Sig, timestamp_header: X-Time}"
        intake = make_intake(source(f"{keys}, delivery_id: '{path}'"))
        request = intake.source("shop").sign(intake.request("shop", ORDER))
        event = intake.outbox.event(intake.receive(request).body["event"])
        assert event.event == ""
        assert "X-Sig" not in event.headers


class TestUrlToken:
    """``url_token``: ``?token=`` of the URL, for senders that can do nothing else."""

    def test_any_of_its_secrets(self, make_intake: MakeIntake, tmp_path: Path) -> None:
        intake = make_intake(source('url_token: ["${{ env.TOKEN }}", "${{ env.TOKEN_OLD }}"]'))
        for token in (VARIABLES["TOKEN"], VARIABLES["TOKEN_OLD"]):
            event = stored(intake, query={"token": token, "kept": "1"})
            assert event.query == {"kept": "1"}
        for query in ({}, {"token": ""}, {"token": "x"}, {"Token": VARIABLES["TOKEN"]}, {"token": "é"}):
            with pytest.raises(NotAuthentic, match="token in its URL"):
                stored(intake, query=query)
        for headers in (BEARER, {"token": VARIABLES["TOKEN"]}):
            with pytest.raises(NotAuthentic):
                stored(intake, headers={**JSON_HEADERS, **headers})
        for secret in (VARIABLES["TOKEN"], VARIABLES["TOKEN_OLD"]):
            assert secret.encode() not in everything_stored(tmp_path)

    def test_it_is_checked_before_the_body_is_read(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("url_token: '${{ env.TOKEN }}'"))
        with pytest.raises(NotAuthentic):
            intake.check_head(intake.request("shop", b""))
        intake.check_head(intake.request("shop", b"", query={"token": VARIABLES["TOKEN"]}))

    def test_it_signs_nothing_so_json_alone_is_taken(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("url_token: '${{ env.TOKEN }}'"))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        with pytest.raises(UnsupportedContent):
            stored(intake, b"{}", form, {"token": VARIABLES["TOKEN"]})

    def test_it_is_no_name(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("url_token: '${{ env.TOKEN }}', delivery_id: query.token"))
        with pytest.raises(Unreadable, match="is missing"):
            stored(intake, query={"token": VARIABLES["TOKEN"]})


class TestNames:
    """``event``, ``action`` and ``delivery_id`` are field paths."""

    def test_without_paths(self, make_intake: MakeIntake) -> None:
        event = stored(make_intake(source("allow_unsigned: true")))
        assert (event.event, event.action) == ("event", None)
        assert len(event.delivery_id.partition("@")[0]) == 64

    def test_in_the_payload(self, make_intake: MakeIntake) -> None:
        intake = make_intake(
            source(
                "allow_unsigned: true, event: payload.type, action: payload.data.customer,"
                " delivery_id: payload.id"
            )
        )
        event = stored(intake)
        assert (event.event, event.action, event.delivery_id) == (
            "order.created",
            "Zoë & Söhne",
            "ord_01JD4Z",
        )

    def test_in_headers_and_in_the_query(self, make_intake: MakeIntake) -> None:
        keys = """allow_unsigned: true, event: 'headers["X-Topic"]', action: query.kind,
            delivery_id: 'headers["X-Request-Id"]'"""
        intake = make_intake(source(keys))
        headers = {**JSON_HEADERS, "x-topic": "orders", "X-REQUEST-ID": "r1"}
        event = stored(intake, headers=headers, query={"kind": "created"})
        assert (event.full_name, event.delivery_id) == ("orders.created", "r1")

    @pytest.mark.parametrize(
        ("value", "text"), [("a", "a"), (5, "5"), (0, "0"), (-1, "-1"), (2**53, "9007199254740992")]
    )
    def test_whole_numbers_are_names_too(self, make_intake: MakeIntake, value: Any, text: str) -> None:
        keys = "allow_unsigned: true, event: payload.n, action: payload.n, delivery_id: payload.n"
        event = stored(make_intake(source(keys)), orjson.dumps({"n": value}))
        assert (event.event, event.action, event.delivery_id) == (text, text, text)

    @pytest.mark.parametrize("value", [True, False, 1.5, [], ["a"], {}, {"a": 1}])
    @pytest.mark.parametrize("key", ["event", "action", "delivery_id"])
    def test_anything_else_is_none(self, make_intake: MakeIntake, key: str, value: Any) -> None:
        intake = make_intake(source(f"allow_unsigned: true, {key}: payload.n"))
        with pytest.raises(Unreadable, match=r"at payload\.n is .*, expected text"):
            stored(intake, orjson.dumps({"n": value}))
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("body", [b"{}", b'{"n":null}', b'{"n":""}', b"[]", b"null", b"1"])
    @pytest.mark.parametrize("key", ["event", "delivery_id"])
    def test_what_is_named_must_be_there(self, make_intake: MakeIntake, key: str, body: bytes) -> None:
        intake = make_intake(source(f"allow_unsigned: true, {key}: payload.n"))
        with pytest.raises(Unreadable, match=r"payload\.n is missing"):
            stored(intake, body)
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("body", [b"{}", b'{"n":null}', b'{"n":""}', b"[]"])
    def test_but_an_action_may_be_missing(self, make_intake: MakeIntake, body: bytes) -> None:
        assert stored(make_intake(source("allow_unsigned: true, action: payload.n")), body).action is None

    @pytest.mark.parametrize("key", ["event", "action"])
    @pytest.mark.parametrize("value", ["x" * 256, "a\x00b"])
    def test_names_have_limits(self, make_intake: MakeIntake, key: str, value: str) -> None:
        intake = make_intake(source(f"allow_unsigned: true, {key}: payload.n"))
        with pytest.raises(Unreadable):
            stored(intake, orjson.dumps({"n": value}))
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("value", ["x" * 300, "a\x00b"])
    def test_a_delivery_id_that_cannot_be_indexed_is_stored_as_its_hash(
        self, make_intake: MakeIntake, value: str
    ) -> None:
        intake = make_intake(source("allow_unsigned: true, delivery_id: payload.n"))
        body = orjson.dumps({"n": value})
        assert stored(intake, body).delivery_id == f"sha256:{sha256(value.encode()).hexdigest()}"
        assert intake.post("shop", body).body["duplicate"]
        assert not intake.post("shop", orjson.dumps({"n": f"{value}x"})).body["duplicate"]

    @pytest.mark.parametrize(
        "path",
        [
            "headers.Authorization",
            'headers["X-Shop-Key"]',
            "headers.Cookie",
            'headers["proxy-authorization"]',
            "query.token",
        ],
    )
    def test_a_credential_is_no_name(self, make_intake: MakeIntake, tmp_path: Path, path: str) -> None:
        """A path that leads to one finds nothing there: it would be stored and logged otherwise."""
        keys = "header: X-Shop-Key, any_of: {token: '${{ env.TOKEN }}', bearer_token: '${{ env.TOKEN }}'}"
        intake = make_intake(source(f"{keys}, delivery_id: '{path}'"))
        credentials = {
            **BEARER,
            "X-Shop-Key": VARIABLES["TOKEN"],
            "Cookie": VARIABLES["TOKEN"],
            "Proxy-Authorization": VARIABLES["TOKEN"],
        }
        with pytest.raises(Unreadable, match="is missing"):
            stored(intake, headers={**JSON_HEADERS, **credentials}, query={"token": VARIABLES["TOKEN"]})
        assert VARIABLES["TOKEN"].encode() not in everything_stored(tmp_path)


class TestComesAgain:
    """By its delivery id, or by a hash over its body within a window."""

    def test_by_its_id_for_as_long_as_it_is_stored(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("allow_unsigned: true, delivery_id: payload.id"))
        stored(intake)
        intake.clock.now += 1_000_000
        assert intake.post("shop", ORDER).body["duplicate"]
        assert not intake.post("shop", b'{"id":"ord_01JD5A"}').body["duplicate"]

    def test_by_its_body_within_the_window(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("allow_unsigned: true"))
        stored(intake)
        intake.clock.now += 29
        assert intake.post("shop", ORDER).body["duplicate"]
        assert not intake.post("shop", ORDER + b" ").body["duplicate"]
        intake.clock.now += 2
        assert not intake.post("shop", ORDER).body["duplicate"]

    def test_another_event_with_the_same_body_is_another(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("allow_unsigned: true, event: 'headers[\"X-Event\"]'"))
        first = intake.post("shop", ORDER, {**JSON_HEADERS, "X-Event": "deploy"})
        other = intake.post("shop", ORDER, {**JSON_HEADERS, "X-Event": "rollback"})
        again = intake.post("shop", ORDER, {**JSON_HEADERS, "X-Event": "deploy"})
        assert [answer.body["duplicate"] for answer in (first, other, again)] == [False, False, True]

    def test_with_dedupe_off(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("allow_unsigned: true, dedupe: off"))
        assert len({intake.post("shop", ORDER).body["event"] for _ in range(3)}) == 3


class TestPayload:
    """Any JSON value."""

    @pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"true", b"5", b'"text"', b'{"a":"\\u0000"}'])
    def test_of_any_kind(self, make_intake: MakeIntake, body: bytes) -> None:
        event = stored(make_intake(source("allow_unsigned: true")), body)
        assert event.payload == orjson.loads(body)
        assert event.body == body
