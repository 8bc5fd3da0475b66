"""The tokens of the API, as BRIDGE_API_TOKENS has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.core.secrets import Secret

RIGHTS = ("read", "write")
#: A token has the characters of a bearer token: RFC 6750, section 2.1.
_NAME, _TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class ApiToken:
    """A token of the API; the audit records its name."""

    name: str
    right: str
    secret: Secret


def parse_api_tokens(text: str) -> tuple[ApiToken, ...]:
    """Return the tokens of ``name:right:token``, separated by commas or line breaks. Raises ValueError."""
    tokens: list[ApiToken] = []
    for number, entry in enumerate(filter(None, map(str.strip, re.split(r"[,\r\n]", text))), 1):
        name, right, token = entry.split(":") if entry.count(":") == 2 else ("", "", "")
        mistakes = {
            "expected name:right:token, such as grafana:read:…": not (name or right or token),
            "a name is 1 to 100 letters, digits, dots, hyphens or underscores": not _NAME.fullmatch(name),
            "the right, its second part, must be read or write": right not in RIGHTS,
            "the token has fewer than 16 characters; create one with openssl rand -hex 32": len(token) < 16,
            "the token may have only letters, digits and -._~+/, then =": not _TOKEN.fullmatch(token),
            "an earlier entry has the same name": any(name == each.name for each in tokens),
            "an earlier entry has the same token": any(token == each.secret.reveal() for each in tokens),
        }
        for mistake, is_made in mistakes.items():
            if is_made:
                # Only its number: any part of it may be a token in the wrong place.
                raise ValueError(f"entry {number}: {mistake}")
        tokens.append(ApiToken(name, right, Secret(token)))
    return tuple(tokens)
