"""The client's address, behind any number of trusted proxies."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from socket import AF_INET, inet_pton


def client_address(peer: str, forwarded_for: str, proxies: int) -> str:
    """Return the IP address that the outermost trusted proxy saw, or an empty text.

    `peer` is the address of the connection (empty for a Unix socket), `forwarded_for` the X-Forwarded-For
    header, and `proxies` the number of trusted proxies. Each proxy appends the address of its peer, so the
    client's is at position `proxies` from the right; a client can forge all to the left of it. If there is
    no address at that position, the result is the peer's, which cannot be forged.
    """
    if proxies:
        places = forwarded_for.rsplit(",", proxies)
        # An empty place counts: to skip it would move the position into the client's part.
        claimed = places[-proxies] if len(places) >= proxies else ""
        if address := _address(claimed.strip()):
            return address
    return _address(peer)


def _address(text: str) -> str:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`, or empty."""
    with suppress(OSError, ValueError):  # most are this, and the C library parses it in a tenth of the time
        inet_pton(AF_INET, text)
        return text
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
