"""A task's arguments: as TheEye gets them, and which of them its agent cannot hand to the script; pure.

The rules are those of TheEye's public page "Via API", of its supervisor 4.15.3 and its agent 2.1.1 for Linux.
"""

from __future__ import annotations

import re
from enum import StrEnum

import orjson

from bridge.core.event import JSON

#: The longest shell text of all arguments of a job, in bytes. Linux starts no command of 131,072 or more,
#: and the script's own path counts, too.
MAX_SHELL_TEXT_BYTES = 120_000

#: Beyond it TheEye's JavaScript rounds a whole number to another one.
MAX_EXACT_INTEGER = 2**53

#: The agent's test for a data URL. Python's blanks are JavaScript's and a few more, but for U+FEFF, and for
#: U+180E, a blank to old versions.
_DATA_URL = re.compile(r"[\s\ufeff\u180e]*data:[^,]*,", re.IGNORECASE)
#: Of these, one that the agent makes a file of. It looks for ``data:`` and ``;base64,`` in small letters.
_FILE = re.compile(r"data:[A-Za-z]+/[A-Za-z0-9.+-]+;base64,[A-Za-z0-9+/]*={0,2}")

#: A number with an exponent in JSON text; texts are matched to skip them.
_EXPONENT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|([0-9]e[-+][0-9])')
#: How many bytes longer JavaScript writes such a number at most: 1e+20 has 21 digits there.
_EXPONENT_GROWS = 16
#: How many bytes longer the shell text is for each quote: ' becomes '"'"' there.
_QUOTE_GROWS = 4


class ArgumentsType(StrEnum):
    """How TheEye turns a task's arguments into text for its script."""

    LEGACY = "legacy"
    JSON = "json"
    TEXT = "text"


def wire_arguments(arguments: tuple[JSON, ...], arguments_type: ArgumentsType) -> list[JSON]:
    """The array on the wire that is right on every kind of task.

    One element an order, its index the order. An object with order and value is the documented
    form; where TheEye would hand that object itself to the script (an empty text, null, 0, false),
    the bare value stands.
    """
    return [
        _wire_argument(order, _wire_value(value, arguments_type)) for order, value in enumerate(arguments)
    ]


def _wire_argument(order: int, value: JSON) -> JSON:
    if value is None or value is False or value == "" or (isinstance(value, int | float) and value == 0):
        return value
    return {"order": order, "value": value}


def _wire_value(value: JSON, arguments_type: ArgumentsType) -> JSON:
    """The value as TheEye gets it.

    A text task gets everything but null as text. A legacy task makes text of numbers itself, so that one
    which it would round is sent as text.
    """
    if arguments_type is ArgumentsType.TEXT and value is not None and not isinstance(value, str):
        return orjson.dumps(value).decode()
    if arguments_type is ArgumentsType.LEGACY and isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER:
        return str(value)
    return value


def arguments_problem(
    arguments: tuple[JSON, ...],
    names: tuple[str | None, ...],
    arguments_type: ArgumentsType,
    *,
    allow_data_urls: bool,
) -> str | None:
    """Why TheEye's agent cannot run a script with these arguments as they are; None if it can.

    `names` are the arguments' names as far as the task has them. An argument is refused if it holds a NUL
    character, if it is a data URL that is not allowed, or if the shell text is too long, alone or together.
    """
    together = max(0, len(arguments) - 1)  # the blanks between
    for order, value in enumerate(arguments):
        size, problem = _size_and_problem(value, arguments_type, allow_data_urls)
        if problem is not None:
            name = names[order] if order < len(names) else None
            return f"{name or f'argument {order}'}: {problem}"
        together += size
    return None if together <= MAX_SHELL_TEXT_BYTES else f"the arguments together: {_too_long(together)}"


def argument_problem(value: JSON, arguments_type: ArgumentsType, *, allow_data_urls: bool) -> str | None:
    """The same of one argument alone, without its name."""
    return _size_and_problem(value, arguments_type, allow_data_urls)[1]


def _size_and_problem(
    value: JSON, arguments_type: ArgumentsType, allow_data_urls: bool
) -> tuple[int, str | None]:
    """How many bytes of shell text a value becomes, and what is wrong with it."""
    text = _script_text(_wire_value(value, arguments_type), arguments_type)
    size = len(text.encode()) + _QUOTE_GROWS * text.count("'") + len("''")
    is_rewritten = not isinstance(value, str) and arguments_type is not ArgumentsType.TEXT
    # The two looks before it are cheap: many jobs of one event may have such an argument.
    if is_rewritten and size <= MAX_SHELL_TEXT_BYTES and ("e+" in text or "e-" in text):
        size += _EXPONENT_GROWS * sum(map(bool, _EXPONENT.findall(text)))
    if size > MAX_SHELL_TEXT_BYTES:
        return size, _too_long(size)
    if "\x00" in text:
        return size, "it holds a NUL character, with which TheEye's agent starts no script; remove it"
    if _DATA_URL.match(text):
        return size, _data_url_problem(_FILE.fullmatch(text) is not None, allow_data_urls)
    return size, None


def _script_text(sent: JSON, arguments_type: ArgumentsType) -> str:
    """What the agent hands to the script, by a task's own rules."""
    if arguments_type is not ArgumentsType.JSON:
        if isinstance(sent, str):
            return sent
        if sent is None and arguments_type is ArgumentsType.LEGACY:
            return ""
    return orjson.dumps(sent).decode()


def _too_long(size: int) -> str:
    return (
        f"{size:,} bytes of shell text, at most {MAX_SHELL_TEXT_BYTES:,} are allowed, since TheEye's agent "
        "starts no script with more; send less, such as an id by which the script asks for the rest"
    )


def _data_url_problem(is_file: bool, allow_data_urls: bool) -> str | None:
    begins = "it begins like a data URL (data:…,), "
    if is_file:
        wanted = "if you want that, set allow_data_urls: true on the route, else put text before it"
        return None if allow_data_urls else f"{begins}and TheEye's agent makes a file of it; {wanted}"
    only = ", or send data:<media type>;base64,<base64>" if allow_data_urls else ""
    drops = "and TheEye's agent drops such an argument and moves the next ones up"
    return f"{begins}{drops}; put text before it{only}"
