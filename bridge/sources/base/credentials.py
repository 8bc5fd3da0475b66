"""Which headers and query parameters of a request hold a credential: an event must not have them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from bridge.core.secrets import Mask

#: Parts of the names of credentials, in lower case and with ``-`` between words. Senders use few of them;
#: gateways and proxies add X-Forwarded-Authorization, X-Api-Key, X-Amz-Security-Token and many others.
#: ``key`` alone is no such part: Idempotency-Key and X-Event-Key say which webhook it is.
_PARTS = re.compile(
    r"authori[sz]ation|token|secret|passw|credential|cookie|jwt|oidc-data|signature"
    r"|\b(access|account|api|auth|functions|private|shared|subscription)-?key\b|\bsession-?id\b|\bx-auth$"
)

#: Headers in which proxies and browsers repeat a URL, with the token in its query.
_URLS = frozenset({
    "referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url",
    "x-request-uri", "x-rewrite-url", "x-waws-unencoded-url",
})  # fmt: skip


def without_credentials(
    values: Mapping[str, str], read: Collection[str], mask: Mask | None
) -> dict[str, str]:
    """The headers or query parameters without those that hold a credential, by name or by value.

    What the table reads, the names in lower case, stays whatever its name. What holds a secret that `mask`
    knows is left out in any case.
    """
    left = {name: value for name, value in values.items() if name.lower() in read or not _is_credential(name)}
    # One search for all: nearly every request has none.
    if mask is None or not mask.contains_secret("\n".join((*left, *left.values()))):
        return left
    return {name: value for name, value in left.items() if not mask.contains_secret(f"{name}\n{value}")}


def _is_credential(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name in _URLS or _PARTS.search(name) is not None
