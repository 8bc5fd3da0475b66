"""Readers of the table's values by type, each with its JSON Schema for editors.

A reader rejects a value with a PydanticCustomError, which load.py turns into a Problem at its place. For an
Invalid, which is already reported, it returns None or the Invalid. Messages never show a possible secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from bridge.config.document import Invalid, Items, Scalar, Section
from bridge.core.problem import Place
from bridge.core.redaction import Keep
from bridge.core.task import OnUnknown, Rate
from bridge.core.task_arguments import ArgumentsType
from bridge.core.units import SECONDS_BY_UNIT, parse_duration
from bridge.routing.match import NOT, OPERATORS
from bridge.sources.base.source_type import AnswerForm, Replays

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_ENV = re.compile(r"\s*\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}\s*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
#: The path of a header, where only its name is expected.
_HEADER_PATH = re.compile(r"""(?:\$\{\{ *)?headers(?:\.|\[['"])([A-Za-z0-9-]+)(?:['"]\])?(?: *\}\})?""")
_RATE = re.compile(r"([1-9][0-9]{0,4})/([smhd])")
#: The most attempts of a rate, which the store counts.
_RATE_ATTEMPTS_LIMIT = 10_000

#: The longest value, in characters, that a message shows. A longer one may be a secret key.
_SHOWN_LENGTH_LIMIT = 40


def reject(message: str, hint: str | None = None, at: Place | None = None) -> NoReturn:
    """Report a mistake at the value, or at a place inside it."""
    raise PydanticCustomError("mistake", "{message}", {"message": message, "hint": hint, "at": at})


def describe(value: Any) -> str:
    """Describe a value for a message."""
    if isinstance(value, Scalar):
        return repr(str(value)) if len(value) <= _SHOWN_LENGTH_LIMIT else f"'…' ({len(value)} characters)"
    return "a list" if isinstance(value, Items) else "a mapping"


def env_name(value: str) -> str | None:
    """Return NAME of ``${{ env.NAME }}``, or None."""
    match = _ENV.fullmatch(value)
    return match[1] if match else None


def read_text(value: Any) -> Scalar:
    if not isinstance(value, Scalar):
        reject(f"found {describe(value)}, expected text")
    return value


def read_line(value: Any) -> Scalar:
    """Read one line of visible text."""
    text = read_text(value)
    if not isinstance(text, Invalid) and (not text.strip() or not text.isprintable()):
        reject(f"found {describe(value)}, expected one line of text")
    return text


def read_title(value: Any) -> Scalar:
    text = read_line(value)
    if "{{" in text:
        reject("found an expression, expected text", "a name is never evaluated")
    return text


def read_name(value: Any) -> Scalar:
    text = read_text(value)
    if not isinstance(text, Invalid) and not _NAME.fullmatch(text):
        reject(f"found {describe(value)}, expected a name of letters, digits, _, - and .")
    return text


def read_header_name(value: Any) -> Scalar:
    text = read_text(value)
    if path := _HEADER_PATH.fullmatch(text):
        reject(f"found the path {describe(value)}, expected only the header's name", f"write {path[1]}")
    if not isinstance(text, Invalid) and not _HEADER_NAME.fullmatch(text):
        hint = "the server drops headers with _ in their names, as nginx does" if "_" in text else None
        reject(f"found {describe(value)}, expected a header's name of letters, digits, - and .", hint)
    return text


def read_boolean(value: Any) -> bool | None:
    if isinstance(value, Invalid):
        return None
    if isinstance(value, Scalar) and value.plain and value in ("true", "false"):
        return value == "true"
    reject(f"found {describe(value)}, expected true or false")


def read_duration(value: Any) -> float:
    text = read_text(value)
    if isinstance(text, Invalid):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        reject(f"found {describe(value)}; {error}")


def read_period(value: Any) -> float:
    seconds = read_duration(value)
    if 0 < seconds < 60:
        reject(f"found {describe(value)}, expected at least 1m")
    return seconds


def read_dedupe(value: Any) -> float | None:
    """Read a duration, or ``off`` as None."""
    if isinstance(value, Scalar) and value in ("false", "no", "never", "none", "null", "0", "0s"):
        reject(f"found {describe(value)}, expected off or a duration", "write dedupe: off")
    return None if isinstance(value, Scalar) and value == "off" else read_duration(value)


def read_rate(value: Any) -> Rate | None:
    text = read_text(value)
    if isinstance(text, Invalid):
        return None
    parts = _RATE.fullmatch(text)
    if parts is None or int(parts[1]) > _RATE_ATTEMPTS_LIMIT:
        wanted = f"a number up to {_RATE_ATTEMPTS_LIMIT:,} and a span, such as 10/s, 30/m, 500/h, 1000/d"
        reject(f"found {describe(value)}, expected {wanted}")
    return Rate(int(parts[1]), float(SECONDS_BY_UNIT[parts[2]]))


def read_until(value: Any) -> None:
    """Read until when a job blocks its group. The only value is accepted."""
    text = read_text(value)
    if not isinstance(text, Invalid) and text != "accepted":
        reject(f"found {describe(value)}, expected accepted")


def read_choice(choices: type[E]) -> Callable[[Any], E | None]:
    def read(value: Any) -> E | None:
        text = read_text(value)
        if isinstance(text, Invalid):
            return None
        try:
            return choices(text)
        except ValueError:
            reject(f"found {describe(value)}, expected one of {', '.join(choices)}")

    return read


def read_url(value: Any) -> Scalar:
    text = read_text(value)
    if env_name(text) is None and not isinstance(text, Invalid):
        check_url(text)
    return text


def check_url(text: str) -> None:
    """Check the form of TheEye's URL, which has no path, query or fragment."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None  # the message must not show it: it may be a password
    if host is None or parts.scheme not in ("https", "http") or " " in text or not text.isprintable():
        reject("found no URL, expected one such as https://api.theeye.io")
    if "@" in parts.netloc or "?" in text or "#" in text or "\\" in text:
        reject("the URL may have no user, query or fragment")
    if parts.path.strip("/"):
        reject(
            "the URL may have no path: the bridge adds the path of the API",
            f"write {text[: -len(parts.path)]}",
        )


def as_list(value: Any) -> Any:
    """Return a list; a single value becomes one."""
    if isinstance(value, Items) and not value:
        reject("found an empty list, expected at least one")
    return value if isinstance(value, Items) else [value]


def read_secret(value: Any) -> Scalar:
    """Read ``${{ env.NAME }}``. The message for a literal secret shows the line to write instead."""
    text = value if isinstance(value, Scalar) else None
    if text is None:
        reject(f"found {describe(value)}, expected ${{{{ env.NAME }}}}")
    if env_name(text) is None and not isinstance(text, Invalid):
        what = "an expression" if "${{" in text else "a literal secret"
        message = f"found {what}, expected ${{{{ env.NAME }}}}"
        raise PydanticCustomError("literal_secret", "{message}", {"message": message})
    return text


def read_argument_name(value: Any) -> Scalar | None:
    """Read a name, or ``null`` as None for a fixed argument."""
    fixed = isinstance(value, Scalar) and value.plain and value == "null"
    return None if fixed else read_name(value)


def check_argument_names(names: tuple[Scalar | None, ...]) -> tuple[Scalar | None, ...]:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            reject(f"the argument name {str(name)!r} is used twice", at=name.place)
        if name is not None:
            seen.add(name)
    return names


def read_items(value: Any) -> Items:
    if not isinstance(value, Items):
        reject(f"found {describe(value)}, expected a list of argument names in TheEye's order")
    return value


def read_section(value: Any) -> Section:
    if isinstance(value, Invalid):
        section = Section(value.place)
        section.complete = False
        return section
    if not isinstance(value, Section):
        reject(f"found {describe(value)}, expected a mapping")
    return value


def read_arguments(value: Any) -> Items | Section | Invalid:
    if not isinstance(value, Items | Section | Invalid):
        reject(
            f"found {describe(value)}, expected a list, or a mapping by argument name",
            "begin each argument with '- '",
        )  # fmt: skip
    return value


class Algorithm(StrEnum):
    """The hash of an HMAC."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


class Encoding(StrEnum):
    """The encoding of a signature in its header."""

    HEX = "hex"
    BASE64 = "base64"


def read_signed(value: Any) -> Scalar:
    text = read_text(value)
    if not isinstance(text, Invalid) and (
        text.count("{body}") != 1 or re.search(r"[{}]", re.sub(r"\{(ts|body)\}", "", text))
    ):
        reject(
            f"found {describe(value)}, expected text with {{body}} once, and optionally {{ts}}",
            "such as '{ts}.{body}'",
        )
    return text


class OneOrMore:
    """Tell editors that a single value is allowed instead of a list."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        many = handler(core_schema)
        return {"anyOf": [many["items"], {**many, "minItems": 1}]}


def _scalar(*more: str, **rules: Any) -> WithJsonSchema:
    """Return the schema of text, which editors may parse as numbers and booleans."""
    return WithJsonSchema({"type": ["string", "number", "boolean", *more], **rules})


def _string(pattern: str, expected: str) -> WithJsonSchema:
    """Return the schema of text with this pattern. An editor shows `expected` for other text."""
    return WithJsonSchema(
        {"type": "string", "pattern": f"^({pattern})$", "patternErrorMessage": f"expected {expected}"}
    )


_TEXT = _scalar()
_LINE = r"[^\x00-\x1f]*\S[^\x00-\x1f]*"
_DURATION = r"(?=0*[1-9])[0-9]{1,9}[smhd]"
_A_DURATION = "a duration, such as 30s, 10m, 24h, 7d"


def _mapping_of(key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of this key alone."""
    return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}


_PATTERN = {
    "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        *(_mapping_of(name, operator.operand) for name, operator in OPERATORS.items()),
    ]
}
_PATTERNS = {"anyOf": [_PATTERN, {"type": "array", "items": _PATTERN, "minItems": 1}]}

Text = Annotated[Scalar, PlainValidator(read_text), _TEXT]
Line = Annotated[Scalar, PlainValidator(read_line), _scalar(pattern=f"^{_LINE}$")]
Title = Annotated[Scalar, PlainValidator(read_title), _scalar(pattern=rf"^(?!.*\$\{{\{{){_LINE}$")]
HeaderName = Annotated[
    Scalar, PlainValidator(read_header_name), _scalar(pattern=f"^{_HEADER_NAME.pattern}$", minimum=0)
]
Name = Annotated[Scalar, PlainValidator(read_name), _scalar(pattern=f"^{_NAME.pattern}$", minimum=0)]
Url = Annotated[
    Scalar, PlainValidator(read_url), _string(rf"https?://.+|{_ENV.pattern}", "a URL, or ${{ env.NAME }}")
]
Boolean = Annotated[bool | None, PlainValidator(read_boolean), WithJsonSchema({"type": "boolean"})]
Duration = Annotated[float, PlainValidator(read_duration), _string(_DURATION, _A_DURATION)]
Period = Annotated[float, PlainValidator(read_period), _string(_DURATION, f"{_A_DURATION}, at least 1m")]
Dedupe = Annotated[
    float | None, PlainValidator(read_dedupe), _string(f"off|{_DURATION}", f"off, or {_A_DURATION}")
]
RateText = Annotated[
    Rate | None,
    PlainValidator(read_rate),
    _string("([1-9][0-9]{0,3}|10000)/[smhd]", "a number up to 10,000 and a span, such as 10/s, 30/m, 500/h"),
]
Many = Annotated[tuple[T, ...], BeforeValidator(as_list), OneOrMore()]
SecretText = Annotated[
    Scalar, PlainValidator(read_secret), _string(_ENV.pattern, "${{ env.NAME }}: never the secret itself")
]
ArgumentName = Annotated[
    Scalar | None,
    PlainValidator(read_argument_name),
    _scalar("null", pattern=f"^{_NAME.pattern}$", minimum=0),
]
ArgumentNames = Annotated[
    tuple[ArgumentName, ...], BeforeValidator(read_items), AfterValidator(check_argument_names)
]
Match = Annotated[
    Section,
    PlainValidator(read_section),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [*_PATTERNS["anyOf"], _mapping_of(NOT, _PATTERNS)]},
        }
    ),
]
Arguments = Annotated[
    Items | Section | Invalid, PlainValidator(read_arguments), WithJsonSchema({"type": ["array", "object"]})
]
Signed = Annotated[
    Scalar,
    PlainValidator(read_signed),
    _string(
        r"[^{}]*(\{ts\}[^{}]*)*\{body\}[^{}]*(\{ts\}[^{}]*)*", "text with {body} once, and optionally {ts}"
    ),
]
Until = Annotated[None, PlainValidator(read_until), WithJsonSchema({"enum": ["accepted"]})]
AlgorithmText = Annotated[
    Algorithm | None, PlainValidator(read_choice(Algorithm)), WithJsonSchema({"enum": list(Algorithm)})
]
EncodingText = Annotated[
    Encoding | None, PlainValidator(read_choice(Encoding)), WithJsonSchema({"enum": list(Encoding)})
]
KeepText = Annotated[Keep | None, PlainValidator(read_choice(Keep)), WithJsonSchema({"enum": list(Keep)})]
ReplaysText = Annotated[
    Replays | None, PlainValidator(read_choice(Replays)), WithJsonSchema({"enum": list(Replays)})
]
AnswerText = Annotated[
    AnswerForm | None, PlainValidator(read_choice(AnswerForm)), WithJsonSchema({"enum": list(AnswerForm)})
]
ArgumentsTypeText = Annotated[
    ArgumentsType | None,
    PlainValidator(read_choice(ArgumentsType)),
    WithJsonSchema({"enum": list(ArgumentsType)}),
]
OnUnknownText = Annotated[
    OnUnknown | None, PlainValidator(read_choice(OnUnknown)), WithJsonSchema({"enum": list(OnUnknown)})
]
