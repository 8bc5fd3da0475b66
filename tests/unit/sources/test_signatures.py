"""How a sender proves itself: each kind of proof alone, and several at one source."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from bridge.core.errors import NotAuthentic, SettingsError, UnsupportedContent
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import (
    MAX_SIGNATURES,
    BasicAuth,
    BasicCredentials,
    BearerToken,
    HeaderToken,
    HmacSignature,
    Proof,
    RequiredProof,
    UrlToken,
    any_equal,
)
from bridge.sources.base.source import Source
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, signature

BODY = b'{"zen":"Keep it logically awesome."}'
SECRET = "It's a Secret to Everybody"

GITHUB = HmacSignature("X-Hub-Signature-256", "sha256", "sha256=")

#: What a sender has to prove.
REQUEST = Request("here", Headers(), {}, BODY, 0.0)

#: The token that the tables below ask for, as its sender sends it.
SHARED = {"X-Shared": VARIABLES["TOKEN"]}


def holds(proof: Proof, header: str | None, *secrets: Secret | BasicCredentials, body: bytes = BODY) -> bool:
    headers = {} if header is None else {proof.header: header}
    return proof.verify(Request("here", Headers(headers.items()), {}, body, 0.0), secrets)


class TestHmac:
    """``X-Hub-Signature-256: sha256=<hex>`` over the raw body."""

    def test_the_vector_that_github_publishes(self) -> None:
        published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        assert holds(GITHUB, published, Secret(SECRET), body=b"Hello, World!")
        assert not holds(GITHUB, published, Secret(SECRET), body=b"Hello, World")
        assert not holds(GITHUB, published, Secret(SECRET.lower()), body=b"Hello, World!")

    @pytest.mark.parametrize(
        "body", [b"", b"\x00", b"\xff\xfe", "é".encode(), b'{"a":1}\n', b"x" * 1_000_000]
    )
    def test_any_bytes_are_signed_as_they_came(self, body: bytes) -> None:
        assert holds(GITHUB, signature(body, SECRET), Secret(SECRET), body=body)
        assert not holds(GITHUB, signature(body, SECRET), Secret(SECRET), body=body + b"\n")

    @pytest.mark.parametrize(
        "spoil",
        [
            str.upper,
            lambda good: good.replace("sha256", "SHA256"),
            lambda good: "sha256=" + good[7:].upper(),
            lambda good: good[7:],
            lambda good: f"sha1={good[7:]}",
            lambda good: f"sha512={good[7:]}",
            lambda good: "sha256=",
            lambda good: good[:-2],
            lambda good: f"{good}00",
            lambda good: f" {good}",
            lambda good: good.replace("sha256=", "sha256= "),
            lambda good: "sha256=" + b64encode(bytes.fromhex(good[7:])).decode(),
        ],
    )
    def test_another_spelling_is_another_signature(self, spoil: Callable[[str], str]) -> None:
        assert not holds(GITHUB, spoil(signature(BODY, SECRET)), Secret(SECRET))

    def test_an_empty_secret_opens_nothing(self) -> None:
        assert not holds(GITHUB, signature(BODY, ""), Secret(SECRET))
        assert not holds(GITHUB, signature(BODY, SECRET))

    def test_any_of_several_secrets(self) -> None:
        for number in range(3):
            secrets = [Secret("first"), Secret("second"), Secret("third")]
            assert holds(GITHUB, signature(BODY, secrets[number].reveal()), *secrets)
        assert not holds(GITHUB, signature(BODY, "fourth"), *secrets)

    def test_a_secret_of_any_text(self) -> None:
        secret = "clé-\u2603-\udcff"  # an environment variable that is not UTF-8 has surrogates
        key = secret.encode(errors="surrogateescape")
        digest = hmac.new(key, BODY, hashlib.sha256).hexdigest()
        assert holds(GITHUB, f"sha256={digest}", Secret(secret))

    def test_other_algorithms_and_prefixes(self) -> None:
        bare = HmacSignature("X-Signature", "sha512")
        digest = hmac.new(b"key", BODY, hashlib.sha512).hexdigest()
        assert holds(bare, digest, Secret("key"))
        assert not holds(bare, f"sha512={digest}", Secret("key"))


class TestTimed:
    """The time is signed with the body, and must be near."""

    PROOF = HmacSignature("X-Sig", prefix="v0=", timestamp_header="X-Time", signed="v0:{ts}:{body}")
    NOW = 1_700_000_000.0

    def sent(self, time: str | None, signed_time: str | None = None, now: float = NOW) -> Request:
        """As a sender would send it at `time`, with the standard library alone."""
        text = f"v0:{time if signed_time is None else signed_time}:".encode("latin-1") + BODY
        headers = {"X-Sig": "v0=" + hmac.new(b"key", text, hashlib.sha256).hexdigest()}
        if time is not None:
            headers["X-Time"] = time
        return Request("here", Headers(headers.items()), {}, BODY, now)

    def holds(self, request: Request) -> bool:
        return self.PROOF.verify(request, (Secret("key"),))

    @pytest.mark.parametrize("away", [0, 299, -299, 300, -300])
    def test_a_near_time(self, away: int) -> None:
        assert self.holds(self.sent(str(int(self.NOW) + away)))

    @pytest.mark.parametrize("away", [301, -301, 86400, -86400])
    def test_a_far_one(self, away: int) -> None:
        assert not self.holds(self.sent(str(int(self.NOW) + away)))

    def test_another_time_than_the_signed_one(self) -> None:
        now = int(self.NOW)
        assert not self.holds(self.sent(str(now), signed_time=str(now + 1)))

    @pytest.mark.parametrize(
        "time",
        [
            None, "", "abc", "1e9", "1700000000.0", " 1700000000", "+1700000000", "-1700000000",
            "17_00000000", "\xb2\xb2\xb2", "1" * 5000, "1700000000,1700000000", "0x6553f100", "\xe9",
        ],
    )  # fmt: skip
    def test_what_is_no_time_opens_nothing_and_never_raises(self, time: str | None) -> None:
        assert not self.holds(self.sent(time))

    @pytest.mark.parametrize(
        ("time", "reason"),
        [
            ("1699999000", "X-Time is 1,000 s behind this machine's clock, and at most 300 s are allowed"),
            ("1700001000", "X-Time is 1,000 s ahead of this machine's clock, and at most 300 s are allowed"),
            ("1700000002000", "X-Time is '1700000002000', which is in milliseconds (clocks differ by 2 s);"),
            ("abc", "X-Time is 'abc'; expected seconds since the epoch, such as 1700000000"),
            ("2023-11-14T22:13:20Z", "X-Time is '2023-11-14T22:13:20Z'; expected seconds since the epoch"),
            ("1" * 5000, "X-Time is a text of 5000 characters; expected seconds since the epoch"),
            ("", "X-Time is ''; expected seconds since the epoch, such as 1700000000"),
            (None, "the request has no X-Time"),
        ],
    )
    def test_the_reason_is_the_time(self, time: str | None, reason: str) -> None:
        request = self.sent(time, signed_time="" if time == "" else None)
        source = Source("here", discover()["slack"], (RequiredProof(self.PROOF, (Secret("key"),)),))
        with pytest.raises(NotAuthentic) as refused:
            source.verify(request)
        assert str(refused.value).startswith(f"source here: {reason}")
        other = Source("here", discover()["slack"], (RequiredProof(self.PROOF, (Secret("another"),)),))
        with pytest.raises(NotAuthentic, match=r"does not match$|has no X-Time$"):
            other.verify(request)

    def test_what_is_signed_may_stand_before_and_after_the_body(self) -> None:
        proof = HmacSignature("X-Sig", timestamp_header="X-Time", signed="<{ts}>{body}<{ts}>")
        digest = hmac.new(b"key", b"<1700000000>" + BODY + b"<1700000000>", hashlib.sha256).hexdigest()
        headers = Headers([("X-Sig", digest), ("X-Time", "1700000000")])
        assert proof.verify(Request("here", headers, {}, BODY, self.NOW), (Secret("key"),))

    def test_both_headers_are_taken_off(self) -> None:
        assert self.PROOF.headers == ("X-Sig", "X-Time")


class TestSeveralSignatures:
    """While its secret is changed a sender may sign with both."""

    PROOF = HmacSignature("X-Sig", prefix="v1=", multiple=True)

    def holds(self, *signatures: str) -> bool:
        return holds(self.PROOF, ",".join(signatures), Secret("key"))

    @property
    def right(self) -> str:
        return "v1=" + hmac.new(b"key", BODY, hashlib.sha256).hexdigest()

    def test_any_may_match(self) -> None:
        wrong = "v1=" + "0" * 64
        assert self.holds(wrong, self.right)
        assert self.holds(self.right, wrong)
        assert self.holds(wrong, f" {self.right}")
        assert not self.holds(wrong, wrong)

    def test_another_version_is_passed_over(self) -> None:
        assert self.holds("v2=whatever", "", "v0", self.right)
        assert not self.holds(self.right.replace("v1=", "v2="))
        assert not self.holds(self.right.removeprefix("v1="))

    def test_only_so_many_are_looked_at(self) -> None:
        assert self.holds(*["v1=x"] * (MAX_SIGNATURES - 1), self.right)
        assert not self.holds(*["v1=x"] * MAX_SIGNATURES, self.right)

    def test_other_versions_do_not_count(self) -> None:
        assert self.holds(*["v2=x"] * 1000, self.right)

    def test_base64(self) -> None:
        digest = b64encode(hmac.new(b"key", BODY, hashlib.sha256).digest()).decode()
        proof = HmacSignature("X-Sig", encoding="base64")
        assert holds(proof, digest, Secret("key"))
        assert not holds(proof, digest.rstrip("="), Secret("key"))


class TestUrlToken:
    """``?token=`` of the URL."""

    def holds(self, token: str | None) -> bool:
        query = {} if token is None else {"token": token}
        return UrlToken().verify(Request("here", Headers(), query, BODY, 0.0), (Secret("t0ken-\xe9"),))

    def test_it_must_be_the_same(self) -> None:
        assert self.holds("t0ken-\xe9")
        for other in (None, "", "t0ken-", "T0KEN-\xe9", "t0ken-\xe9 ", "t0ken-\udce9", "\u2603", "\ud800"):
            assert not self.holds(other)

    def test_no_header_is_it(self) -> None:
        request = Request("here", Headers([("token", "t0ken-\xe9")]), {}, BODY, 0.0)
        assert not UrlToken().verify(request, (Secret("t0ken-\xe9"),))
        assert not UrlToken().is_present(request)


class TestHeaderToken:
    """A shared token, as it is."""

    proof = HeaderToken("X-Token")

    def test_it_must_be_the_same(self) -> None:
        assert holds(self.proof, "t0ken", Secret("t0ken"))
        for other in (
            None,
            "",
            "t0ke",
            "t0kenn",
            "T0ken",
            "t0ken,t0ken",
            "Bearer t0ken",
            "t0ken\xe9",
            "\xff",
        ):
            assert not holds(self.proof, other, Secret("t0ken"))

    def test_it_may_hold_any_text(self) -> None:
        as_it_comes = "clé".encode().decode("latin-1")  # UTF-8 on the wire, Latin-1 from WSGI
        assert holds(self.proof, as_it_comes, Secret("clé"))
        assert not holds(self.proof, "clé", Secret("clé"))


class TestBearer:
    """``Authorization: Bearer <token>``."""

    proof = BearerToken()

    @pytest.mark.parametrize(
        "value", ["Bearer t0ken", "bearer t0ken", "BEARER t0ken", "Bearer  t0ken", "Bearer t0ken "]
    )
    def test_the_scheme_in_any_case(self, value: str) -> None:
        assert holds(self.proof, value, Secret("t0ken"))

    @pytest.mark.parametrize(
        "value",
        [
            None, "", "t0ken", "Bearer", "Bearer ", "Bearert0ken", "Bearer\tt0ken", "Bearer=t0ken",
            "Basic t0ken", "Token t0ken", " Bearer t0ken", "Bearer t0ken,Bearer t0ken",
            "Bearer t0ken, Bearer t0ken", "Bearer Bearer t0ken", "Bearer t0ken t0ken", "Bearer T0KEN",
            "Bearer \xe9", "B\xe9arer t0ken", "Bearer t0ken\x00",
        ],
    )  # fmt: skip
    def test_malformed_ones(self, value: str | None) -> None:
        assert not holds(self.proof, value, Secret("t0ken"))

    def test_no_token_is_not_an_empty_one(self) -> None:
        assert not holds(self.proof, "Bearer ")
        assert not holds(self.proof, None)


class TestBasic:
    """``Authorization: Basic <base64 of user:password>``."""

    proof = BasicAuth()
    maria = BasicCredentials("maria", Secret("pass:w0rd!"))

    def encoded(self, pair: bytes) -> str:
        return "Basic " + b64encode(pair).decode()

    def test_user_and_password(self) -> None:
        assert holds(self.proof, self.encoded(b"maria:pass:w0rd!"), self.maria)
        assert holds(self.proof, self.encoded(b"maria:pass:w0rd!").replace("Basic", "bAsIc"), self.maria)
        assert holds(
            self.proof, self.encoded(b"maria:pass:w0rd!"), BasicCredentials("eve", Secret("x")), self.maria
        )

    def test_beyond_ascii_it_is_utf_8(self) -> None:
        zoe = BasicCredentials("zoë", Secret("passé"))
        assert holds(self.proof, self.encoded("zoë:passé".encode()), zoe)
        assert not holds(self.proof, self.encoded("zoë:passé".encode("latin-1")), zoe)

    @pytest.mark.parametrize(
        "pair",
        [
            b"", b":", b"maria", b"maria:", b"maria:pass", b":pass:w0rd!", b"mari:apass:w0rd!",
            b"Maria:pass:w0rd!", b"maria:pass:w0rd!\n", b"maria:pass:w0rd!\x00", b"\xff\xfe",
            b"maria:pass:w0rd!,maria:pass:w0rd!",
        ],
    )  # fmt: skip
    def test_another_pair(self, pair: bytes) -> None:
        assert not holds(self.proof, self.encoded(pair), self.maria)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda good: None,
            lambda good: "",
            lambda good: "Basic",
            lambda good: "Basic ",
            lambda good: good.removeprefix("Basic "),
            lambda good: good.replace("Basic", "Bearer"),
            lambda good: good.rstrip("="),
            lambda good: f"{good}=",
            lambda good: f"{good}{good.removeprefix('Basic ')}",
            lambda good: f"{good},{good}",
            lambda good: f"{good}, {good}",
            lambda good: good.replace("Basic ", "Basic !!!"),
            lambda good: f"{good[:9]} {good[9:]}",
            lambda good: f"{good}\xe9",
            lambda good: "Basic \xe9\xe9\xe9\xe9",
            lambda good: "Basic maria:pass:w0rd!",
            lambda good: good.replace("Basic ", "Basic\t"),
        ],
    )
    def test_malformed_ones(self, spoil: Callable[[str], str | None]) -> None:
        assert not holds(self.proof, spoil(self.encoded(b"maria:pass:w0rd!")), self.maria)


class TestEqual:
    """The comparison."""

    def test_every_candidate_is_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[bytes] = []
        compare = hmac.compare_digest

        def counting(found: bytes, candidate: bytes) -> bool:
            compared.append(candidate)
            return compare(found, candidate)

        monkeypatch.setattr(hmac, "compare_digest", counting)
        assert any_equal(b"a", [b"a", b"b", b"c"])
        assert compared == [b"a", b"b", b"c"]

    def test_with_no_candidate(self) -> None:
        assert not any_equal(b"", [])

    @pytest.mark.parametrize(
        ("proof", "secret"),
        [
            (GITHUB, Secret(SECRET)),
            (HeaderToken("X-Token"), Secret("t0ken")),
            (BearerToken(), Secret("t0ken")),
            (BasicAuth(), BasicCredentials("maria", Secret("pass:w0rd!"))),
        ],
    )
    def test_what_is_proved_holds(self, proof: Proof, secret: Secret | BasicCredentials) -> None:
        required = RequiredProof(proof, (secret, Secret("another")))
        request = proof.sign(REQUEST, secret)
        assert required.verify(request)
        assert request.with_body(b"") == proof.sign(REQUEST, secret).with_body(b"")

    def test_nothing_is_proved_without_a_secret(self) -> None:
        """As where the table was loaded without its variables, which is a warning then."""
        stands_in = BasicCredentials("<USER>", Secret("pass:w0rd!"))
        token = RequiredProof(HeaderToken("X-Token"), (Secret("t0ken"),))
        for required in (
            RequiredProof(GITHUB, ()),
            RequiredProof(BearerToken(), ()),
            RequiredProof(BasicAuth(), ()),
            RequiredProof(BasicAuth(), (stands_in,)),
        ):
            source = Source("here", discover()["github"], (token, required))
            with pytest.raises(SettingsError, match=f"the variable of {required.proof.key} is not set"):
                source.sign(REQUEST)

    def test_the_first_secret_that_is_there_proves(self) -> None:
        stands_in, maria = (
            BasicCredentials("<USER>", Secret("x")),
            BasicCredentials("<maria@x>", Secret("pass:w0rd!")),
        )
        source = Source("here", discover()["github"], (RequiredProof(BasicAuth(), (stands_in, maria)),))
        assert source.sign(REQUEST).headers == Headers(basic("<maria@x>", "pass:w0rd!").items())


class TestSeveral:
    """Several kinds of proof at one source: all of them, or any."""

    ALL = """
sources:
  both:
    {type: generic, header: X-Shared, token: "${{ env.TOKEN }}", bearer_token: "${{ env.TOKEN }}"}
  either:
    type: generic
    header: X-Shared
    any_of:
      token: ["${{ env.TOKEN }}", "${{ env.TOKEN_OLD }}"]
      bearer_token: ${{ env.TOKEN }}
      basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}
routes: []
"""

    def sent(self, intake: Intake, source: str, proofs: Mapping[str, str]) -> int:
        return intake.post(source, b"{}", {**JSON_HEADERS, **proofs}).status

    def test_all_must_hold(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(self.ALL)
        assert self.sent(intake, "both", {**SHARED, **BEARER}) == 200
        for proofs in (
            {}, SHARED, BEARER, {**SHARED, "Authorization": "Bearer x"}, {**BEARER, "X-Shared": "x"},
        ):  # fmt: skip
            with pytest.raises(NotAuthentic):
                self.sent(intake, "both", proofs)
        assert intake.rows() == (1, 0)

    def test_any_may_hold(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(self.ALL)
        for proofs in (
            SHARED,
            BEARER,
            {"X-Shared": VARIABLES["TOKEN_OLD"]},
            basic("maria", VARIABLES["PASSWORD"]),
            {**SHARED, "Authorization": "Bearer x"},
            {**BEARER, "X-Shared": "x"},
        ):
            assert self.sent(intake, "either", proofs) == 200
        for proofs in (
            {},
            {"X-Shared": "x", "Authorization": "Bearer x"},
            basic("eve", VARIABLES["PASSWORD"]),
        ):
            with pytest.raises(NotAuthentic):
                self.sent(intake, "either", proofs)

    def test_every_one_is_checked_before_the_body_is_read(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(self.ALL)
        for source in ("both", "either"):
            head = intake.request(source, b"", {**JSON_HEADERS, "X-Shared": "x"})
            with pytest.raises(NotAuthentic):
                intake.check_head(head)
        intake.check_head(intake.request("either", b"", {**JSON_HEADERS, **BEARER}))

    def test_where_one_of_any_needs_the_body_the_head_cannot_tell(self) -> None:
        """As at a sender that moves from a token to a signature: the missing token says nothing yet."""
        signed = RequiredProof(GITHUB, (Secret(SECRET),))
        token = RequiredProof(HeaderToken("X-Token"), (Secret("t0ken"),))
        source = Source("here", discover()["github"], (signed, token), any_of=True)
        for headers in ({"X-Token": "t0ken"}, {GITHUB.header: signature(BODY)}):
            request = Request("here", Headers({**JSON_HEADERS, **headers}.items()), {}, BODY, 0.0)
            source.verify_head(request.with_body(b""))
            source.verify(request)
        neither = Request("here", Headers({**JSON_HEADERS, "X-Token": "x"}.items()), {}, BODY, 0.0)
        source.verify_head(neither.with_body(b""))
        with pytest.raises(NotAuthentic):
            source.verify(neither)

    def test_where_all_must_hold_the_head_tells_already(self) -> None:
        signed = RequiredProof(GITHUB, (Secret(SECRET),))
        token = RequiredProof(HeaderToken("X-Token"), (Secret("t0ken"),))
        source = Source("here", discover()["github"], (signed, token))
        sent = {**JSON_HEADERS, GITHUB.header: signature(BODY), "X-Token": "x"}
        with pytest.raises(NotAuthentic):
            source.verify_head(Request("here", Headers(sent.items()), {}, b"", 0.0))
        request = Request("here", Headers({**sent, "X-Token": "t0ken"}.items()), {}, BODY, 0.0)
        source.verify_head(request.with_body(b""))
        source.verify(request)

    def test_a_sender_proves_itself_by_all_or_by_the_first_of_any(
        self, make_intake: Callable[[str], Intake]
    ) -> None:
        intake = make_intake(self.ALL)
        assert intake.source("both").sign(REQUEST).headers == Headers({**SHARED, **BEARER}.items())
        assert intake.source("either").sign(REQUEST).headers == Headers(SHARED.items())

    def test_a_secret_that_is_not_there_is_passed_over_only_where_any_will_do(self) -> None:
        unset, token = RequiredProof(GITHUB, ()), RequiredProof(HeaderToken("X-Token"), (Secret("t0ken"),))
        any_will_do = Source("here", discover()["github"], (unset, token), any_of=True)
        assert any_will_do.sign(REQUEST).headers == Headers([("X-Token", "t0ken")])
        for source in (replace(any_will_do, any_of=False), replace(any_will_do, required=(unset,))):
            with pytest.raises(SettingsError, match="the variable of secret is not set"):
                source.sign(REQUEST)

    def test_credentials_come_before_the_content_type(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(self.ALL)
        text = {"Content-Type": "text/plain"}
        with pytest.raises(NotAuthentic):
            intake.check_head(intake.request("either", b"", text))
        with pytest.raises(UnsupportedContent):
            intake.check_head(intake.request("either", b"", {**text, **BEARER}))

    def test_the_log_says_which_class_of_reason_and_no_more(
        self, make_intake: Callable[[str], Intake]
    ) -> None:
        intake = make_intake(self.ALL)
        with pytest.raises(NotAuthentic, match="source both: the request has no Authorization"):
            self.sent(intake, "both", SHARED)
        with pytest.raises(NotAuthentic, match="source both: Authorization or X-Shared does not match"):
            self.sent(intake, "both", {**SHARED, "Authorization": "Bearer x"})
