"""Removal of headers and query parameters with credentials, which an event must not contain."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import re2

from bridge.core.secrets import Mask

#: Parts of credential names, in lower case and with ``-`` between words. Gateways and proxies add many such
#: headers, such as X-Api-Key. ``key`` alone is not a part: Idempotency-Key identifies a webhook.
_PARTS = re2.compile(
    rb"(?m)authori[sz]ation|token|secret|passw|credential|cookie|jwt|oidc-data|signature"
    rb"|\b(access|account|api|auth|functions|private|shared|subscription)-?key\b|\bsession-?id\b|\bx-auth$"
)

#: Headers in which proxies and browsers repeat the URL with its token.
_URLS = frozenset({
    "referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url",
    "x-request-uri", "x-rewrite-url", "x-waws-unencoded-url",
})  # fmt: skip


def without_credentials(
    values: Mapping[str, str], read: Collection[str], mask: Mask | None
) -> dict[str, str]:
    """Return the headers or query parameters without those whose name or value is a credential.

    Names that the table reads (`read`, in lower case) stay unless they contain a secret of `mask`.
    """
    left = dict(values)
    # Search all of them at once first: nearly every request has none.
    if _is_credential(*left):
        left = {name: left[name] for name in left if name.lower() in read or not _is_credential(name)}
    if mask is None or not mask.contains_secret("\n".join((*left, *left.values()))):
        return left
    return {name: value for name, value in left.items() if not mask.contains_secret(f"{name}\n{value}")}


def _is_credential(*names: str) -> bool:
    """Return whether one of these names is that of a credential."""
    text = "\n".join(names).lower().replace("_", "-")
    if not _URLS.isdisjoint(text.split("\n")):
        return True
    return _PARTS.search(text.encode("utf-8", "replace")) is not None
