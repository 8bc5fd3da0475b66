"""The network of a client's address, which a client cannot choose freely; pure."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, and the /64 of an IPv6 address (RFC 6177), in any spelling.

    An IPv4-mapped IPv6 address counts as IPv4. Any other text is returned as it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or ip_network((int(parsed), 64), strict=False))
