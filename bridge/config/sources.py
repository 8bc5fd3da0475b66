"""From the shape of a source to a Source: its type, its proofs and its options."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config.compile import Compiler
from bridge.config.document import Empty, Scalar
from bridge.config.env import Environment
from bridge.config.problems import Problems
from bridge.config.shapes import LATER_TYPES, BasicAuthShape, ProofShapes, SourceShape
from bridge.fields import Each, Path, did_you_mean
from bridge.problem import Place
from bridge.settings import Secret
from bridge.sources import Options, Source, SourceType
from bridge.sources.signatures import Credentials, Proof, Required

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
            required=self._required(name, shape, source_type.proofs_with(options)),
            any_of=shape.any_of is not None,
            dedupe=self._dedupe(name, shape, source_type),
            options=options,
        )

    def _type(self, name: Scalar, shape: SourceShape) -> SourceType | None:
        given = shape.type if shape.type is not None else name
        if isinstance(given, Empty):
            return None
        known = ", ".join(sorted(self._types))
        if given in self._types:
            return self._types[given]
        if given in LATER_TYPES:
            self._problems.error(
                given.place, f"the source type {given} is not supported yet", f"there are: {known}"
            )
        elif shape.type is None:
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
        header = values.get("header")
        if header and "header" in source_type.options and "token" not in given:
            self._problems.error(
                header.place, "header is where token stands, and there is no token", "leave it out"
            )
        return Options(header=str(header) if header else None, **paths)

    def _path(self, key: str, value: Scalar) -> Path | None:
        path = self._compiler.path(value, _OPTION_NAMES)
        if path is not None and Each() in path.steps:
            message = f"{key}: found [*], expected the path of one field"
            self._problems.error(value.place, message, "name one element, such as [0]")
        return path

    def _required(self, name: Scalar, shape: SourceShape, proofs: tuple[Proof, ...]) -> tuple[Required, ...]:
        by_key = {proof.key: proof for proof in proofs}
        given = _given(shape)
        for key, values in given.items():
            if key not in by_key:
                takes = ", ".join(by_key)
                self._problems.error(
                    _place(values[0]), f"{name} cannot prove itself by {key}", f"it can by {takes}"
                )
        required = tuple(
            Required(by_key[key], self._secrets(key, values))
            for key, values in given.items()
            if key in by_key
        )
        self._check_combination(name, shape, [one.proof for one in required], by_key)
        return required

    def _check_combination(
        self, name: Scalar, shape: SourceShape, proofs: list[Proof], by_key: Mapping[str, Proof]
    ) -> None:
        place, given = name.place, _given(shape)
        if shape.any_of is not None and any(getattr(shape, key) is not None for key in _KEYS):
            self._problems.error(
                place, f"source {name} has proofs beside any_of", "put all of them under any_of, or none"
            )
        headers = [proof.header for proof in proofs]
        if shape.any_of is None and len(set(headers)) < len(headers):
            message = f"source {name}: one request cannot hold {' and '.join(given)}"
            self._problems.error(place, message, "put them under any_of: if either may come")
        if given and shape.allow_unsigned:
            message = f"source {name} has a proof and allow_unsigned: true"
            self._problems.error(place, message, "leave one of them out")
        elif not given and shape.allow_unsigned is False:
            key = next(iter(by_key))
            message = f"source {name} has nothing to prove itself by"
            hint = f"write {key}: ${{{{ env.NAME }}}} ({' or '.join(by_key)}), or allow_unsigned: true"
            self._problems.error(place, message, hint)
        elif not given and shape.allow_unsigned:
            message = f"source {name} takes requests from anybody (allow_unsigned: true)"
            self._problems.warning(place, message, "whoever knows its URL can start its tasks")

    def _secrets(self, key: str, values: tuple[Given, ...]) -> tuple[Secret | Credentials, ...]:
        if key == "basic_auth":
            pairs = [self._credentials(value) for value in values if isinstance(value, BasicAuthShape)]
            return tuple(pair for pair in pairs if pair is not None)
        secrets = [self._environment.secret(value) for value in values if isinstance(value, Scalar)]
        return tuple(secret for secret in secrets if secret is not None)

    def _credentials(self, shape: BasicAuthShape) -> Credentials | None:
        username = self._environment.text(shape.username)
        password = self._environment.secret(shape.password)
        if username is None or password is None:
            return None
        if ":" in username:
            self._problems.error(shape.username.place, "a user name of basic_auth holds no colon (RFC 7617)")
        return Credentials(username, password)


def _place(given: Given) -> Place:
    return given.place if isinstance(given, Scalar) else given.username.place


def _given(shape: SourceShape) -> dict[str, tuple[Given, ...]]:
    """The kinds of proof that the table gives, on the source or under its any_of."""
    proofs = shape.any_of if shape.any_of is not None else shape
    return {key: value for key in _KEYS if (value := getattr(proofs, key)) is not None}
