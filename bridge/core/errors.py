"""Every exception of the bridge. ``str(error)`` is a message to a person.

::

    BridgeError
    ├── SettingsError            an environment variable is wrong
    ├── ConfigError              the routing table has mistakes (all of them at once)
    ├── ExpressionError          a path, a pattern or an expression is written wrongly
    ├── EvaluationError          an expression gives no value for this event
    │   ├── MissingField         a field that is not there
    │   └── Incomparable         an order comparison of unlike things
    ├── OverBudget               the routes would do more for one event than its budget allows
    ├── Refusal                  a request that is not taken on, with its HTTP status
    │   ├── Unreadable           400
    │   ├── NotAuthentic         401
    │   ├── UnknownSource        404
    │   ├── RequestTimeout              408
    │   ├── TooLarge             413
    │   ├── UnsupportedContent   415
    │   └── ServiceUnavailable          503: the sender must send again
    │       ├── FetchFailed     what the sender wants fetched cannot be, or a certificate of it
    │       ├── NotStored        the store could not commit
    │       ├── SourceBusy             too many webhooks of one source are evaluated at once
    │       └── BodyMemoryFull           too many large bodies at once
    ├── SendError                a POST to TheEye that got no answer
    │   ├── NotSent              no byte of the request was written
    │   └── AnswerLost           the request was written, wholly or in part
    ├── DemoFailed               a step of the demo did not do what it should
    │   └── ServerFailed         the demo's bridge did not start
    └── OutboxError              the store cannot do what was asked
        ├── StoreUnavailable     the database cannot be reached, read or written
        ├── NoSuchEvent
        ├── BodyGone             the event is there, but its body is not kept
        ├── NoSuchJob
        └── WrongState           the job is in a state that does not allow it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bridge.core.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence


#: The longest part of a request that a message repeats, in characters.
MAX_QUOTED = 100


class BridgeError(Exception):
    """The base of all; never raised itself."""


class SettingsError(BridgeError):
    """An environment variable is missing or has a value that cannot be used."""


class ConfigError(BridgeError):
    """The routing table has mistakes; `problems` holds every one, warnings too."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ExpressionError(BridgeError):
    """A path, a pattern or an expression is written wrongly.

    `offset` counts characters from the start of the text that was given; `hint`
    says what to write instead.
    """

    def __init__(self, message: str, offset: int = 0, hint: str | None = None) -> None:
        self.message = message
        self.offset = offset
        self.hint = hint
        super().__init__(message if hint is None else f"{message}; {hint}")

    def shifted(self, by: int) -> ExpressionError:
        """The same mistake, `by` characters further on in a longer text."""
        return ExpressionError(self.message, self.offset + by, self.hint)


class EvaluationError(BridgeError):
    """An expression gives no value for this event."""


class MissingField(EvaluationError):
    """A field that is not there, with its full path and what there was instead."""


class Incomparable(EvaluationError):
    """An order comparison with what is missing or null, or of unlike types."""


class OverBudget(BridgeError):
    """The routes would do more for one event than its budget allows: the route that is evaluated ends here.

    It is no EvaluationError: a condition is not false for it, and an argument's error is another matter.
    """


class Refusal(BridgeError):
    """A request that is not taken on.

    `title` goes to the sender and never says which secret or how far it got;
    the message (`str`) goes to the log alone.
    """

    status: ClassVar[int]
    title: ClassVar[str]


class Unreadable(Refusal):
    """The body is not what its sender says it is."""

    status = 400
    title = "The request cannot be read"


class NotAuthentic(Refusal):
    """No proof, or a wrong one, that the request comes from its source."""

    status = 401
    title = "The request is not authentic"


class UnknownSource(Refusal):
    """No source of that name in the routing table."""

    status = 404
    title = "There is no such source"


class RequestTimeout(Refusal):
    """The request did not come whole within its time."""

    status = 408
    title = "The request took too long to arrive"


class TooLarge(Refusal):
    """The body is larger than the limit."""

    status = 413
    title = "The request is too large"


class UnsupportedContent(Refusal):
    """A content type or an encoding that this source does not take."""

    status = 415
    title = "The content type or encoding is not supported"


class ServiceUnavailable(Refusal):
    """The request cannot be taken on now: the sender must send again."""

    status = 503
    title = "The request could not be stored; send it again"


class FetchFailed(ServiceUnavailable):
    """What the sender wants fetched, or what its signature needs, cannot be fetched now."""


class NotStored(ServiceUnavailable):
    """The store could not commit."""


class SourceBusy(ServiceUnavailable):
    """Too many webhooks of one source are evaluated at once, or wait for that."""


class BodyMemoryFull(ServiceUnavailable):
    """Too many large bodies at once."""


class SendError(BridgeError):
    """A POST to TheEye that got no answer."""


class NotSent(SendError):
    """No byte of the request was written: it is safe to send again."""


class AnswerLost(SendError):
    """The request was written, wholly or in part: TheEye may have taken the job."""


class DemoFailed(BridgeError):
    """A step of the demo did not do what it should."""


class ServerFailed(DemoFailed):
    """The demo's bridge did not start."""


class OutboxError(BridgeError):
    """The store cannot do what was asked."""


class StoreUnavailable(OutboxError):
    """The database cannot be reached, read or written."""


class NoSuchEvent(OutboxError):
    """No event of that id."""


class BodyGone(OutboxError):
    """The body of the event is not kept: it is old, or its source keeps none."""


class NoSuchJob(OutboxError):
    """No job of that id."""


class WrongState(OutboxError):
    """The job is in a state that does not allow what was asked."""


def quoted(text: str) -> str:
    """Quote what a request said, for a message: whole or not at all, as no mask finds a part of a secret."""
    return repr(text) if len(text) <= MAX_QUOTED else f"a text of {len(text)} characters"
