"""The contract that every source type keeps, run over every discovered one.

A further type adds a folder of fixtures, named ``<event or event.action>[__<case>].json``, and nothing here.
"""

from __future__ import annotations

import dataclasses
import math
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar
from urllib.parse import quote_plus

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

import bridge.sources
from bridge.config.first_table import example
from bridge.config.load import load
from bridge.config.models import ProofsModel
from bridge.core.errors import NotAuthentic, Refusal, Unreadable, UnsupportedContent
from bridge.core.event import Event, Headers, Request
from bridge.core.fields import Step, path_text
from bridge.core.secrets import Secret
from bridge.routing.route import item_key
from bridge.sources.base.discovery import discover
from bridge.sources.base.known_fields import BOOLEAN, find_unknown_step, known_at
from bridge.sources.base.proofs import (
    MAX_SIGNATURES,
    BasicCredentials,
    Credential,
    Proof,
    RequiredProof,
    TimeInSignature,
)
from bridge.sources.base.signed_time import TIME_TOLERANCE
from bridge.sources.base.source import CREDENTIAL_HEADERS, MAX_NAME, Source
from bridge.sources.base.source_type import EVERY_EVENT, Options, ParsedWebhook, SourceType
from bridge.sources.standard_webhooks import StandardSignature
from tests.support.aws import Aws, a_topic
from tests.support.examples import examples
from tests.support.intake import FIXTURES, Intake, sender_request

AWS = Aws()
#: Signs as AWS does, with a key that AWS does not have.
ROGUE = Aws()
TYPES = discover(AWS.fetch)

SECRET = "right-5ecret"
WRONG = "wrong-5ecret"

NOW = 1_800_000_000.0


#: Proofs that stand in no header: the test file of their type has the contract's cases for them.
IN_THE_BODY = ("topic_arns",)


def all_proofs() -> Iterator[tuple[SourceType, Proof]]:
    for source_type in TYPES.values():
        for proof in source_type.proofs_with(Options()):
            yield source_type, proof


def all_samples() -> Iterator[tuple[SourceType, Path]]:
    for source_type in TYPES.values():
        for path in sorted((FIXTURES / source_type.name).glob("*.json")):
            yield source_type, path


each_type = pytest.mark.parametrize(
    "source_type", [pytest.param(one, id=name) for name, one in TYPES.items()]
)


def each_proof_that(fits: Callable[[Proof], bool]) -> pytest.MarkDecorator:
    """For a test of every type's every proof of this kind; slow, but for one of each class."""
    seen: set[type[Proof]] = set()
    chosen = []
    for one, proof in all_proofs():
        if fits(proof):
            slow = [pytest.mark.slow] if type(proof) in seen else []
            chosen.append(pytest.param(one, proof, id=f"{one.name}-{proof.key}", marks=slow))
            seen.add(type(proof))
    return pytest.mark.parametrize(("source_type", "proof"), chosen)


each_proof = each_proof_that(lambda proof: proof.key not in IN_THE_BODY)
# The first sample of each type; the others are slow.
each_sample = pytest.mark.parametrize(
    ("source_type", "path"),
    [
        pytest.param(one, path, id=f"{one.name}-{path.stem}", marks=[pytest.mark.slow] if number else [])
        for source_type in TYPES.values()
        for number, (one, path) in enumerate(pair for pair in all_samples() if pair[0] is source_type)
    ],
)

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

hostile = settings(
    max_examples=examples(25),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def full_name(path: Path) -> str:
    """``event.action``, or the event, as a fixture's name says it; there ``;`` stands for a colon."""
    return path.stem.partition("__")[0].replace(";", ":")


def not_among(source_type: SourceType, event: str, payload: Any) -> set[str]:
    """Fields of a payload that its type's declaration of this event's fields does not have."""
    declared = source_type.fields
    inside = declared.get(EVERY_EVENT) or declared.get(event) or declared.get(event.rpartition(".")[0])
    kept = {key: value for key, value in payload.items() if key not in source_type.credential_fields}
    return {
        path_text("payload", steps)
        for steps in all_steps(kept)
        if find_unknown_step(inside, steps) is not None
    }


def fits(text: str, form: str) -> bool:
    """Whether a text has this form of FieldTree."""
    return fnmatchcase(text, form.removeprefix("!")) is not form.startswith("!")


def all_steps(value: Any) -> Iterator[tuple[Step, ...]]:
    """The way to everything in a JSON value."""
    yield ()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, held in inner:
        yield from ((step, *steps) for steps in all_steps(held))


def event_name(source_type: SourceType, path: Path) -> str:
    """What the sender calls it in a header: the fixture's name without the action in its body."""
    if source_type.event_header is not None:  # such a name has no dot, wherever its action stands
        return full_name(path).partition(".")[0]
    name = full_name(path)
    known = [event for event in source_type.events if name == event or name.startswith(f"{event}.")]
    action = orjson.loads(path.read_bytes()).get("action")
    return max(known, key=len, default=name.removesuffix(f".{action}"))


def a_secret(proof: Proof, text: str = SECRET) -> Credential:
    """A secret of the kind that the proof takes; of the same text, the same."""
    if proof.key == "basic_auth":
        return BasicCredentials("maria", Secret(text))
    if proof.key == "topic_arns":
        return a_topic(text)
    if proof.secret_error(text) is not None:  # it takes base64 alone
        return Secret("whsec_" + b64encode(text.encode()).decode())
    return Secret(text)


def a_source(source_type: SourceType, *proofs: Proof) -> Source:
    proofs = proofs or source_type.proofs_with(Options())[:1]
    required = tuple(RequiredProof(proof, (a_secret(proof),)) for proof in proofs)
    return Source(name="here", type=source_type, required=required, dedupe=source_type.dedupe)


def a_request(source: Source, path: Path, body: bytes | None = None) -> Request:
    """A fixture, sent and signed as its sender would."""
    body = path.read_bytes() if body is None else body
    headers = source.type.headers_for(event_name(source.type, path))
    request = Request("here", Headers(headers.items()), {}, body, NOW)
    if source.type.name == "sns":  # nobody but AWS, or who stands in for it, can prove it
        return AWS.prove(request, SECRET)
    return source.sign(request)


def value_of(proof: Proof, request: Request) -> str:
    """What stands where the proof stands."""
    return request.query["token"] if proof.key == "url_token" else request.headers[proof.header]


def with_value(proof: Proof, request: Request, value: str | None) -> Request:
    if proof.key != "url_token":
        return with_header(request, proof.header, value)
    return replace(request, query={} if value is None else {"token": value})


def with_header(request: Request, name: str, value: str | None) -> Request:
    headers = dict(request.headers.without([name]).items())
    return replace(request, headers=Headers((headers if value is None else {**headers, name: value}).items()))


def its_headers(proof: Proof, request: Request) -> list[str]:
    """The headers that prove it: the signature's, and those of what is signed with it."""
    bare = proof.sign(replace(request, headers=Headers()), a_secret(proof))
    return list(bare.headers)


def together(proof: Proof, values: list[str]) -> str:
    """Several signatures in one header, as its sender writes them; the first one's time is that of all."""
    if isinstance(proof, StandardSignature):
        return " ".join(values)
    if isinstance(proof, TimeInSignature):
        values = [values[0], *(value.partition(",")[2] for value in values[1:])]
    return ",".join(values)


def a_sample(source_type: SourceType) -> Path:
    return next(path for one, path in all_samples() if one is source_type)


class TestDeclaration:
    """What a type says of itself fits the table's keys and the other types."""

    def test_there_is_one_type_a_module(self) -> None:
        modules = {module.name for module in iter_modules(bridge.sources.__path__)} - {"base"}
        assert {name.replace("-", "_") for name in TYPES} == modules
        for name in modules:
            own = [
                value
                for value in vars(import_module(f"bridge.sources.{name}")).values()
                if isinstance(value, type)
                and issubclass(value, SourceType)
                and value.__module__ == f"bridge.sources.{name}"
            ]
            assert len(own) == 1

    @each_type
    def test_it_has_fixtures(self, source_type: SourceType) -> None:
        assert list((FIXTURES / source_type.name).glob("*.json")), "write samples of what it sends"

    @each_sample
    def test_its_fields_are_those_of_its_fixtures(self, source_type: SourceType, path: Path) -> None:
        payload = orjson.loads(path.read_bytes())
        assert not_among(source_type, full_name(path), payload) == set()

    def test_its_fields_are_those_of_real_samples(self, senders: Path) -> None:
        events = {"push_tag": "push", "repo_push": "repo:push", "repo_refs_changed": "repo:refs_changed"}
        folders = {"azure-devops": "azuredevops"}
        checked = 0
        for source_type in TYPES.values():
            folder = senders / "samples" / folders.get(source_type.name, source_type.name)
            for path in folder.glob("*.json"):
                if path.name == "headers.txt.json":
                    continue
                checked += 1
                event = events.get(path.stem, path.stem)
                payload = orjson.loads(path.read_bytes())
                assert not_among(source_type, event, payload) == set(), path
        assert checked > 20

    def test_the_values_of_a_sample_have_their_known_forms(self) -> None:
        checked = 0
        for source_type, path in all_samples():
            payload = orjson.loads(path.read_bytes()) if path.suffix == ".json" else None
            event = full_name(path)
            tree = source_type.fields.get(EVERY_EVENT) or source_type.fields.get(
                event.rpartition(".")[0] or event
            )
            for steps in all_steps(payload) if tree else ():
                value: Any = payload
                for step in steps:
                    value = value[step]
                forms = known_at(tree, steps)
                if forms == BOOLEAN:
                    assert isinstance(value, bool | None), (path, steps, value)
                elif isinstance(forms, tuple) and value is not None:
                    fitting = [fits(str(value), form) for form in forms]
                    excluded = [fit for fit, form in zip(fitting, forms, strict=True) if form[0] == "!"]
                    assert all(excluded), (path, steps, value, forms)
                    assert any(fitting), (path, steps, value, forms)
                    checked += 1
        assert checked > 20

    def test_of_what_has_fields_there_is_a_fixture(self) -> None:
        for source_type in TYPES.values():
            shown = {full_name(path) for path in (FIXTURES / source_type.name).glob("*.json")}
            shown |= {name.rpartition(".")[0] for name in shown} | {EVERY_EVENT}
            assert set(source_type.fields) <= shown

    @each_type
    def test_its_proofs_and_options_are_keys_of_the_table(self, source_type: SourceType) -> None:
        keys = [proof.key for proof in source_type.proofs]
        assert keys
        assert set(keys) <= set(ProofsModel.model_fields)
        assert len(set(keys)) == len(keys)
        assert set(source_type.sender_issued) <= set(keys)
        assert set(source_type.options) <= {field.name for field in dataclasses.fields(Options)}

    def test_what_proves_itself_in_the_body_has_tests_of_its_own(self) -> None:
        own = [(one.name, proof.key) for one, proof in all_proofs() if proof.key in IN_THE_BODY]
        assert own == [("sns", "topic_arns")], "its file has to go through the cases of TestProof"
        assert (Path(__file__).with_name("test_sns.py")).exists()

    def test_who_signs_a_time_or_several_times_says_so(self) -> None:
        """From its own word it follows which of the tests below it goes through."""
        proofs = [(one.name, proof) for one, proof in all_proofs() if proof.key == "secret"]
        timed = {name for name, proof in proofs if proof.is_timed}
        multiple = {name for name, proof in proofs if proof.multiple}
        assert timed >= {"gitlab", "slack", "standard-webhooks", "stripe", "svix", "zoom"}
        assert multiple >= {"circleci", "gitlab", "pagerduty", "standard-webhooks", "stripe", "svix"}

    @each_type
    def test_its_guide_is_whole(self, source_type: SourceType) -> None:
        guide = source_type.guide
        for part in (guide.title, guide.setup, guide.route, guide.sender):
            assert part.strip()
        assert f"{source_type.name}" in example(source_type)

    @each_type
    def test_its_example_passes_check_by_itself(self, source_type: SourceType, tmp_path: Path) -> None:
        table = tmp_path / "table.yml"
        table.write_text(f"theeye: {{customer: acme}}\n{example(source_type)}", "utf-8")
        problems = load(table, {}, TYPES, require_env=False).problems
        assert all("is not set" in problem.message for problem in problems), problems

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
        headers = source_type.headers_for("Marked Hook")
        assert [name for name, value in headers.items() if value == "Marked Hook"] == [
            name for name in (source_type.event_header,) if name is not None
        ]

    @each_type
    def test_its_handshakes_are_declared(self, source_type: SourceType) -> None:
        """By that `check` knows which routes are never asked."""
        source = a_source(source_type)
        for path in sorted((FIXTURES / source_type.name).glob("*.json")):
            event, _ = source.read(a_request(source, path))
            names = {event.event, event.full_name}
            assert source_type.is_setup_event(event) == bool(names & {*source_type.setup_events})

    @each_type
    def test_its_advice_is_a_message_and_a_hint(self, source_type: SourceType) -> None:
        for events in [(), ("push",), tuple(source_type.events)]:
            for loops in (False, True):
                advice = source_type.route_warning(events, loops=loops)
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
        sent = orjson.loads(request.body)
        assert event.payload == {
            key: value for key, value in sent.items() if key not in source_type.credential_fields
        }
        assert orjson.loads(event.body) == event.payload
        assert (event.source, event.received_at) == ("here", NOW)
        assert reading.delivery_id or (reading.fingerprint and source_type.dedupe)

    def test_every_proof_of_it_is_enough(self, source_type: SourceType, path: Path) -> None:
        for proof in source_type.proofs_with(Options()):
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
            payload = orjson.loads(path.read_bytes())
            *parents, last = key.split(".")
            holder = payload
            for parent in parents:
                holder = holder[parent]
            del holder[last]
            body = orjson.dumps(payload)
            with pytest.raises(Unreadable):
                source.read(a_request(source, path, body))

    def test_another_body_is_refused_with_the_type_and_the_expected_fields(
        self, source_type: SourceType, path: Path
    ) -> None:
        """Types that know their event by the body say so in one form; the others read any body."""
        try:
            source_type.read(a_request(a_source(source_type), path), [])
        except Unreadable as error:
            assert str(error).startswith(f"the body is not a webhook of type {source_type.name}: expected ")
        else:
            assert source_type.event_header is not None or source_type.name == "generic"

    def test_what_is_no_object_never_raises_but_as_unreadable(
        self, source_type: SourceType, path: Path
    ) -> None:
        source = a_source(source_type)
        for body in (b"null", b"[]", b'"text"', b"1", b"true", b"{}", b"", b"{", b"\xff", b'{"action":5}'):
            try:
                event, _ = source.read(a_request(source, path, body))
            except Unreadable:
                continue
            assert event.payload == orjson.loads(body or event.body)

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
        private = {*CREDENTIAL_HEADERS, *source_type.credential_headers}
        private |= {name for proof in source_type.proofs for name in proof.headers}
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
        theirs = replace(source, required=(RequiredProof(proof, (a_secret(proof, WRONG),)),))
        self.refused(source, a_request(theirs, a_sample(source_type)))

    def test_an_empty_secret(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        theirs = replace(source, required=(RequiredProof(proof, (a_secret(proof, ""),)),))
        self.refused(source, a_request(theirs, a_sample(source_type)))

    def test_no_secret_is_known(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        unset = replace(source, required=(RequiredProof(proof, ()),))
        self.refused(unset, a_request(source, a_sample(source_type)))

    def test_the_second_of_two_secrets(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        rotating = replace(
            source, required=(RequiredProof(proof, (a_secret(proof, WRONG), a_secret(proof))),)
        )
        rotating.verify(a_request(source, a_sample(source_type)))

    def test_a_changed_byte(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        if proof.needs_body:
            self.refused(source, request.with_body(request.body.replace(b"a", b"b", 1)))
            self.refused(source, request.with_body(request.body + b" "))
        # In the middle: the last characters of base64 may stand for no bits.
        value = value_of(proof, request)
        at = len(value) // 2
        other = "0" if value[at] != "0" else "1"
        self.refused(source, with_value(proof, request, value[:at] + other + value[at + 1 :]))

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda value: None, id="missing"),
            pytest.param(lambda value: "", id="empty"),
            pytest.param(lambda value: " ", id="blank"),
            pytest.param(lambda value: value[:-1], id="shorter"),
            pytest.param(lambda value: value[:-2], id="two-shorter"),
            pytest.param(lambda value: f"{value}0", id="longer"),
            pytest.param(lambda value: value + "0" * 64, id="64-longer"),
            pytest.param(lambda value: f"{value}\xe9", id="non-ASCII-after-it"),
            pytest.param(lambda value: "\xff\xfe", id="non-ASCII"),
            pytest.param(lambda value: "sha256=" + "\xe9" * 64, id="non-ASCII-hex"),
            pytest.param(lambda value: "Bearer \xe9", id="non-ASCII-bearer"),
            pytest.param(lambda value: "Basic \xe9", id="non-ASCII-basic"),
            pytest.param(lambda value: "\u2603", id="no-Latin-1"),
            pytest.param(lambda value: f"{value}\x00", id="NUL-after-it"),
            pytest.param(lambda value: "x" * 8000, id="very-long"),
            pytest.param(lambda value: "," * 8000, id="commas"),
            pytest.param(lambda value: "=" * 8000, id="equals-signs"),
        ],
    )
    def test_a_spoiled_header(self, source_type: SourceType, proof: Proof, spoil: Any) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        source.verify(request)
        self.refused(source, with_value(proof, request, spoil(value_of(proof, request))))

    def test_what_is_signed_with_it_is_missing_or_spoiled(
        self, source_type: SourceType, proof: Proof
    ) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        values = (
            None,
            "",
            " ",
            "x",
            "-1",
            "1e9",
            "NaN",
            "9" * 12,
            "9" * 5000,
            "\xff",
            "\u2603",
            "\u0661",
            "\x00",
        )
        for name in its_headers(proof, request):
            for value in values:
                self.refused(source, with_header(request, name, value))

    def test_what_needs_no_body_is_checked_without_it(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        head = with_value(proof, a_request(source, a_sample(source_type)), None).with_body(b"")
        if proof.needs_body:
            source.verify_head(head)
        else:
            with pytest.raises(NotAuthentic):
                source.verify_head(head)


@each_proof_that(lambda proof: proof.key not in IN_THE_BODY and not proof.multiple)
@pytest.mark.parametrize(
    "form", ["{0},{0}", "{0}, {0}", "x,{0}", "{0},x", "{0},", ",{0}", "{0} {0}", "{0};{0}"]
)
def test_one_proof_alone_stands_in_the_header(source_type: SourceType, proof: Proof, form: str) -> None:
    source = a_source(source_type, proof)
    request = a_request(source, a_sample(source_type))
    with pytest.raises(NotAuthentic):
        source.verify(with_value(proof, request, form.format(value_of(proof, request))))


@each_proof_that(lambda proof: proof.multiple)
class TestSeveral:
    """Senders that sign with the old and the new secret while one is changed for the other."""

    def verdict(self, source_type: SourceType, proof: Proof, *order: str) -> bool:
        """Whether signatures made with these secrets, in this order, are enough."""
        path = a_sample(source_type)
        source = a_source(source_type, proof)
        right = a_request(source, path)
        values = []
        for text in order:
            signed = proof.sign(right, a_secret(proof, text))
            values.append(value_of(proof, signed))
        return RequiredProof(proof, (a_secret(proof),)).verify(
            with_value(proof, right, together(proof, values))
        )

    def test_the_right_one_may_be_any(self, source_type: SourceType, proof: Proof) -> None:
        for order in ([SECRET], [SECRET, WRONG], [WRONG, SECRET], [WRONG, "", SECRET], [SECRET, SECRET]):
            assert self.verdict(source_type, proof, *order)

    def test_none_of_them_is_right(self, source_type: SourceType, proof: Proof) -> None:
        for order in ([WRONG], [WRONG, WRONG], [WRONG, "third-5ecret"]):
            assert not self.verdict(source_type, proof, *order)

    def test_only_so_many_are_looked_at(self, source_type: SourceType, proof: Proof) -> None:
        assert self.verdict(source_type, proof, *[WRONG] * (MAX_SIGNATURES - 1), SECRET)
        assert not self.verdict(source_type, proof, *[WRONG] * MAX_SIGNATURES, SECRET)

    def test_what_is_no_signature_hides_no_right_one(self, source_type: SourceType, proof: Proof) -> None:
        source = a_source(source_type, proof)
        request = a_request(source, a_sample(source_type))
        value = value_of(proof, request)
        for other in ("v9,x", "v9=x", "\xe9", "x", "="):
            source.verify(with_value(proof, request, together(proof, [value, f"{other},{other}"])))
        if not isinstance(proof, TimeInSignature):  # its header begins with the time
            source.verify(with_value(proof, request, together(proof, [*["v9,x", "v9=x"] * 12, value])))


@each_proof_that(lambda proof: proof.is_timed)
@pytest.mark.parametrize("seconds", [TIME_TOLERANCE + 1, -TIME_TOLERANCE - 1, 86400.0, -86400.0])
def test_a_signed_time_that_is_too_far(source_type: SourceType, proof: Proof, seconds: float) -> None:
    source = a_source(source_type, proof)
    request = a_request(source, a_sample(source_type))
    source.verify(replace(request, received_at=NOW + math.copysign(TIME_TOLERANCE - 1, seconds)))
    side = "behind" if seconds > 0 else "ahead of"
    with pytest.raises(NotAuthentic, match=f"is {abs(seconds):,.0f} s {side} this machine's clock"):
        source.verify(replace(request, received_at=NOW + seconds))


@each_proof_that(lambda proof: proof.is_timed)
def test_a_stranger_learns_nothing_of_the_clock(source_type: SourceType, proof: Proof) -> None:
    source = a_source(source_type, proof)
    request = a_request(source, a_sample(source_type))
    late = replace(request, body=request.body + b" ", received_at=NOW + 86400)
    with pytest.raises(NotAuthentic, match=r"does not match$"):
        source.verify(late)


def forgeries(source: Source, proof: Proof) -> st.SearchStrategy[Request]:
    """Requests of whoever has seen others but knows no secret: they may look almost right."""
    source_type = source.type
    request = a_request(source, a_sample(source_type))
    bodies = st.sampled_from([path.read_bytes() for one, path in all_samples() if one is source_type])
    bodies |= st.binary(max_size=40) | json_values.map(orjson.dumps)
    bodies |= json_values.map(lambda value: b"payload=" + quote_plus(orjson.dumps(value)).encode())
    values = st.text(st.characters(max_codepoint=255), max_size=30) | texts
    values |= st.sampled_from(
        [
            *request.headers.without(proof.headers).values(), *source_type.events, *source_type.content_types,
            str(int(NOW)), "v1=", "v1,", "t=1,v1=", "Bearer ", "Basic Og==",
        ]
    )  # fmt: skip
    if proof.needs_body and proof.key not in IN_THE_BODY:  # what was signed once, over another body
        values |= st.just(value_of(proof, source.sign(request.with_body(b'{"seen": "before"}'))))
    names = {*request.headers, *source_type.credential_headers, *proof.headers, *CREDENTIAL_HEADERS}
    names |= {"Content-Encoding", source_type.event_header or "X-Event"}
    some_headers = st.dictionaries(st.sampled_from(sorted(names, key=str.lower)), values, max_size=4)
    queries = st.dictionaries(st.sampled_from(["token", "a"]), values, max_size=2)

    def forge(body: bytes, how: str, query: dict[str, str], replaced: dict[str, str]) -> Request:
        forged = replace(request, body=body, query=query, headers=request.headers.without(proof.headers))
        if proof.key in IN_THE_BODY:
            forged = ROGUE.prove(forged, SECRET)
        elif how != "unsigned":
            forged = proof.sign(forged, a_secret(proof, how))
        sent = {**forged.headers, **Headers(replaced.items())}
        return replace(forged, headers=Headers(sent.items()))

    return st.builds(forge, bodies, st.sampled_from(["unsigned", WRONG, ""]), queries, some_headers)


@each_proof_that(lambda proof: True)
@hostile
@given(data=st.data())
def test_whoever_knows_no_secret_gets_a_refusal_and_nothing_else(
    source_type: SourceType, proof: Proof, data: st.DataObject
) -> None:
    source = a_source(source_type, proof)
    request = data.draw(forgeries(source, proof))
    with suppress(Refusal):
        source.verify_head(request.with_body(b""))
    with pytest.raises((NotAuthentic, UnsupportedContent)):
        source.verify(request)
    try:
        event, reading = source.read(request)  # as if a proof had been there
    except Refusal:
        return
    assert event.event
    assert reading.delivery_id or reading.fingerprint
    source.reply(request, event)


class Whole:
    """The application, with a source of every type for each of its proofs, named ``<type>.<key>``."""

    #: What the table's variables hold.
    VARIABLES: ClassVar[dict[str, str]] = {
        "TEXT": SECRET,
        "BASE64": f"whsec_{b64encode(SECRET.encode()).decode()}",
    }

    def __init__(self, folder: Path) -> None:
        sources = [self.described(one, proof) for one, proof in all_proofs() if proof.key not in IN_THE_BODY]
        self.intake = Intake("\n".join(["sources:", *sources, "routes: []"]), folder, self.VARIABLES)
        self.intake.clock.now = NOW
        self.client = self.intake.app().test_client()

    def described(self, source_type: SourceType, proof: Proof) -> str:
        secret = "${{ env.BASE64 }}" if proof.secret_error(SECRET) is not None else "${{ env.TEXT }}"
        value = f'"{secret}"' if proof.key != "basic_auth" else f'{{username: maria, password: "{secret}"}}'
        keys = f"type: {source_type.name}, {proof.key}: {value}"
        if proof.key == "token" and "header" in source_type.options:
            keys += f", header: {proof.header}"
        if proof.key == "secret" and "signature" in source_type.options:
            keys += f", signature: {{header: {proof.header}}}"
        return f"  {source_type.name}.{proof.key}: {{{keys}}}"

    def sent(self, source_type: SourceType, proof: Proof, path: Path) -> Request:
        """What `send` makes of a fixture."""
        source = self.intake.source(f"{source_type.name}.{proof.key}")
        request = sender_request(source, event_name(source_type, path), path.read_bytes())
        return source.sign(replace(request, received_at=NOW))

    def post(self, request: Request) -> TestResponse:
        headers = {
            name: value.encode("latin-1", "replace").decode("latin-1")
            for name, value in request.headers.items()
        }
        return self.client.post(
            f"/hooks/{request.source}", query_string=dict(request.query), data=request.body, headers=headers
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    whole = Whole(tmp_path_factory.mktemp("whole"))
    yield whole
    whole.intake.close()


@each_proof
class TestWhole:
    """What ``send`` makes, over HTTP."""

    def test_every_sample_is_stored(self, whole: Whole, source_type: SourceType, proof: Proof) -> None:
        for path in (path for one, path in all_samples() if one is source_type):
            request = whole.sent(source_type, proof, path)
            response = whole.post(request)
            assert response.status_code == 200, response.data
            (newest,) = whole.intake.outbox.events(limit=1)
            event = whole.intake.outbox.event(newest.id)
            assert (event.source, event.full_name) == (request.source, full_name(path))
            stored = whole.intake.rows()
            again = whole.post(request)
            assert (again.status_code, again.data[:8]) == (200, response.data[:8])
            assert whole.intake.rows() == stored

    def test_what_is_spoiled_is_refused_and_not_stored(
        self, whole: Whole, source_type: SourceType, proof: Proof
    ) -> None:
        request = whole.sent(source_type, proof, a_sample(source_type))
        value, stored = value_of(proof, request), whole.intake.rows()
        values = (
            None,
            "",
            " ",
            value[:-1],
            f"{value}0",
            f"{value}\xe9",
            "\xff\xfe",
            "Basic \xe9",
            "\x01",
            "x" * 8000,
        )
        requests = [with_value(proof, request, each) for each in values]
        headers = [] if proof.key == "url_token" else its_headers(proof, request)
        requests += [with_header(request, name, each) for name in headers for each in (None, "", "x", "\xff")]
        if proof.needs_body:
            requests += [request.with_body(body) for body in (b"", b"{}", b"\xff", request.body + b" ")]
        for each in requests:
            assert whole.post(each).status_code == 401
        assert whole.intake.rows() == stored

    def test_what_is_authentic_and_nonsense_is_refused_or_stored(
        self, whole: Whole, source_type: SourceType, proof: Proof
    ) -> None:
        request = whole.sent(source_type, proof, a_sample(source_type))
        source = whole.intake.source(request.source)
        for body in (b"", b"{", b"null", b"[]", b"5", b'""', b"{}", b"\xff", b'{"a":"\\ud800"}', b"[" * 5000):
            assert whole.post(source.sign(request.with_body(body))).status_code in (200, 400)
        for name in request.headers.without(proof.headers):
            for value in (None, "", "\xff", "x" * 300):
                spoilt = source.sign(with_header(request, name, value))
                assert whole.post(spoilt).status_code in (200, 400, 401, 415)


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
        for required in [(), *((RequiredProof(proof, (a_secret(proof),)),) for proof in source_type.proofs)]:
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

        def read(self, request: Request, payload: Any) -> ParsedWebhook:
            del payload
            return ParsedWebhook(
                event=request.headers["E"],
                action=request.headers.get("A"),
                delivery_id=request.headers.get("D"),
                fingerprint="f1",
            )

    def read(self, **names: str) -> Event:
        source = Source(name="here", type=self.Echo(), required=())
        return source.read(Request("here", Headers({"E": "push", **names}.items()), {}, b"{}", NOW))[0]

    @pytest.mark.parametrize("name", ["E", "A", "D"])
    @pytest.mark.parametrize("length", [1, MAX_NAME])
    def test_up_to_the_limit(self, name: str, length: int) -> None:
        event = self.read(**{name: "é" * length})
        assert "é" * length in (event.event, event.action, event.delivery_id)

    @pytest.mark.parametrize("value", ["x" * (MAX_NAME + 1), "a\x00b", "\x00"])
    def test_a_delivery_beyond_it_is_its_hash(self, value: str) -> None:
        assert self.read(D=value).delivery_id == f"sha256:{sha256(value.encode()).hexdigest()}"

    @pytest.mark.parametrize("name", ["E", "A"])
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
