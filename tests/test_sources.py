"""The contract that every source type keeps, run over every discovered one.

A further type adds a folder of fixtures, named ``<event or event.action>[__<case>].json``, and nothing here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bridge.sources
from bridge.config.shapes import LATER_TYPES, ProofShapes
from bridge.errors import NotAuthentic, Refusal, Unreadable, UnsupportedContent
from bridge.event import Headers, Request
from bridge.route import item_key
from bridge.settings import Secret
from bridge.sources import CREDENTIAL_HEADERS, MAX_NAME, Options, Source, SourceType, discover
from bridge.sources.signatures import Credentials, Proof, Required, signing_headers
from tests.intake import FIXTURES

TYPES = discover()

SECRET = "right-5ecret"
WRONG = "wrong-5ecret"

NOW = 1_800_000_000.0


def all_proofs() -> Iterator[tuple[SourceType, Proof]]:
    for source_type in TYPES.values():
        for proof in source_type.proofs:
            yield source_type, proof


def all_samples() -> Iterator[tuple[SourceType, Path]]:
    for source_type in TYPES.values():
        for path in sorted((FIXTURES / source_type.name).glob("*.json")):
            yield source_type, path


each_type = pytest.mark.parametrize(
    "source_type", [pytest.param(one, id=name) for name, one in TYPES.items()]
)
each_proof = pytest.mark.parametrize(
    ("source_type", "proof"),
    [pytest.param(one, proof, id=f"{one.name}-{proof.key}") for one, proof in all_proofs()],
)
each_sample = pytest.mark.parametrize(
    ("source_type", "path"),
    [pytest.param(one, path, id=f"{one.name}-{path.stem}") for one, path in all_samples()],
)

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

hostile = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def full_name(path: Path) -> str:
    """``event.action``, or the event, as a fixture's name says it."""
    return path.stem.partition("__")[0]


def event_name(source_type: SourceType, path: Path) -> str:
    """What the sender calls it in a header: the fixture's name without the action in its body."""
    action = orjson.loads(path.read_bytes()).get("action")
    return full_name(path).removesuffix(f".{action}")


def a_secret(proof: Proof, text: str = SECRET) -> Secret | Credentials:
    return Credentials("maria", Secret(text)) if proof.key == "basic_auth" else Secret(text)


def a_source(source_type: SourceType, *proofs: Proof) -> Source:
    required = tuple(Required(proof, (a_secret(proof),)) for proof in proofs or source_type.proofs[:1])
    return Source(name="here", type=source_type, required=required, dedupe=source_type.dedupe)


def a_request(source: Source, path: Path, body: bytes | None = None) -> Request:
    """A fixture, sent and signed as its sender would."""
    body = path.read_bytes() if body is None else body
    headers = source.type.headers_for(event_name(source.type, path))
    headers.update(signing_headers(source.required, body))
    return Request("here", Headers(headers.items()), {}, body, NOW)


def with_header(request: Request, name: str, value: str | None) -> Request:
    headers = dict(request.headers.without([name]).items())
    return replace(request, headers=Headers((headers if value is None else {**headers, name: value}).items()))


def a_sample(source_type: SourceType) -> Path:
    return next(path for one, path in all_samples() if one is source_type)


class TestDeclaration:
    """What a type says of itself fits the table's keys and the other types."""

    def test_there_is_one_type_a_module(self) -> None:
        modules = {module.name for module in iter_modules(bridge.sources.__path__)} - {"signatures"}
        assert {name.replace("-", "_") for name in TYPES} == modules
        for name in modules:
            own = [
                value
                for value in vars(import_module(f"bridge.sources.{name}")).values()
                if isinstance(value, type) and issubclass(value, SourceType) and value is not SourceType
            ]
            assert len(own) == 1

    @each_type
    def test_it_has_fixtures(self, source_type: SourceType) -> None:
        assert list((FIXTURES / source_type.name).glob("*.json")), "write samples of what it sends"

    @each_type
    def test_it_is_no_longer_announced_as_coming(self, source_type: SourceType) -> None:
        assert source_type.name not in LATER_TYPES

    @each_type
    def test_its_proofs_and_options_are_keys_of_the_table(self, source_type: SourceType) -> None:
        keys = [proof.key for proof in source_type.proofs]
        assert keys
        assert set(keys) <= set(ProofShapes.model_fields)
        assert len(set(keys)) == len(keys)
        assert set(source_type.options) <= {field.name for field in dataclasses.fields(Options)}

    @each_type
    def test_it_sends_a_content_type_that_it_takes(self, source_type: SourceType) -> None:
        headers = source_type.headers_for(event_name(source_type, a_sample(source_type)))
        assert headers["Content-Type"].partition(";")[0] in source_type.content_types

    @each_type
    def test_it_says_what_is_missing_where_no_event_is_named(self, source_type: SourceType) -> None:
        try:
            headers = source_type.headers_for(None)
        except Unreadable as error:
            assert "--event" in str(error)
        else:
            assert "Content-Type" in headers

    @each_type
    def test_the_header_of_its_event_is_the_one_that_its_sender_sends(self, source_type: SourceType) -> None:
        """What is kept of a refused request, whose body nobody has read, comes from there."""
        headers = source_type.headers_for("marked")
        assert [name for name, value in headers.items() if value == "marked"] == [
            name for name in (source_type.event_header,) if name is not None
        ]

    @each_type
    def test_its_advice_is_a_message_and_a_hint(self, source_type: SourceType) -> None:
        for events in [(), ("push",), tuple(source_type.events)]:
            for loops in (False, True):
                advice = source_type.advice(events, loops=loops)
                assert advice is None or all(isinstance(part, str) and part for part in advice)


@each_sample
class TestSample:
    """What its sender sends is taken on."""

    def test_it_is_read_as_its_name_says(self, source_type: SourceType, path: Path) -> None:
        source = a_source(source_type)
        request = a_request(source, path)
        source.verify_head(request.with_body(b""))
        source.verify(request)
        event, reading = source.read(request)
        assert event.full_name == full_name(path)
        assert event.payload == orjson.loads(request.body)
        assert orjson.loads(event.body) == event.payload
        assert (event.source, event.received_at) == ("here", NOW)
        assert reading.delivery_id or (reading.fingerprint and source_type.dedupe)

    def test_every_proof_of_it_is_enough(self, source_type: SourceType, path: Path) -> None:
        for proof in source_type.proofs:
            source = a_source(source_type, proof)
            source.verify(a_request(source, path))

    def test_the_same_webhook_is_known_again(self, source_type: SourceType, path: Path) -> None:
        source = a_source(source_type)
        request = a_request(source, path)
        later = replace(request, received_at=NOW + 5)
        (first, one), (second, other) = source.read(request), source.read(later)
        assert (one.delivery_id, one.fingerprint) == (other.delivery_id, other.fingerprint)
        assert (first.delivery_id == second.delivery_id) is (one.delivery_id is not None)

    def test_a_body_without_a_key_of_its_event_is_unreadable(
        self, source_type: SourceType, path: Path
    ) -> None:
        source = a_source(source_type)
        for key in source_type.events.get(event_name(source_type, path), ()):
            whole = orjson.loads(path.read_bytes())
            body = orjson.dumps({name: value for name, value in whole.items() if name != key})
            with pytest.raises(Unreadable):
                source.read(a_request(source, path, body))

    def test_what_is_no_object_never_raises_but_as_unreadable(
        self, source_type: SourceType, path: Path
    ) -> None:
        source = a_source(source_type)
        for body in (b"null", b"[]", b'"text"', b"1", b"true", b"{}", b"", b"{", b"\xff", b'{"action":5}'):
            try:
                event, _ = source.read(a_request(source, path, body))
            except Unreadable:
                continue
            assert event.payload == orjson.loads(body)

    @hostile
    @given(data=st.data())
    def test_any_value_anywhere_never_raises_but_as_unreadable(
        self, source_type: SourceType, path: Path, data: st.DataObject
    ) -> None:
        payload = orjson.loads(path.read_bytes())
        holder: Any = payload
        while True:
            if not holder:
                break
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = data.draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and data.draw(st.booleans()):
                holder = holder[key]
                continue
            holder[key] = data.draw(json_values)
            break
        source = a_source(source_type)
        request = a_request(source, path, orjson.dumps(payload))
        try:
            event, reading = source.read(request)
        except Refusal:
            return
        assert event.event
        assert reading.delivery_id or reading.fingerprint

    def test_no_credential_gets_into_the_event(self, source_type: SourceType, path: Path) -> None:
        source = a_source(source_type)
        private = {*CREDENTIAL_HEADERS, *source_type.private_headers}
        private |= {proof.header for proof in source_type.proofs}
        request = a_request(source, path)
        headers = {**request.headers, **dict.fromkeys(private, "marked-5ecret"), "X-Kept": "kept"}
        request = replace(
            request, headers=Headers(headers.items()), query={"token": "marked-5ecret", "a": "kept"}
        )
        event, _ = source.read(request)
        assert "marked-5ecret" not in repr(event)
        assert "marked-5ecret" not in repr({name: dict(event.scope[name]) for name in ("headers", "query")})
        assert not any(name in event.headers for name in private)
        assert event.headers["x-kept"] == event.query["a"] == "kept"


@each_proof
class TestProof:
    """A request that does not prove itself is refused, whatever stands in its headers."""

    def refused(self, source: Source, request: Request) -> None:
        with pytest.raises(NotAuthentic) as caught:
            source.verify(request)
        assert SECRET not in str(caught.value)
        assert WRONG not in str(caught.value)

    def test_another_secret(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        theirs = replace(source, required=(Required(proof, (a_secret(proof, WRONG),)),))
        self.refused(source, a_request(theirs, a_sample(source_type)))

    def test_an_empty_secret(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        theirs = replace(source, required=(Required(proof, (a_secret(proof, ""),)),))
        self.refused(source, a_request(theirs, a_sample(source_type)))

    def test_no_secret_is_known(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        unset = replace(source, required=(Required(proof, ()),))
        self.refused(unset, a_request(source, a_sample(source_type)))

    def test_the_second_of_two_secrets(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        rotating = replace(source, required=(Required(proof, (a_secret(proof, WRONG), a_secret(proof))),))
        rotating.verify(a_request(source, a_sample(source_type)))

    def test_a_changed_byte(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        if proof.needs_body:
            self.refused(source, request.with_body(request.body.replace(b"a", b"b", 1)))
            self.refused(source, request.with_body(request.body + b" "))
        value = request.headers[proof.header]
        other = "0" if value[-1] != "0" else "1"
        self.refused(source, with_header(request, proof.header, value[:-1] + other))

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda value: None, id="missing"),
            pytest.param(lambda value: "", id="empty"),
            pytest.param(lambda value: " ", id="blank"),
            pytest.param(lambda value: f"{value},{value}", id="doubled"),
            pytest.param(lambda value: f"{value}, {value}", id="doubled-with-a-blank"),
            pytest.param(lambda value: f"x,{value}", id="doubled-after-another"),
            pytest.param(lambda value: f"{value},", id="a-comma-after-it"),
            pytest.param(lambda value: value[:-1], id="shorter"),
            pytest.param(lambda value: f"{value}0", id="longer"),
            pytest.param(lambda value: f"{value}\xe9", id="non-ASCII-after-it"),
            pytest.param(lambda value: "\xff\xfe", id="non-ASCII"),
            pytest.param(lambda value: "sha256=" + "\xe9" * 64, id="non-ASCII-hex"),
            pytest.param(lambda value: "Bearer \xe9", id="non-ASCII-bearer"),
            pytest.param(lambda value: "Basic \xe9", id="non-ASCII-basic"),
            pytest.param(lambda value: "\u2603", id="no-Latin-1"),
            pytest.param(lambda value: f"{value}\x00", id="NUL-after-it"),
            pytest.param(lambda value: "x" * 8000, id="very-long"),
        ],
    )
    def test_a_spoiled_header(self, source_type: SourceType, proof: Proof, spoil: Any) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        source.verify(request)
        self.refused(source, with_header(request, proof.header, spoil(request.headers[proof.header])))

    def test_what_needs_no_body_is_checked_without_it(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        head = with_header(a_request(source, a_sample(source_type)), proof.header, None).with_body(b"")
        if proof.needs_body:
            source.verify_head(head)
        else:
            with pytest.raises(NotAuthentic):
                source.verify_head(head)


@each_type
class TestContent:
    """Content types and encodings, told apart before the body is read."""

    def sent(self, source_type: SourceType, content: str | None, **headers: str) -> None:
        source = a_source(source_type)
        request = with_header(a_request(source, a_sample(source_type)), "Content-Type", content)
        for name, value in headers.items():
            request = with_header(request, name.replace("_", "-"), value)
        source.verify_head(request.with_body(b""))
        source.verify(request)

    @pytest.mark.parametrize(
        "content",
        [
            "application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8",
            "Application/JSON", " application/json ;x=y", "application/vnd.github+json",
        ],
    )  # fmt: skip
    def test_json_is_taken(self, source_type: SourceType, content: str) -> None:
        self.sent(source_type, content)

    @pytest.mark.parametrize(
        "content",
        [
            None, "", ";", "text/html", "json", "application/jsonp", "multipart/form-data; boundary=x",
            "application/json, text/plain", "text/html; application/json", "\xff\xfe", "x" * 5000,
        ],
    )  # fmt: skip
    def test_anything_else_is_not(self, source_type: SourceType, content: str | None) -> None:
        with pytest.raises(UnsupportedContent) as caught:
            self.sent(source_type, content)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "\xff", "x" * 5000])
    def test_no_encoding_is_undone(self, source_type: SourceType, encoding: str) -> None:
        with pytest.raises(UnsupportedContent) as caught:
            self.sent(source_type, "application/json", Content_Encoding=encoding)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("encoding", ["identity", "Identity", " identity "])
    def test_identity_is_no_encoding(self, source_type: SourceType, encoding: str) -> None:
        self.sent(source_type, "application/json", Content_Encoding=encoding)

    def test_a_source_without_a_signature_takes_json_only(self, source_type: SourceType) -> None:
        for required in [(), *((Required(proof, (a_secret(proof),)),) for proof in source_type.proofs)]:
            if any(one.proof.needs_body for one in required):
                continue
            source = replace(a_source(source_type), required=required)
            for content in ("application/x-www-form-urlencoded", "text/plain", "text/plain; charset=UTF-8"):
                request = with_header(a_request(source, a_sample(source_type)), "Content-Type", content)
                with pytest.raises(UnsupportedContent):
                    source.verify_head(request)


@each_type
class TestIdentity:
    """What makes an item of a loop the same one."""

    @hostile
    @given(item=json_values)
    def test_any_item_has_one(self, source_type: SourceType, item: Any) -> None:
        again = orjson.loads(orjson.dumps(item))
        assert item_key(source_type.item_identity(item)) == item_key(source_type.item_identity(again))


class TestNames:
    """Limits on what the sender calls its event, its action and its delivery."""

    class Echo(SourceType):
        """Reads the names out of headers of their own."""

        name = "echo"
        proofs = TYPES["github"].proofs

        def read(self, request: Request, options: Options) -> bridge.sources.Reading:
            return bridge.sources.Reading(
                event=request.headers["E"],
                action=request.headers.get("A"),
                payload={},
                body=b"{}",
                delivery_id=request.headers.get("D"),
                fingerprint="f1",
            )

    def read(self, **names: str) -> bridge.event.Event:
        source = Source(name="here", type=self.Echo(), required=())
        return source.read(Request("here", Headers({"E": "push", **names}.items()), {}, b"", NOW))[0]

    @pytest.mark.parametrize("name", ["E", "A", "D"])
    @pytest.mark.parametrize("length", [1, MAX_NAME])
    def test_up_to_the_limit(self, name: str, length: int) -> None:
        event = self.read(**{name: "é" * length})
        assert "é" * length in (event.event, event.action, event.delivery_id)

    @pytest.mark.parametrize("name", ["E", "A", "D"])
    @pytest.mark.parametrize("value", ["x" * (MAX_NAME + 1), "a\x00b", "\x00"])
    def test_beyond_it_or_with_nul(self, name: str, value: str) -> None:
        with pytest.raises(Unreadable, match="1 to 255 characters without NUL"):
            self.read(**{name: value})

    @pytest.mark.parametrize("name", ["E", "A"])
    def test_an_empty_one(self, name: str) -> None:
        with pytest.raises(Unreadable):
            self.read(**{name: ""})

    def test_without_an_id_the_fingerprint_and_the_time_stand_for_it(self) -> None:
        assert self.read().delivery_id == "f1@2027-01-15T08:00:00.000000Z"
        assert self.read(D="").delivery_id == "f1@2027-01-15T08:00:00.000000Z"
