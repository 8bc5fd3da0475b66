"""Any sender of JSON: names where the table's paths say, a shared token, a hash where there is no id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.errors import NotAuthentic, Unreadable
from bridge.event import Event
from tests.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, everything_stored, sample

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

    @pytest.mark.parametrize("key", ["event", "action", "delivery_id"])
    @pytest.mark.parametrize("value", ["x" * 256, "a\x00b"])
    def test_names_have_limits(self, make_intake: MakeIntake, key: str, value: str) -> None:
        intake = make_intake(source(f"allow_unsigned: true, {key}: payload.n"))
        with pytest.raises(Unreadable):
            stored(intake, orjson.dumps({"n": value}))
        assert intake.rows() == (0, 0)

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
        assert intake.post("shop", b'{"id":"ord_01JD4Z"}').body["duplicate"]
        assert not intake.post("shop", b'{"id":"ord_01JD5A"}').body["duplicate"]

    def test_by_its_body_within_the_window(self, make_intake: MakeIntake) -> None:
        intake = make_intake(source("allow_unsigned: true"))
        stored(intake)
        intake.clock.now += 29
        assert intake.post("shop", ORDER).body["duplicate"]
        assert not intake.post("shop", ORDER + b" ").body["duplicate"]
        intake.clock.now += 2
        assert not intake.post("shop", ORDER).body["duplicate"]

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
