"""From the shape of a source to a Source: its type, its proofs and its options."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config.compile import Compiler
from bridge.config.document import Empty, Scalar
from bridge.config.env import Environment
from bridge.config.problems import Problems
from bridge.config.shapes import BasicAuthShape, ProofShapes, SignatureShape, SourceShape
from bridge.fields import Each, Path, did_you_mean
from bridge.keeping import Keep
from bridge.problem import Place
from bridge.settings import Secret
from bridge.sources import Options, Replays, Source, SourceType
from bridge.sources.bodies import JSON_TYPE
from bridge.sources.signatures import Credentials, HmacSignature, Known, Proof, Required

#: Where the fields stand that name an event, an action or a delivery.
_OPTION_NAMES = ("payload", "headers", "query")

Given = Scalar | BasicAuthShape

_KEYS = tuple(ProofShapes.model_fields)


class SourceBuilder:
    """Builds the sources of one table."""

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
        self._problems = problems

    def build(self, name: Scalar, shape: SourceShape) -> Source | None:
        """None where its type is not known; every other mistake is reported and passed over."""
        source_type = self._type(name, shape)
        if source_type is None:
            return None
        options = self._options(name, shape, source_type)
        return Source(
            name=str(name),
            type=source_type,
            required=self._required(name, shape, source_type, options),
            any_of=shape.any_of is not None,
            dedupe=self._dedupe(name, shape, source_type),
            options=options,
            store_payload=shape.store_payload or Keep.FULL,
            redact=self._redact(shape),
            replays=self._replays(name, shape, source_type, options),
        )

    def _type(self, name: Scalar, shape: SourceShape) -> SourceType | None:
        given = shape.type if shape.type is not None else name
        if isinstance(given, Empty):
            return None
        known = ", ".join(sorted(self._types))
        if given in self._types:
            return self._types[given]
        if shape.type is None:
            hint = f"add type: one of {known}"
            self._problems.error(name.place, f"source {name} has no type, and its name is none", hint)
        else:
            guess = did_you_mean(given, self._types)
            self._problems.error(
                given.place, f"unknown source type {str(given)!r}{guess}", f"there are: {known}"
            )
        return None

    def _dedupe(self, name: Scalar, shape: SourceShape, source_type: SourceType) -> float | None:
        if "dedupe" not in shape.model_fields_set:
            return source_type.dedupe
        if source_type.dedupe is None:
            message = f"{source_type.name} identifies each of its webhooks: dedupe is not for it"
            self._problems.error(name.place, message, "leave it out")
        return shape.dedupe

    def _replays(
        self, name: Scalar, shape: SourceShape, source_type: SourceType, options: Options
    ) -> Replays | None:
        if shape.replays is None:
            return source_type.usual_replays(options, () if shape.any_of else _given(shape))
        if not source_type.replayable:
            message = f"replays is not for {source_type.name}: its proof covers its delivery id, or has none"
            self._problems.error(name.place, message, "leave it out")
        return shape.replays

    def _options(self, name: Scalar, shape: SourceShape, source_type: SourceType) -> Options:
        values: dict[str, Scalar] = {
            key: value
            for key in ("header", "event", "action", "delivery_id")
            if (value := getattr(shape, key))
        }
        for key, value in values.items():
            if key not in source_type.options:
                message = f"{source_type.name} does not take {key}: its webhooks say it themselves"
                self._problems.error(value.place, message, "leave it out, or use type: generic")
        paths = {key: self._path(key, value) for key, value in values.items() if key != "header"}
        given = _given(shape)
        if "header" in source_type.options and "token" in given and shape.header is None:
            self._problems.error(
                name.place, "token needs header", "write header: the name of the header it stands in"
            )
        signature = self._signature(name, shape, source_type)
        header = values.get("header")
        if header and "header" in source_type.options and "token" not in given:
            self._problems.error(
                header.place, "header is where token stands, and there is no token", "leave it out"
            )
        return Options(header=str(header) if header else None, signature=signature, **paths)

    def _signature(self, name: Scalar, shape: SourceShape, source_type: SourceType) -> HmacSignature | None:
        """How ``secret:`` signs, where the table says it."""
        given = shape.signature
        if given is None:
            if "signature" in source_type.options and not source_type.signs and "secret" in _given(shape):
                hint = "write signature: {header: the header it stands in}"
                self._problems.error(name.place, "secret needs signature", hint)
            return None
        if "signature" not in source_type.options:
            message = f"{source_type.name} does not take signature: how it signs is known"
            self._problems.error(name.place, message, "leave it out, or use type: generic")
            return None
        if "secret" not in _given(shape):
            message = "signature says how secret signs, and there is no secret"
            self._problems.error(name.place, message, "write secret: ${{ env.NAME }}, or leave signature out")
        if any(isinstance(value, Empty) for _, value in given):
            return None  # reported already
        return self._hmac(name, given, source_type)

    def _hmac(self, name: Scalar, given: SignatureShape, source_type: SourceType) -> HmacSignature | None:
        header = str(given.header) if given.header else getattr(source_type.signs, "header", None)
        timestamp = str(given.timestamp_header) if given.timestamp_header else None
        usual = "{body}" if timestamp is None else source_type.signs_with_time
        signed = str(given.signed) if given.signed else usual
        if header is None:
            self._problems.error(
                name.place, "signature has no header", "write header: the header it stands in"
            )
            return None
        place = given.signed.place if given.signed else name.place
        if timestamp is None and "{ts}" in signed:
            hint = "write timestamp_header: the header in which the time stands"
            self._problems.error(place, "signed has {ts}, without a timestamp_header", hint)
        if timestamp is not None and "{ts}" not in signed:
            hint = "a time that is not signed proves nothing: leave timestamp_header out, or sign it"
            self._problems.error(place, "signed has no {ts}, for a timestamp_header", hint)
        if timestamp is not None and timestamp.lower() == header.lower():
            message = f"the signature and its time cannot both stand in {header}"
            self._problems.error(name.place, message, "write timestamp_header: the header of the time")
        return HmacSignature(
            header=header,
            algorithm=given.algorithm or "sha256",
            prefix=str(given.prefix or ""),
            encoding=given.encoding or "hex",
            timestamp_header=timestamp,
            signed=signed,
        )

    def _path(self, key: str, value: Scalar) -> Path | None:
        path = self._compiler.path(value, _OPTION_NAMES)
        if path is not None and Each() in path.steps:
            message = f"{key}: found [*], expected the path of one field"
            self._problems.error(value.place, message, "name one element, such as [0]")
        return path

    def _redact(self, shape: SourceShape) -> tuple[Path, ...]:
        if shape.redact and shape.store_payload is Keep.NONE:
            message = "redact is for what is stored, and store_payload: none stores no field"
            self._problems.error(shape.redact[0].place, message, "leave one of them out")
        paths = [self._redacted(value) for value in shape.redact or ()]
        return tuple(path for path in paths if path is not None)

    def _redacted(self, value: Scalar) -> Path | None:
        path = self._compiler.path(value, _OPTION_NAMES)
        if path is None:
            return None
        if not path.steps:
            message = f"redact: found all of {path.root}, expected the path of a field"
            self._problems.error(
                value.place, message, "store_payload: none stores neither body, headers nor query"
            )
        elif path.root != "payload" and (len(path.steps) > 1 or not isinstance(path.steps[0], str)):
            message = f"redact: {path.root} holds texts by their names, and no more"
            self._problems.error(value.place, message, f'write {path.root}["the name"]')
        return path

    def _required(
        self, name: Scalar, shape: SourceShape, source_type: SourceType, options: Options
    ) -> tuple[Required, ...]:
        by_key = {proof.key: proof for proof in source_type.proofs_with(options)}
        given = _given(shape)
        for key, values in given.items():
            if key not in by_key:
                takes = ", ".join(by_key)
                self._problems.error(
                    _place(values[0]), f"{name} cannot prove itself by {key}", f"it can by {takes}"
                )
        required = tuple(
            Required(by_key[key], self._secrets(by_key[key], values))
            for key, values in given.items()
            if key in by_key
        )
        self._check_combination(name, shape, [one.proof for one in required], source_type)
        return required

    def _check_combination(
        self, name: Scalar, shape: SourceShape, proofs: list[Proof], source_type: SourceType
    ) -> None:
        place, given = name.place, _given(shape)
        if shape.any_of is not None and any(getattr(shape, key) is not None for key in _KEYS):
            self._problems.error(
                place, f"source {name} has proofs beside any_of", "put all of them under any_of, or none"
            )
        headers = [header for proof in proofs for header in {each.lower() for each in proof.headers}]
        if shape.any_of is None and len(set(headers)) < len(headers):
            message = f"source {name}: one request cannot hold {' and '.join(given)}"
            self._problems.error(place, message, "put them under any_of: if either may come")
        if given and shape.allow_unsigned:
            message = f"source {name} has a proof and allow_unsigned: true"
            self._problems.error(place, message, "leave one of them out")
        elif not given and shape.allow_unsigned is False:
            keys = [proof.key for proof in source_type.proofs]
            message = f"source {name} has nothing to prove itself by"
            hint = f"write {keys[0]}: ${{{{ env.NAME }}}} ({' or '.join(keys)}), or allow_unsigned: true"
            self._problems.error(place, message, hint)
        elif not given and shape.allow_unsigned:
            message = f"source {name} takes requests from anybody (allow_unsigned: true)"
            self._problems.warning(place, message, "whoever knows its URL can start its tasks")
            self._warn_of_json(place, name, source_type)

    def _warn_of_json(self, place: Place, name: Scalar, source_type: SourceType) -> None:
        others = [content for content in source_type.content_types if content != JSON_TYPE]
        if others:
            sender = source_type.guide.title
            message = f"unsigned, source {name} takes {JSON_TYPE} only; {sender} may send {others[0]}"
            hint = "any page in a browser can send that; choose JSON at the sender, or a proof"
            self._problems.warning(place, message, hint)

    def _secrets(self, proof: Proof, values: tuple[Given, ...]) -> tuple[Known, ...]:
        if proof.key == "basic_auth":
            pairs = [self._credentials(value) for value in values if isinstance(value, BasicAuthShape)]
            return tuple(pair for pair in pairs if pair is not None)
        scalars = [value for value in values if isinstance(value, Scalar)]
        if proof.key == "topic_arns":
            topics = [self._topic(proof, value) for value in scalars]
            return tuple(topic for topic in topics if topic is not None)
        secrets = [self._secret(proof, value) for value in scalars]
        return tuple(secret for secret in secrets if secret is not None)

    def _topic(self, proof: Proof, scalar: Scalar) -> str | None:
        topic = self._environment.text(scalar)
        if topic is None or self._environment.stands_in(topic, scalar):
            return None
        flaw = proof.flaw(topic)
        if flaw is not None:
            self._problems.error(scalar.place, flaw, "copy it from the topic's page at AWS")
        return topic

    def _secret(self, proof: Proof, scalar: Scalar) -> Secret | None:
        secret = self._environment.secret(scalar)
        flaw = None if secret is None else proof.flaw(secret.reveal())
        if flaw is not None:
            self._problems.error(scalar.place, flaw, "copy it from the sender's settings, without spaces")
        return secret

    def _credentials(self, shape: BasicAuthShape) -> Credentials | None:
        username = self._environment.text(shape.username)
        password = self._environment.secret(shape.password)
        if username is None or password is None:
            return None
        if ":" in username:
            self._problems.error(shape.username.place, "a user name of basic_auth holds no colon (RFC 7617)")
        # Proxies repeat the pair as the base64 of both, in which that of the password alone is not found.
        self._environment.secrets.append(Secret(f"{username}:{password.reveal()}"))
        return Credentials(username, password)


def _place(given: Given) -> Place:
    return given.place if isinstance(given, Scalar) else given.username.place


def _given(shape: SourceShape) -> dict[str, tuple[Given, ...]]:
    """The kinds of proof that the table gives, on the source or under its any_of."""
    proofs = shape.any_of if shape.any_of is not None else shape
    return {key: value for key in _KEYS if (value := getattr(proofs, key)) is not None}
