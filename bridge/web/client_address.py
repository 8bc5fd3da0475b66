"""The client's address of a request, behind any number of trusted proxies."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def client_address(peer: str, forwarded_for: str, proxies: int) -> str:
    """Return the IP address that the outermost trusted proxy saw; empty where there is none.

    `peer` is the address at the other end of the connection (empty for a Unix socket), `forwarded_for` the
    request's X-Forwarded-For, several lines joined by commas, and `proxies` how many trusted proxies the
    request passed. Each of them adds the address of its own peer on the right, so the client's stands
    `proxies` places from the right; a client can write what it likes to the left of that. Where that place is
    missing or holds no address, the answer is the peer's: no client can forge that one.
    """
    if proxies:
        places = forwarded_for.rsplit(",", proxies)
        # An empty place counts: to skip it would move the count into what the client wrote.
        claimed = places[-proxies] if len(places) >= proxies else ""
        if address := _address(claimed.strip()):
            return address
    return _address(peer)


def _address(text: str) -> str:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`, or empty."""
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
