"""Hosts of this machine and of private networks, by their text: names are not looked up; pure."""

from __future__ import annotations

from ipaddress import ip_address

#: The ends of names that no public DNS has: RFC 6762, ICANN's .internal, and many routers'.
_LOCAL_NAMES = (".local", ".internal", ".lan")


def is_loopback(host: str) -> bool:
    """Return whether a request to this host stays on the machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(host: str) -> bool:
    """Whether the host belongs to a private network."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_NAMES)
    return address.is_private or address.is_link_local
