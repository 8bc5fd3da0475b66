"""Every exception of the bridge. ``str(error)`` is a message to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bridge.core.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence


#: The longest part of a request that a message repeats.
MAX_QUOTED_CHARACTERS = 100


class BridgeError(Exception):
    """The base class; never raised itself."""


class SettingsError(BridgeError):
    """An environment variable is missing or invalid."""


class ConfigError(BridgeError):
    """The routing table is invalid; `problems` lists all errors and warnings."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ExpressionError(BridgeError):
    """A path, a pattern or an expression is invalid.

    `offset` counts characters from the start of the text; `hint` says what to write instead.
    """

    def __init__(self, message: str, offset: int = 0, hint: str | None = None) -> None:
        self.message = message
        self.offset = offset
        self.hint = hint
        super().__init__(message if hint is None else f"{message}; {hint}")

    def shifted(self, by: int) -> ExpressionError:
        """Return the same error, `by` characters further on in a longer text."""
        return ExpressionError(self.message, self.offset + by, self.hint)


class EvaluationError(BridgeError):
    """An expression has no value for this event."""


class MissingField(EvaluationError):
    """A field is missing; the message has its full path and the fields that exist."""


class Incomparable(EvaluationError):
    """An order comparison with a missing value or null, or of different types."""


class OverBudget(BridgeError):
    """The routes would do more for one event than its budget allows: the evaluation of the route ends here.

    It is not an EvaluationError, which would make a condition false or an argument invalid.
    """


class Refusal(BridgeError):
    """A request that the bridge refuses, with an HTTP status.

    The sender gets `title`, which never says which secret was wrong or how far the request got. The message
    goes to the log alone.
    """

    status: ClassVar[int]
    title: ClassVar[str]


class Unreadable(Refusal):
    """The body is not what its headers say."""

    status = 400
    title = "The request cannot be read"


class NotAuthentic(Refusal):
    """The request does not prove that it comes from its source."""

    status = 401
    title = "The request is not authentic"


class UnknownSource(Refusal):
    """The routing table has no source of that name."""

    status = 404
    title = "There is no such source"


class WrongMethod(Refusal):
    """The method of the request is not POST."""

    status = 405
    title = "Method Not Allowed"


class RequestTimeout(Refusal):
    """The request was incomplete at its deadline."""

    status = 408
    title = "The request took too long to arrive"


class TooLarge(Refusal):
    """The body is larger than the limit."""

    status = 413
    title = "The request is too large"


class UnsupportedContent(Refusal):
    """The source does not support this content type or encoding."""

    status = 415
    title = "The content type or encoding is not supported"


class ServiceUnavailable(Refusal):
    """The request cannot be stored now: the sender must send it again."""

    status = 503
    title = "The request could not be stored; send it again"


class FetchFailed(ServiceUnavailable):
    """A URL that the sender wants confirmed, or a certificate of its signature, cannot be fetched now."""


class NotStored(ServiceUnavailable):
    """The store could not commit."""


class SourceBusy(ServiceUnavailable):
    """Too many webhooks of one source are evaluated at once, or wait for it."""


class BodyMemoryFull(ServiceUnavailable):
    """Too many large bodies arrive or are processed at once."""


class SendError(BridgeError):
    """A request to TheEye, or to a sender, that got no response."""


class NotSent(SendError):
    """No byte of the request was written: it is safe to send again."""


class AnswerLost(SendError):
    """The request was written, wholly or in part: TheEye may have accepted the job."""


class DemoFailed(BridgeError):
    """A step of the demo failed."""


class OutboxError(BridgeError):
    """The store cannot do what was requested."""


class StoreUnavailable(OutboxError):
    """The database cannot be reached, read or written."""


class NoStore(StoreUnavailable):
    """There is no database, and this command creates none."""


class EmptyStore(NoStore):
    """The database has no tables, and this command creates none."""


class NoSuchEvent(OutboxError):
    """No event has that id."""


class BodyGone(OutboxError):
    """The body of the event is not stored: it is too old, or its source stores none."""


class NoSuchJob(OutboxError):
    """No job has that id."""


class WrongState(OutboxError):
    """The job is in a state that does not allow the action."""


def quoted(text: str) -> str:
    """Quote a part of a request for a message, whole or not at all: no mask finds a part of a secret."""
    return repr(text) if len(text) <= MAX_QUOTED_CHARACTERS else f"a text of {len(text)} characters"
