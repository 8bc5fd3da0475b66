"""A stored event as a command for a terminal: ``curl``, and the bridge's own ``send``.

Each part is masked before it is quoted: no mask finds a secret with a quote after that.
"""

from __future__ import annotations

import shlex

from bridge.core.event import Event
from bridge.core.secrets import Mask

#: A longer body is named as a file, in bytes.
MAX_INLINE = 4096
#: The file of a payload that is not part of the command.
FILE = "payload.json"


def curl_command(event: Event, url: str, mask: Mask) -> str:
    """Return the request as curl sends it. The store has no credentials: the sender's proof is missing."""
    lines = [f"curl {shlex.quote(f'{url}/hooks/{event.source}')}"]
    for name, value in event.headers.items():
        if name not in ("content-length", "host", "connection"):
            lines.append(f"-H {shlex.quote(mask(f'{name}: {value}'))}")
    lines.append(
        "--data-binary "
        + (shlex.quote(mask(event.body.decode("utf-8", "replace"))) if _is_short(event) else f"@{FILE}")
    )
    return " \\\n  ".join(lines)


def send_command(event: Event, url: str, event_id: int, mask: Mask) -> str:
    """Return the command that signs the payload as the sender does, and posts it."""
    show = f"theeye-bridge events show {event_id} --json | jq .payload > {FILE}"
    named = f" --event {shlex.quote(mask(event.full_name))}" if event.event else ""
    send = f"theeye-bridge send --source {shlex.quote(event.source)}{named} {FILE} --url {shlex.quote(url)}"
    return f"{show}\n{send}"


def _is_short(event: Event) -> bool:
    return len(event.body) <= MAX_INLINE
