"""Build a Source from its model: its type, its proofs and its options."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.config.compile import Compiler
from bridge.config.document import Invalid, Scalar
from bridge.config.env import Environment
from bridge.config.models import BasicAuthModel, ProofsModel, SignatureModel, SourceModel
from bridge.config.problems import Problems
from bridge.core.fields import Each, Path
from bridge.core.problem import Place
from bridge.core.redaction import Keep
from bridge.core.secrets import Secret
from bridge.core.suggestions import did_you_mean
from bridge.sources.base.bodies import JSON_TYPE
from bridge.sources.base.proofs import (
    BasicCredentials,
    Credential,
    HmacSignature,
    Proof,
    RequiredProof,
    TimeInSignature,
)
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import AnswerForm, Options, Replays, SourceType

#: The roots of paths to the names of an event, an action or a delivery.
_OPTION_NAMES = ("payload", "headers", "query")

Given = Scalar | BasicAuthModel

#: Names of objects that a webhook may be about, with or without _id.
_SUBJECT = re.compile(
    r"(?i)(?:alert|build|case|deployment|fingerprint|group|dedup|host|incident|invoice|issue|job|monitor|order|"
    r"pipeline|problem|(?:pull|merge)_?request|run|service|ticket|user)(?:[_-]?(?:id|key|number|uuid))?"
)

#: The name of an algorithm or a version, which senders end with =.
_BARE_PREFIX = re.compile(r"(?i)(?:hmac[-_]?)?sha-?\d+|v\d")

_KEYS = tuple(ProofsModel.model_fields)


class SourceBuilder:
    """Build the sources of one table."""

    def __init__(
        self,
        types: Mapping[str, SourceType],
        environment: Environment,
        compiler: Compiler,
        problems: Problems,
    ) -> None:
        self._types = types
        self._environment = environment
        self._compiler = compiler
        self._error, self._warn = problems.error, problems.warning

    def build(self, name: Scalar, model: SourceModel) -> Source | None:
        """Return the source, or None if its type is unknown. Mistakes are reported and skipped."""
        source_type = self._type(name, model)
        if source_type is None:
            return None
        options = self._options(name, model, source_type)
        return Source(
            name=str(name),
            type=source_type,
            required=self._required(name, model, source_type, options),
            any_of=model.any_of is not None,
            dedupe=self._dedupe(name, model, source_type),
            options=options,
            store_payload=model.store_payload or Keep.FULL,
            redact=self._redact(model),
            replays=self._replays(name, model, source_type, options),
            expect_every=model.expect_every,
            answer=model.answer or AnswerForm.IDS,
        )

    def _type(self, name: Scalar, model: SourceModel) -> SourceType | None:
        given = model.type if model.type is not None else name
        if isinstance(given, Invalid):
            return None
        known = ", ".join(sorted(self._types))
        if given in self._types:
            return self._types[given]
        if model.type is None:
            hint = f"add type: generic for any other sender, or one of {known}"
            self._error(name.place, f"source {name} has no type, and its name is not a type", hint)
        else:
            guess = did_you_mean(given, self._types)
            self._error(given.place, f"unknown source type {str(given)!r}{guess}", f"types: {known}")
        return None

    def _dedupe(self, name: Scalar, model: SourceModel, source_type: SourceType) -> float | None:
        if "dedupe" not in model.model_fields_set:
            return source_type.dedupe
        if source_type.dedupe is None:
            message = f"dedupe does not apply to {source_type.name}: each of its webhooks has an id"
            self._error(name.place, message, "remove it")
        return model.dedupe

    def _replays(
        self, name: Scalar, model: SourceModel, source_type: SourceType, options: Options
    ) -> Replays | None:
        if model.replays is None:
            return source_type.default_replays(options, () if model.any_of else _given(model))
        if not source_type.replayable:
            what = f"replays does not apply to {source_type.name}"
            why = "its delivery id is in the body, its signature covers the id or the time, or it sends no id"
            self._error(name.place, f"{what}: {why}", "remove it")
        return model.replays

    def _options(self, name: Scalar, model: SourceModel, source_type: SourceType) -> Options:
        keys = ("header", "event", "action", "delivery_id")
        values: dict[str, Scalar] = {key: value for key in keys if (value := getattr(model, key))}
        for key, value in values.items():
            if key not in source_type.options:
                message = f"{source_type.name} does not support {key}"
                self._error(value.place, message, "remove it, or use type: generic")
        paths = {key: self._path(key, value) for key, value in values.items() if key != "header"}
        if model.delivery_id is not None:
            self._check_delivery_id(model.delivery_id, paths.get("delivery_id"), model)
        given = _given(model)
        if "header" in source_type.options and "token" in given and model.header is None:
            self._error(name.place, "token needs header", "write header: and the header with the token")
        signature = self._signature(name, model, source_type)
        header = values.get("header")
        if header and "header" in source_type.options and "token" not in given:
            self._error(header.place, "header needs token", "remove it")
        elif header and header.lower() == "authorization":
            message = "the token must be the whole header Authorization, with a word such as Bearer"
            hint = "for Authorization: Bearer, write bearer_token: instead of token: and header:"
            self._warn(header.place, message, hint)
        return Options(header=str(header) if header else None, signature=signature, **paths)

    def _check_delivery_id(self, scalar: Scalar, path: Path | None, model: SourceModel) -> None:
        """Warn about an id of what the webhook is about, and about one that a stranger can change."""
        if path is None:
            return
        *before, last = [str(step) for step in path.steps] or [""]
        last = before[-1] if before and last.lower() in ("id", "iid", "key", "number", "uuid") else last
        signature = model.signature
        is_timed = signature is not None and bool(signature.timestamp_header or signature.timestamp_field)
        if path.root == "payload" and _SUBJECT.fullmatch(last):
            message = f"{path.text} identifies an object: later webhooks about it would count as duplicates"
            hint = "name a field that identifies one webhook, or remove delivery_id"
            self._warn(scalar.place, message, hint)
        elif path.root != "payload" and "secret" in _given(model) and not is_timed and model.replays is None:
            message = f"{path.text} is not signed: a copied webhook with another id runs its tasks again"
            hint = (
                "set delivery_id to a field of the body, or set timestamp_header, timestamp_field or replays"
            )
            self._warn(scalar.place, message, hint)

    def _signature(self, name: Scalar, model: SourceModel, source_type: SourceType) -> HmacSignature | None:
        """Return the signature format that the table sets, or None."""
        given = model.signature
        if given is None:
            is_needed = "signature" in source_type.options and not source_type.default_signature
            if is_needed and "secret" in _given(model):
                hint = "write signature: {header: the header with the signature}"
                self._error(name.place, "secret needs signature", hint)
            return None
        if "signature" not in source_type.options:
            message = f"{source_type.name} does not support signature: its format is fixed"
            self._error(name.place, message, "remove it, or use type: generic")
            return None
        if "secret" not in _given(model):
            message = "signature needs secret"
            self._error(name.place, message, "write secret: ${{ env.NAME }}, or remove signature")
        if any(isinstance(value, Invalid) for _, value in given):
            return None  # already reported
        return self._hmac(name, given, source_type)

    def _hmac(self, name: Scalar, given: SignatureModel, source_type: SourceType) -> HmacSignature | None:
        header = str(given.header) if given.header else getattr(source_type.default_signature, "header", None)
        timestamp = str(given.timestamp_header) if given.timestamp_header else None
        usual = "{body}" if timestamp is None else source_type.default_signed_content
        signed = str(given.signed) if given.signed else usual
        if header is None:
            self._error(name.place, "signature has no header", "write header: and the signature's header")
            return None
        place = given.signed.place if given.signed else name.place
        if timestamp is None and "{ts}" in signed:
            hint = "write timestamp_header: and the header with the time"
            self._error(place, "{ts} in signed needs timestamp_header", hint)
        if timestamp is not None and "{ts}" not in signed:
            hint = "add {ts} to signed, or remove timestamp_header: an unsigned time proves nothing"
            self._error(place, "timestamp_header needs {ts} in signed", hint)
        if given.prefix and _BARE_PREFIX.fullmatch(given.prefix):
            message = f"the prefix {given.prefix} has no = at its end, as senders have"
            self._warn(given.prefix.place, message, f"write prefix: {given.prefix}=")
        field = given.timestamp_field
        is_shared = timestamp is not None and timestamp.lower() == header.lower()
        built = HmacSignature(
            header=header,
            algorithm=given.algorithm or "sha256",
            prefix=str(given.prefix or ("v1=" if is_shared else "")),
            encoding=given.encoding or "hex",
            timestamp_header=None if is_shared else timestamp,
            timestamp_field=self._path("timestamp_field", field, ("payload",)) if field else None,
            signed=signed,
        )
        return TimeInSignature(**vars(built), separators=",;") if is_shared else built

    def _path(self, key: str, value: Scalar, names: tuple[str, ...] = _OPTION_NAMES) -> Path | None:
        path = self._compiler.path(value, names)
        if path is not None and not path.is_single:
            found = "[*]" if Each() in path.steps else "several names"
            message = f"{key}: found {found}, expected the path of one field"
            self._error(value.place, message, "name one element, such as [0]")
        return path

    def _redact(self, model: SourceModel) -> tuple[Path, ...]:
        if model.redact and model.store_payload is Keep.NONE:
            message = "redact has no effect: store_payload: none stores no field"
            self._error(model.redact[0].place, message, "remove one of them")
        paths = [self._redacted(value) for value in model.redact or ()]
        return tuple(path for path in paths if path is not None)

    def _redacted(self, value: Scalar) -> Path | None:
        path = self._compiler.path(value, _OPTION_NAMES)
        if path is None:
            return None
        if any(isinstance(step, tuple) for step in path.steps):
            message = "redact: found several names, expected the path of a field"
            self._error(value.place, message, "write a path for each of them")
        if not path.steps:
            message = f"redact: found all of {path.root}, expected the path of a field"
            self._error(value.place, message, "store_payload: none stores neither body, headers nor query")
        elif path.root != "payload" and (len(path.steps) > 1 or not isinstance(path.steps[0], str)):
            message = f"redact: {path.root} has no nested fields"
            self._error(value.place, message, f'write {path.root}["the name"]')
        return path

    def _required(
        self, name: Scalar, model: SourceModel, source_type: SourceType, options: Options
    ) -> tuple[RequiredProof, ...]:
        by_key = {proof.key: proof for proof in source_type.proofs_with(options)}
        given = _given(model)
        for key, values in given.items():
            if key not in by_key:
                expected = ", ".join(by_key)
                self._error(_place(values[0]), f"{key} does not apply to {name}", f"expected {expected}")
        required = tuple(
            RequiredProof(by_key[key], self._secrets(by_key[key], values))
            for key, values in given.items()
            if key in by_key
        )
        self._check_combination(name, model, [one.proof for one in required], source_type)
        return required

    def _check_combination(
        self, name: Scalar, model: SourceModel, proofs: list[Proof], source_type: SourceType
    ) -> None:
        place, given = name.place, _given(model)
        if model.any_of is not None and any(getattr(model, key) is not None for key in _KEYS):
            message = f"source {name} has credentials outside any_of"
            self._error(place, message, "put all of them under any_of, or none")
        headers = [header for proof in proofs for header in {each.lower() for each in proof.headers}]
        if model.any_of is None and len(set(headers)) < len(headers):
            message = f"source {name}: one request cannot have {' and '.join(given)}"
            self._error(place, message, "if one credential is enough, put them under any_of")
        if given and model.allow_unsigned:
            message = f"source {name} has a credential and allow_unsigned: true"
            self._error(place, message, "remove one of them")
        elif not given and model.allow_unsigned is False:
            keys = [proof.key for proof in source_type.proofs]
            message = f"source {name} has no credential"
            hint = f"write {keys[0]}: ${{{{ env.NAME }}}} ({' or '.join(keys)}), or allow_unsigned: true"
            self._error(place, message, hint)
        elif not given and model.allow_unsigned:
            message = f"source {name} accepts requests from anyone (allow_unsigned: true)"
            self._warn(place, message, "anyone who knows its URL can run its tasks")
            self._warn_of_json(place, name, source_type)
            if model.answer is AnswerForm.VERDICT:
                message = "answer: verdict would show parts of the table to anyone (allow_unsigned: true)"
                self._error(place, message, "remove answer, or add a credential")

    def _warn_of_json(self, place: Place, name: Scalar, source_type: SourceType) -> None:
        others = [content for content in source_type.content_types if content != JSON_TYPE]
        if others:
            sender = source_type.guide.title
            message = f"without a credential, source {name} accepts only JSON; {sender} may send {others[0]}"
            hint = "choose JSON at the sender, or add a credential: any web page can send a form"
            self._warn(place, message, hint)

    def _secrets(self, proof: Proof, values: tuple[Given, ...]) -> tuple[Credential, ...]:
        if proof.key == "basic_auth":
            pairs = [self._credentials(value) for value in values if isinstance(value, BasicAuthModel)]
            return tuple(pair for pair in pairs if pair is not None)
        scalars = [value for value in values if isinstance(value, Scalar)]
        if proof.key == "topic_arns":
            topics = [self._topic(proof, value) for value in scalars]
            return tuple(topic for topic in topics if topic is not None)
        secrets = [self._secret(proof, value) for value in scalars]
        return tuple(secret for secret in secrets if secret is not None)

    def _topic(self, proof: Proof, scalar: Scalar) -> str | None:
        topic = self._environment.text(scalar)
        if topic is None or self._environment.is_placeholder(topic, scalar):
            return None
        flaw = proof.secret_error(topic)
        if flaw is not None:
            self._error(scalar.place, flaw, "copy it from the topic's page at AWS")
        return topic

    def _secret(self, proof: Proof, scalar: Scalar) -> Secret | None:
        secret = self._environment.secret(scalar)
        flaw = None if secret is None else proof.secret_error(secret.reveal())
        hint = "copy it from the sender's settings, without spaces"
        self._environment.check_form(scalar, secret, flaw, hint)
        return secret

    def _credentials(self, model: BasicAuthModel) -> BasicCredentials | None:
        username = self._environment.text(model.username)
        password = self._environment.secret(model.password)
        self._environment.check_form(model.password, password)
        if username is None or password is None:
            return None
        if ":" in username:
            message = "the user name of basic_auth must not contain a colon (RFC 7617)"
            self._error(model.username.place, message)
        # Proxies repeat the pair in base64, in which the mask does not find the password alone.
        self._environment.secrets.append(Secret(f"{username}:{password.reveal()}"))
        return BasicCredentials(username, password)


def _place(given: Given) -> Place:
    return given.place if isinstance(given, Scalar) else given.username.place


def _given(model: SourceModel) -> dict[str, tuple[Given, ...]]:
    """Return the proofs of the source, or those under its any_of."""
    proofs = model.any_of if model.any_of is not None else model
    return {key: value for key in _KEYS if (value := getattr(proofs, key)) is not None}
