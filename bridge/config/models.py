"""The table as pydantic models. Editors and docs show the text below each key."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bridge.config.readers import (
    Algorithm,
    AlgorithmText,
    AnswerText,
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
    Period,
    RateText,
    ReplaysText,
    SecretText,
    Signed,
    Text,
    Title,
    Until,
    Url,
)
from bridge.core.redaction import Keep
from bridge.core.retry import RetryPolicy
from bridge.core.task import Task
from bridge.core.units import format_duration
from bridge.routing.match import OPERATOR_FORMS
from bridge.sources.base.source_type import AnswerForm
from bridge.theeye.request import TheEye


class Model(BaseModel):
    """A mapping in the table. An unknown key is a mistake."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        model_title_generator=lambda model: model.__name__.removesuffix("Model"),
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema as written: a key is optional but never null, and durations are text."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, field in cls.model_fields.items():
            key = field.alias or name
            properties[key] = _as_written(properties[key], field.default)
        return schema


def _as_written(schema: JsonSchemaValue, default: Any) -> JsonSchemaValue:
    """Return the schema of one key."""
    others = {key: value for key, value in schema.items() if key not in ("title", "default", "anyOf")}
    given = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    kinds = given[0] if len(given) == 1 else {"anyOf": given} if given else {}
    if isinstance(default, float):
        default = format_duration(default)
    return {**others, **kinds, **({"default": default} if isinstance(default, str | bool) else {})}


class RetryModel(Model):
    """When an attempt is retried."""

    retry_for: Duration = Field(default=RetryPolicy.retry_for, alias="for")
    """The time after a job's creation in which the bridge retries it."""
    longest_wait: Duration = RetryPolicy.longest_wait
    """The longest wait between two attempts."""


class TheEyeModel(Model):
    """TheEye, which runs the tasks."""

    url: Url | None = None
    """The URL of TheEye's API without a path. It must be https, except for a loopback address. Default: https://api.theeye.io"""
    customer: Line
    """Your organization's exact name at TheEye, or ${{ env.NAME }}."""
    access_token: SecretText | None = None
    """A token for tasks without a secret_key. For trials only: it expires, and permits more than a key."""
    timeout: Duration = TheEye.timeout
    """The longest time that one attempt may take."""
    retry: RetryModel = RetryModel()
    ca_file: Line | None = None
    """A PEM file, relative to this YAML file, with the CAs to trust instead of the public ones."""
    proxy: Line | None = None
    """The HTTP proxy for requests to TheEye: http://host:port, or ${{ env.NAME }} with a password."""
    allow_http: Boolean = False
    """Allow a url with http in a local network. Anyone in that network can then read the task keys."""


class BasicAuthModel(Model):
    """A user name and a password."""

    username: Text
    """The user name, without a colon."""
    password: SecretText
    """The password."""


class ProofsModel(Model):
    """Credentials, any of which is enough."""

    secret: Many[SecretText] | None = None
    """The secret with which the sender signs the body."""
    token: Many[SecretText] | None = None
    """A token that the sender sends in a header. The type, or the key header, names the header."""
    bearer_token: Many[SecretText] | None = None
    """A token that the sender sends in the header Authorization: Bearer."""
    basic_auth: Many[BasicAuthModel] | None = None
    """A user name and a password that the sender sends in the header Authorization: Basic."""
    url_token: Many[SecretText] | None = None
    """A token in the URL, as ?token=…. Use it only for senders that support no other credential."""
    topic_arns: Many[Line] | None = None
    """The ARNs of SNS topics. The bridge accepts messages of these topics only."""


class SignatureModel(Model):
    """The format of the signature, for senders that let you choose it."""

    header: HeaderName | None = None
    """The name of the header with the signature."""
    algorithm: AlgorithmText = Algorithm.SHA256
    """The hash of the HMAC."""
    encoding: EncodingText = Encoding.HEX
    """The encoding of the signature in its header."""
    prefix: Text | None = None
    """The text before the signature in the header, such as sha256="""
    timestamp_header: HeaderName | None = None
    """The name of the header with the time, if the sender signs it. It can be the signature's header."""
    timestamp_field: Text | None = None
    """The path of the field with the time, such as payload.sent_at, if the signed body has one."""
    signed: Signed | None = None
    """The text that the sender signs, such as {ts}.{body}"""


class SourceModel(ProofsModel):
    """A sender of webhooks. Its name is the last part of its URL."""

    type: Name | None = None
    """The type of sender. Default: the source's own name."""
    any_of: ProofsModel | None = None
    """Credentials of which a request must have at least one. Without any_of, it must have all of them."""
    allow_unsigned: Boolean = False
    """Accept requests without a credential. Anyone who knows the URL can then run the tasks."""
    dedupe: Dedupe = None
    """For webhooks without an id: the time in which an identical webhook is a duplicate; off for none."""
    header: HeaderName | None = None
    """The name of the header with the token."""
    event: Text | None = None
    """The path of the field with the event's name, such as payload.kind"""
    action: Text | None = None
    """The path of the field with the action's name."""
    delivery_id: Text | None = None
    """The path of the field that identifies the webhook, such as headers["X-Id"]"""
    signature: SignatureModel | None = None
    store_payload: KeepText = Keep.FULL
    """The events whose body, headers and query are stored: all, those that created a job, or none."""
    replays: ReplaysText = None
    """The reaction to an old body under a new delivery id: note it on the event, or refuse the request."""
    redact: Many[Text] | None = None
    """Paths of fields whose values are not stored, such as payload.user.email"""
    expect_every: Period | None = None
    """The longest expected time between two webhooks. After it, on_silence runs, once."""
    answer: AnswerText = AnswerForm.IDS
    """The content of the answer: ids, or verdict, which adds why there is no job and a link to the page."""


class TaskKeysModel(Model):
    """Keys of a task, under tasks or on a route."""

    secret_key: SecretText | None = None
    """The task's secret key at TheEye."""
    arguments: ArgumentNames | None = None
    """The names of the arguments, in TheEye's order; null for an argument that is fixed at TheEye."""
    arguments_type: ArgumentsTypeText = Task.arguments_type
    """The type that the task has at TheEye."""
    on_unknown: OnUnknownText = Task.on_unknown
    """After a lost answer: retry at most twice, or hold (the job is unknown until a person resolves it)."""
    rate: RateText = None
    """The maximum number of attempts that start in any second, minute, hour or day, such as 30/m."""


class TaskModel(TaskKeysModel):
    """A task at TheEye."""

    id: Text
    """24 hex digits, from the URL of the task's page at TheEye, or ${{ env.NAME }}."""


class TaskCallModel(TaskKeysModel):
    """A task that alerts people, with its arguments."""

    task: Text
    """A name under tasks, or a task's id: 24 hex digits, or ${{ env.NAME }}."""
    task_arguments: Arguments | None = None
    """The arguments, as a list in TheEye's order or a mapping by name, such as ${{ payload.after }}."""


class ConcurrencyModel(Model):
    """Send jobs of the task with the same group one after the other."""

    group: Text
    """The group's name, such as ${{ payload.repository.full_name }}"""
    latest: Boolean = False
    """A new job supersedes the waiting jobs of its group."""
    until: Until = None
    """The next job is sent after this job was accepted, or became dead, skipped or canceled."""


class RouteModel(TaskCallModel):
    """A rule: which events run which task, with which arguments."""

    name: Title | None = None
    """A unique name. Default: <source> <events> <task>"""
    source: Text
    """A name under sources."""
    event: Many[Text] | None = None
    """The event or event.action, with the wildcards * and ?, or a list of these. Default: any event."""
    match: Match | None = Field(
        default=None,
        description="Field paths and their expected values: text with * and ?, a list of alternatives, "
        f"{OPERATOR_FORMS}.",
    )
    when: Text | None = None
    """An expression that must be true."""
    loop: Text | None = None
    """An expression whose value is a list. The route creates a job for each item."""
    allow_data_urls: Boolean = False
    """Allow arguments such as data:<media type>;base64,<base64>, which TheEye's agent turns into files."""
    concurrency: ConcurrencyModel | None = None
    once_within: Duration | None = None
    """The time in which at most one job of the route with the same once_key runs."""
    once_key: Text | None = None
    """The value that once_within compares, such as ${{ payload.id }}. Default: one value for all jobs."""
    otherwise: Boolean = False
    """Evaluate this route only if no other route of its source created a job."""
    expect_every: Period | None = None
    """The longest expected time between two jobs of the route. After it, on_silence runs, once."""
    sensitive: Boolean = False
    """The page hides the arguments of the route's jobs until a person asks for them."""
