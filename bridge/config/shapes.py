"""The table's shape as pydantic models, and how a scalar is read by its field's type.

A mistake is raised as a PydanticCustomError whose context may carry a hint; load.py turns
each into a Problem at its place. An Empty, which is reported already, is passed over by every reader:
None, or an Empty, then stands in the shape. Values never stand in messages where they could be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from bridge.config.document import Empty, Items, Scalar, Section
from bridge.keeping import Keep
from bridge.problem import Place
from bridge.retry import RetryPolicy
from bridge.route import ArgumentsType, OnUnknown, Rate, Task
from bridge.settings import DURATION_UNITS, duration
from bridge.theeye import TheEye

E = TypeVar("E", bound=StrEnum)

_ENV = re.compile(r"\s*\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}\s*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RATE = re.compile(r"([1-9][0-9]{0,4})/([smhd])")
#: The most attempts of a rate: the store looks so many back.
_FASTEST = 10_000

#: Of what stands in the table, how many characters a message shows; what is longer may be a key.
_SHOWN = 40


def refuse(message: str, hint: str | None = None, at: Place | None = None) -> NoReturn:
    """Report a mistake at the value that is being read, or at a place inside it."""
    raise PydanticCustomError("mistake", "{message}", {"message": message, "hint": hint, "at": at})


def found(value: Any) -> str:
    """What stands there, for a message."""
    if isinstance(value, Scalar):
        return repr(str(value)) if len(value) <= _SHOWN else f"'…' ({len(value)} characters)"
    return "a list" if isinstance(value, Items) else "a mapping"


def env_name(value: str) -> str | None:
    """NAME of a ``${{ env.NAME }}``, or None."""
    match = _ENV.fullmatch(value)
    return match[1] if match else None


def read_text(value: Any) -> Scalar:
    if not isinstance(value, Scalar):
        refuse(f"found {found(value)}, expected text")
    return value


def read_line(value: Any) -> Scalar:
    """Text that people and other programs know something by."""
    text = read_text(value)
    if not isinstance(text, Empty) and (not text.strip() or not text.isprintable()):
        refuse(f"found {found(value)}, expected one line of text")
    return text


def read_title(value: Any) -> Scalar:
    text = read_line(value)
    if "${{" in text:
        refuse("found an expression, expected text", "a name is never evaluated")
    return text


def read_name(value: Any) -> Scalar:
    text = read_text(value)
    if not isinstance(text, Empty) and not _NAME.fullmatch(text):
        refuse(f"found {found(value)}, expected a name of letters, digits, _, - and .")
    return text


def read_boolean(value: Any) -> bool | None:
    if isinstance(value, Empty):
        return None
    if isinstance(value, Scalar) and value.plain and value in ("true", "false"):
        return value == "true"
    refuse(f"found {found(value)}, expected true or false")


def read_duration(value: Any) -> float:
    text = read_text(value)
    if isinstance(text, Empty):
        return 0.0
    try:
        return duration(text)
    except ValueError as error:
        refuse(f"found {found(value)}; {error}")


def read_dedupe(value: Any) -> float | None:
    """None for ``off``."""
    return None if isinstance(value, Scalar) and value == "off" else read_duration(value)


def read_rate(value: Any) -> Rate | None:
    text = read_text(value)
    if isinstance(text, Empty):
        return None
    parts = _RATE.fullmatch(text)
    if parts is None or int(parts[1]) > _FASTEST:
        wanted = f"a number up to {_FASTEST:,} and a span, such as 10/s, 30/m, 500/h, 1000/d"
        refuse(f"found {found(value)}, expected {wanted}")
    return Rate(int(parts[1]), float(DURATION_UNITS[parts[2]]))


def read_until(value: Any) -> None:
    """Till when a job holds its group: accepted is all there is yet."""
    text = read_text(value)
    if not isinstance(text, Empty) and text != "accepted":
        later = "finished is not supported yet, expected accepted" if text == "finished" else None
        refuse(later or f"found {found(value)}, expected accepted")


def read_choice(choices: type[E]) -> Callable[[Any], E | None]:
    def read(value: Any) -> E | None:
        text = read_text(value)
        if isinstance(text, Empty):
            return None
        try:
            return choices(text)
        except ValueError:
            refuse(f"found {found(value)}, expected one of {', '.join(choices)}")

    return read


def read_url(value: Any) -> Scalar:
    text = read_text(value)
    if env_name(text) is None and not isinstance(text, Empty):
        check_url(text)
    return text


def check_url(text: str) -> None:
    """TheEye's address: https, but for a loopback address; no path that could move a key elsewhere."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None  # what is wrong is not shown: it may be a password
    if host is None or parts.scheme not in ("https", "http") or " " in text or not text.isprintable():
        refuse("found no URL, expected one such as https://api.theeye.io")
    if "@" in parts.netloc or "?" in text or "#" in text or "\\" in text:
        refuse("the URL may have no user, query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        refuse("found http, expected https: task keys stand in the URL's path", "write https://")


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on the machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def as_list(value: Any) -> Any:
    """One alone stands for a list of it."""
    if isinstance(value, Items) and not value:
        refuse("found an empty list, expected at least one")
    return value if isinstance(value, Items) else [value]


def read_secret(value: Any) -> Scalar:
    """A secret is written as ``${{ env.NAME }}``; the message shows the line, never the literal."""
    text = value if isinstance(value, Scalar) else None
    if text is None:
        refuse(f"found {found(value)}, expected ${{{{ env.NAME }}}}")
    if env_name(text) is None and not isinstance(text, Empty):
        what = "an expression" if "${{" in text else "a literal secret"
        message = f"found {what}, expected ${{{{ env.NAME }}}}"
        raise PydanticCustomError("literal_secret", "{message}", {"message": message})
    return text


def read_argument_name(value: Any) -> Scalar | None:
    """None for ``null``, which stands for a fixed argument."""
    fixed = isinstance(value, Scalar) and value.plain and value == "null"
    return None if fixed else read_name(value)


def check_argument_names(names: tuple[Scalar | None, ...]) -> tuple[Scalar | None, ...]:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            refuse(f"the argument name {str(name)!r} stands twice", at=name.place)
        if name is not None:
            seen.add(name)
    return names


def read_items(value: Any) -> Items:
    if not isinstance(value, Items):
        refuse(f"found {found(value)}, expected a list of argument names in TheEye's order")
    return value


def read_section(value: Any) -> Section:
    if isinstance(value, Empty):
        return Section(value.place)
    if not isinstance(value, Section):
        refuse(f"found {found(value)}, expected a mapping")
    return value


def read_arguments(value: Any) -> Items | Section | Empty:
    if not isinstance(value, Items | Section | Empty):
        refuse(
            f"found {found(value)}, expected a list, or a mapping by argument name",
            "begin each argument with '- '",
        )  # fmt: skip
    return value


Text = Annotated[Scalar, PlainValidator(read_text)]
Line = Annotated[Scalar, PlainValidator(read_line)]
Title = Annotated[Scalar, PlainValidator(read_title)]
Name = Annotated[Scalar, PlainValidator(read_name)]
Boolean = Annotated[bool | None, PlainValidator(read_boolean)]
Duration = Annotated[float, PlainValidator(read_duration)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_list)]
SecretText = Annotated[Scalar, PlainValidator(read_secret)]
SecretTexts = Annotated[tuple[SecretText, ...], BeforeValidator(as_list)]
ArgumentName = Annotated[Scalar | None, PlainValidator(read_argument_name)]
ArgumentNames = Annotated[
    tuple[ArgumentName, ...], BeforeValidator(read_items), AfterValidator(check_argument_names)
]
Keys = Annotated[Section, PlainValidator(read_section)]
Arguments = Annotated[Items | Section | Empty, PlainValidator(read_arguments)]
ArgumentsTypeText = Annotated[ArgumentsType | None, PlainValidator(read_choice(ArgumentsType))]
RateText = Annotated[Rate | None, PlainValidator(read_rate)]
OnUnknownText = Annotated[OnUnknown | None, PlainValidator(read_choice(OnUnknown))]


class Shape(BaseModel):
    """Strict: a key that is not there is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Algorithm(StrEnum):
    """Of an HMAC."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


class Encoding(StrEnum):
    """Of a signature in its header."""

    HEX = "hex"
    BASE64 = "base64"


def read_signed(value: Any) -> Scalar:
    text = read_text(value)
    if not isinstance(text, Empty) and (
        text.count("{body}") != 1 or re.search(r"[{}]", re.sub(r"\{(ts|body)\}", "", text))
    ):
        refuse(f"found {found(value)}, expected {{body}} once, and maybe {{ts}}", "such as '{ts}.{body}'")
    return text


class RetryShape(Shape):
    """``theeye.retry``."""

    retry_for: Duration = Field(default=RetryPolicy.retry_for, alias="for")
    longest_wait: Duration = RetryPolicy.longest_wait


class TheEyeShape(Shape):
    """``theeye``."""

    url: Annotated[Scalar | None, PlainValidator(read_url)] = None
    customer: Line
    access_token: SecretText | None = None
    timeout: Duration = TheEye.timeout
    retry: RetryShape = RetryShape()


class BasicAuthShape(Shape):
    """One of ``basic_auth``."""

    username: Text
    password: SecretText


class ProofShapes(Shape):
    """The kinds of proof, on a source or under its ``any_of``."""

    secret: SecretTexts | None = None
    token: SecretTexts | None = None
    bearer_token: SecretTexts | None = None
    basic_auth: Annotated[tuple[BasicAuthShape, ...], BeforeValidator(as_list)] | None = None
    url_token: SecretTexts | None = None
    topic_arns: Annotated[tuple[Line, ...], BeforeValidator(as_list)] | None = None


class SignatureShape(Shape):
    """``signature``: how ``secret`` signs, where the sender leaves that open."""

    header: Name | None = None
    algorithm: Annotated[Algorithm | None, PlainValidator(read_choice(Algorithm))] = Algorithm.SHA256
    encoding: Annotated[Encoding | None, PlainValidator(read_choice(Encoding))] = Encoding.HEX
    prefix: Text | None = None
    timestamp_header: Name | None = None
    signed: Annotated[Scalar | None, PlainValidator(read_signed)] = None


class SourceShape(ProofShapes):
    """One of ``sources``."""

    type: Name | None = None
    any_of: ProofShapes | None = None
    allow_unsigned: Boolean = False
    dedupe: Annotated[float | None, PlainValidator(read_dedupe)] = None
    header: Name | None = None
    event: Text | None = None
    action: Text | None = None
    delivery_id: Text | None = None
    signature: SignatureShape | None = None
    keep: Annotated[Keep | None, PlainValidator(read_choice(Keep))] = Keep.FULL
    redact: Texts | None = None


class TaskKeys(Shape):
    """What a task may set, under ``tasks`` or on its route."""

    secret_key: SecretText | None = None
    arguments: ArgumentNames | None = None
    arguments_type: ArgumentsTypeText = Task.arguments_type
    on_unknown: OnUnknownText = Task.on_unknown
    rate: RateText = None


class TaskShape(TaskKeys):
    """One of ``tasks``."""

    id: Text


class OrderShape(TaskKeys):
    """``on_dead``, and what a route has in common with it: a task and its arguments."""

    task: Text
    task_arguments: Arguments | None = None


class ConcurrencyShape(Shape):
    """``concurrency`` of a route."""

    group: Text
    latest: Boolean = False
    until: Annotated[None, PlainValidator(read_until)] = None


class RouteShape(OrderShape):
    """One of ``routes``."""

    name: Title | None = None
    source: Text
    event: Texts | None = None
    match: Keys | None = None
    when: Text | None = None
    loop: Text | None = None
    allow_data_urls: Boolean = False
    concurrency: ConcurrencyShape | None = None
    once_within: Duration | None = None
    once_key: Text | None = None
    otherwise: Boolean = False


#: Keys of the design that have not come yet, by where they stand: refused, never ignored.
LATER: dict[str, tuple[str, ...]] = {
    "the table": (),
    "theeye": (),
    "a source": (),
    "a task": ("follow_result",),
    "a route": ("follow_result",),
    "on_dead": (),
    "a test": (),
}
