"""TheEye's agent on Linux: the arguments that it gives to a script, and when it cannot start one.

It follows the observed agent and no code of the bridge, so that it tests the rules of the bridge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal

from bridge.core.event import JSON

#: The characters that JavaScript's ``\s`` matches.
_BLANKS = "\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_DATA_URL = re.compile(f"[{_BLANKS}]*data:[^,]*,", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"data:.+/.+")
#: A text that needs no quotes in a shell.
_PLAIN = re.compile(r"[A-Za-z0-9_/-]+")

#: The size in bytes from which Linux starts no command.
TOO_LONG = 131_072
#: The file of every script.
SCRIPT = "/opt/theeye-agent/scripts/5f3c9a7be4b0a1c2d3e4f5aa_script.sh"


def script_arguments(stored: Sequence[JSON]) -> tuple[str, ...]:
    """Return the texts that the script receives.

    Null becomes empty. A base64 data URL with a media type becomes a file's path; any other data URL is
    dropped, so that the following arguments move up.
    """
    given: list[str] = []
    for order, value in enumerate(stored):
        text = "" if value is None else value if isinstance(value, str) else as_json(value)
        if not _DATA_URL.match(text):
            given.append(text)
        elif _is_file(text):
            given.append(f"theeye-agent-files/argument-{order}")
    return tuple(given)


def _is_file(data_url: str) -> bool:
    header, base64, _ = data_url.partition(";base64,")
    return bool(base64 and _MEDIA_TYPE.match(header))


def failure(arguments: Sequence[str]) -> str | None:
    """Return why the script cannot start with these texts; None if it can."""
    command = " ".join([SCRIPT, *map(_escaped, arguments)])
    if "\x00" in command:
        return "the command must be a string without null bytes"
    return "spawn E2BIG" if len(command.encode()) >= TOO_LONG else None


def _escaped(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def as_json(value: JSON) -> str:
    """JSON text as JavaScript writes it: compact, every number a double."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{as_json(key)}:{as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_json(inner) for inner in value) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(float(value))
    return json.dumps(value, ensure_ascii=False)


def _number(double: float) -> str:
    if double == 0:
        return "0"
    if 1e-6 <= abs(double) < 1e21:
        return format(Decimal(repr(double)), "f").removesuffix(".0")
    return repr(double).replace("e-0", "e-")
