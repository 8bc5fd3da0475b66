"""Removal of headers and query parameters with credentials, which an event must not contain."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from bridge.core.secrets import Mask

#: Parts of credential names, in lower case and with ``-`` between words. Gateways and proxies add many such
#: headers, such as X-Api-Key. ``key`` alone is not a part: Idempotency-Key identifies a webhook.
_PARTS = re.compile(
    r"authori[sz]ation|token|secret|passw|credential|cookie|jwt|oidc-data|signature"
    r"|\b(access|account|api|auth|functions|private|shared|subscription)-?key\b|\bsession-?id\b|\bx-auth$"
)
#: Headers in which proxies and browsers repeat the URL with its token.
_URLS = frozenset({
    "referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url",
    "x-request-uri", "x-rewrite-url", "x-waws-unencoded-url",
})  # fmt: skip

#: Each such name contains one of these. Most requests have none, and need no regular expression.
_WORDS = (
    "authori", "token", "secret", "passw", "credential", "cookie", "jwt", "oidc-data", "signature", "key",
    "session", "x-auth", *_URLS,
)  # fmt: skip


def without_credentials(
    values: Mapping[str, str], read: Collection[str], mask: Mask | None
) -> dict[str, str]:
    """Return the headers or query parameters without those whose name or value is a credential.

    Names that the table reads (`read`, in lower case) stay unless they contain a secret of `mask`.
    """
    left = dict(values)
    names = "\n".join(values).lower().replace("_", "-")
    if any(map(names.__contains__, _WORDS)):
        left = {name: left[name] for name in left if name.lower() in read or not _is_credential(name)}
    # Search all of them at once first: nearly every request has none.
    if mask is None or not mask.contains_secret("\n".join((*left, *left.values()))):
        return left
    return {name: value for name, value in left.items() if not mask.contains_secret(f"{name}\n{value}")}


def _is_credential(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name in _URLS or _PARTS.search(name) is not None
