"""The table's shape as pydantic models. What stands below a key is what editors show of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bridge.config.readers import (
    Algorithm,
    AlgorithmText,
    ArgumentNames,
    Arguments,
    ArgumentsTypeText,
    Boolean,
    Dedupe,
    Duration,
    Encoding,
    EncodingText,
    HeaderName,
    KeepText,
    Line,
    Many,
    Match,
    Name,
    OnUnknownText,
    RateText,
    ReplaysText,
    SecretText,
    Signed,
    Text,
    Title,
    Until,
    Url,
)
from bridge.keeping import Keep
from bridge.retry import RetryPolicy
from bridge.route import Task
from bridge.theeye import TheEye
from bridge.units import duration_text


class Shape(BaseModel):
    """Strict: a key that is not there is a mistake."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        model_title_generator=lambda shape: shape.__name__.removesuffix("Shape"),
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """As the table is written: a key may be left out, but is never None, and durations are text."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, field in cls.model_fields.items():
            key = field.alias or name
            properties[key] = _as_written(properties[key], field.default)
        return schema


def _as_written(schema: JsonSchemaValue, default: Any) -> JsonSchemaValue:
    """What an editor is told of one key."""
    others = {key: value for key, value in schema.items() if key not in ("title", "default", "anyOf")}
    given = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    kinds = given[0] if len(given) == 1 else {"anyOf": given} if given else {}
    if isinstance(default, float):
        default = duration_text(default)
    return {**others, **kinds, **({"default": default} if isinstance(default, str | bool) else {})}


class RetryShape(Shape):
    """How a job is sent again."""

    retry_for: Duration = Field(default=RetryPolicy.retry_for, alias="for")
    """How long a job is tried again."""
    longest_wait: Duration = RetryPolicy.longest_wait
    """The longest wait between two attempts."""


class TheEyeShape(Shape):
    """TheEye, which runs the tasks."""

    url: Url | None = None
    """Its Job API; https, but for a loopback address. Default: https://api.theeye.io"""
    customer: Line
    """The organization's exact name at TheEye."""
    access_token: SecretText | None = None
    """For trying out: starts tasks without a secret_key of their own. It expires, and opens far more."""
    timeout: Duration = TheEye.timeout
    """Of one attempt as a whole."""
    retry: RetryShape = RetryShape()


class BasicAuthShape(Shape):
    """A user name and a password, of which the password is written ${{ env.NAME }}."""

    username: Text
    """Without a colon."""
    password: SecretText


class ProofShapes(Shape):
    """Any of these proofs is enough."""

    secret: Many[SecretText] | None = None
    """A signature over the body, as the sender makes it. In a list any may match, for rotation."""
    token: Many[SecretText] | None = None
    """A shared token in the type's header."""
    bearer_token: Many[SecretText] | None = None
    """Authorization: Bearer …"""
    basic_auth: Many[BasicAuthShape] | None = None
    """Authorization: Basic …"""
    url_token: Many[SecretText] | None = None
    """A shared token as ?token=… of the URL, for senders that can do nothing else."""
    topic_arns: Many[Line] | None = None
    """AWS's signature, for these topics alone."""


class SignatureShape(Shape):
    """How secret signs, where the sender leaves that open."""

    header: HeaderName | None = None
    """The header it stands in."""
    algorithm: AlgorithmText = Algorithm.SHA256
    """Of the HMAC."""
    encoding: EncodingText = Encoding.HEX
    """Of the signature in its header."""
    prefix: Text | None = None
    """What stands before the signature, such as sha256="""
    timestamp_header: HeaderName | None = None
    """The header in which the time stands that is signed, too."""
    signed: Signed | None = None
    """What is signed, such as {ts}.{body}"""


class SourceShape(ProofShapes):
    """A sender of webhooks. Its name is the last part of its URL."""

    type: Name | None = None
    """What kind of sender it is. Default: the source's own name."""
    any_of: ProofShapes | None = None
    """Proofs of which any is enough; without it all must hold."""
    allow_unsigned: Boolean = False
    """Take requests from anybody: whoever knows its URL can start its tasks."""
    dedupe: Dedupe = None
    """For how long a webhook without an id counts as come again; off turns it off."""
    header: HeaderName | None = None
    """The header of token."""
    event: Text | None = None
    """The path of the field that names the event, such as payload.kind"""
    action: Text | None = None
    """The path of the field that names the action."""
    delivery_id: Text | None = None
    """The path of the field that identifies the webhook, such as headers["X-Id"]"""
    signature: SignatureShape | None = None
    store_payload: KeepText = Keep.FULL
    """Of which events the body, the headers and the query are stored: all, those that made a job, none."""
    replays: ReplaysText = None
    """What becomes of a body that came before under another delivery id: note, or refuse (no job)."""
    redact: Many[Text] | None = None
    """Paths of fields that are not stored, such as payload.user.email"""


class TaskKeys(Shape):
    """What a task may set, under tasks or on its route."""

    secret_key: SecretText | None = None
    """The task's secret key at TheEye, written ${{ env.NAME }}."""
    arguments: ArgumentNames | None = None
    """The names of its arguments, in TheEye's order; null stands for one that is fixed there."""
    arguments_type: ArgumentsTypeText = Task.arguments_type
    """The task's own at TheEye."""
    on_unknown: OnUnknownText = Task.on_unknown
    """What becomes of a job whose answer was lost: retry (at most twice more) or hold (for a person)."""
    rate: RateText = None
    """At most so many attempts start in any such span, such as 30/m."""


class TaskShape(TaskKeys):
    """A task at TheEye, under a name of its own."""

    id: Text
    """24 hex digits, in the task's address at TheEye."""


class OrderShape(TaskKeys):
    """A task, with its arguments, for when a job died."""

    task: Text
    """A name under tasks, or a task's id at TheEye: 24 hex digits."""
    task_arguments: Arguments | None = None
    """In TheEye's order, or by name. Fields of the event are written ${{ payload.… }}."""


class ConcurrencyShape(Shape):
    """Jobs of the task with the same group are sent one after the other."""

    group: Text
    """Text with expressions, such as ${{ payload.repository.full_name }}"""
    latest: Boolean = False
    """A newer job replaces the ones that still wait."""
    until: Until = None
    """Till when a job holds its group."""


class RouteShape(OrderShape):
    """Which events run which task, with which fields as its arguments."""

    name: Title | None = None
    """Default: <source> <events> <task>. Two routes may not share one."""
    source: Text
    """A name under sources."""
    event: Many[Text] | None = None
    """The event, or event.action; any of a list; * and ? are globs. Left out: any."""
    match: Match | None = None
    """Field paths and what must stand there: text with * and ?, a list of which any, {not: …}, {regex: …}."""
    when: Text | None = None
    """An expression that must hold, too."""
    loop: Text | None = None
    """An expression that gives a list: one job for each item, as item."""
    allow_data_urls: Boolean = False
    """Allow arguments like data:<media type>;base64,<base64>, of which TheEye's agent makes files."""
    concurrency: ConcurrencyShape | None = None
    once_within: Duration | None = None
    """At most one job a key in this time."""
    once_key: Text | None = None
    """Text with expressions; without it all jobs of the route share one key."""
    otherwise: Boolean = False
    """Asked only where no other route of its source made a job."""


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
