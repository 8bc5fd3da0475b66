"""A task's arguments: the form in which TheEye gets them, and problems that its agent has with them; pure.

The rules are those of TheEye's public page "Via API", of its supervisor 4.15.3 and its agent 2.1.1 for Linux.
"""

from __future__ import annotations

import re
from enum import StrEnum

from bridge.core.event import JSON
from bridge.core.exact_json import LongNumber, dumps

#: The longest shell text of a job's arguments together. Linux starts no command of 131,072 bytes or more, and
#: the script's path counts, too.
MAX_SHELL_TEXT_BYTES = 120_000

#: TheEye's JavaScript rounds larger whole numbers.
MAX_EXACT_INTEGER = 2**53

#: The agent's test for a data URL. Python's blanks are JavaScript's and a few more, but for U+FEFF, and for
#: U+180E, a blank to old versions.
_DATA_URL = re.compile(r"[\s\ufeff\u180e]*data:[^,]*,", re.IGNORECASE)
#: The data URLs that the agent turns into a file. It looks for ``data:`` and ``;base64,`` in small letters.
_FILE = re.compile(r"data:[A-Za-z]+/[A-Za-z0-9.+-]+;base64,[A-Za-z0-9+/]*={0,2}")

#: A number with an exponent in JSON text; texts are matched to skip them.
_EXPONENT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|([0-9]e[-+][0-9])')
#: How many bytes JavaScript adds to such a number at most: it writes 1e+20 as 21 digits.
_EXPONENT_GROWS = 16
#: How many bytes the shell's escape adds to a quote: ' becomes '"'"'.
_QUOTE_GROWS = 4


class ArgumentsType(StrEnum):
    """How TheEye turns a task's arguments into text for its script."""

    LEGACY = "legacy"
    JSON = "json"
    TEXT = "text"


def wire_arguments(arguments: tuple[JSON, ...], arguments_type: ArgumentsType) -> list[JSON]:
    """Return the array that TheEye reads correctly on every kind of task: one element for each order.

    The documented element is an object with order and value. TheEye would hand the object itself to the
    script if the value is an empty text, null, 0 or false: these are sent bare.
    """
    return [
        {"order": order, "value": value} if value or isinstance(value, list | dict) else value
        for order, value in enumerate(_wire_value(each, arguments_type) for each in arguments)
    ]


def _wire_value(value: JSON, arguments_type: ArgumentsType) -> JSON:
    """Return the value as text where TheEye would change it.

    A text task needs text for everything but null. A legacy task rounds large numbers.
    """
    if arguments_type is ArgumentsType.TEXT and value is not None and not isinstance(value, str):
        return dumps(value).decode()
    if arguments_type is not ArgumentsType.LEGACY:
        return value
    is_long = isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER
    return str(value) if is_long or isinstance(value, LongNumber) else value


def arguments_problem(
    arguments: tuple[JSON, ...],
    names: tuple[str | None, ...],
    arguments_type: ArgumentsType,
    *,
    allow_data_urls: bool,
) -> str | None:
    """Return why TheEye's agent cannot run a script with these arguments, or None.

    `names` are the arguments' names as far as the task has them.
    """
    total = max(0, len(arguments) - 1)  # the blanks between
    for order, value in enumerate(arguments):
        size, problem = _size_and_problem(value, arguments_type, allow_data_urls)
        if problem is not None:
            name = names[order] if order < len(names) else None
            return f"{name or f'argument {order + 1}'}: {problem}"
        total += size
    return None if total <= MAX_SHELL_TEXT_BYTES else f"the arguments together: {_too_long(total)}"


def argument_problem(value: JSON, arguments_type: ArgumentsType, *, allow_data_urls: bool) -> str | None:
    """Return why TheEye's agent cannot run a script with this argument, or None."""
    return _size_and_problem(value, arguments_type, allow_data_urls)[1]


def _size_and_problem(
    value: JSON, arguments_type: ArgumentsType, allow_data_urls: bool
) -> tuple[int, str | None]:
    """Return the bytes of shell text that a value becomes, and its problem."""
    text = _script_text(_wire_value(value, arguments_type), arguments_type)
    size = len(text.encode()) + _QUOTE_GROWS * text.count("'") + len("''")
    is_rewritten = not isinstance(value, str) and arguments_type is not ArgumentsType.TEXT
    # The cheap tests first: many jobs of one event may have such an argument.
    if is_rewritten and size <= MAX_SHELL_TEXT_BYTES and ("e+" in text or "e-" in text):
        size += _EXPONENT_GROWS * sum(map(bool, _EXPONENT.findall(text)))
    if size > MAX_SHELL_TEXT_BYTES:
        return size, _too_long(size)
    if "\x00" in text:
        return size, "it contains a NUL character: TheEye's agent cannot start a script with it; remove it"
    if _DATA_URL.match(text):
        return size, _data_url_problem(_FILE.fullmatch(text) is not None, allow_data_urls)
    return size, None


def _script_text(wire_value: JSON, arguments_type: ArgumentsType) -> str:
    """Return the text that the agent hands to the script."""
    if arguments_type is not ArgumentsType.JSON:
        if isinstance(wire_value, str):
            return wire_value
        if wire_value is None and arguments_type is ArgumentsType.LEGACY:
            return ""
    return dumps(wire_value).decode()


def _too_long(size: int) -> str:
    return (
        f"{size:,} bytes of shell text, but at most {MAX_SHELL_TEXT_BYTES:,} are allowed: TheEye's agent "
        "cannot start a script with more; send an id, and let the script fetch the rest"
    )


def _data_url_problem(is_file: bool, allow_data_urls: bool) -> str | None:
    begins = "it begins like a data URL (data:…,), "
    if is_file:
        wanted = "if you want a file, set allow_data_urls: true on the route; otherwise put text before it"
        return None if allow_data_urls else f"{begins}and TheEye's agent turns it into a file; {wanted}"
    only = ", or send data:<media type>;base64,<base64>" if allow_data_urls else ""
    drops = "and TheEye's agent drops such an argument and moves the following arguments up by one"
    return f"{begins}{drops}; put text before it{only}"
