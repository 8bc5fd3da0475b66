"""The client's address, behind so many trusted proxies: never what the client could write itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.web.client_address import client_address

PEER = "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded_for", "proxies", "expected"),
    [
        # None is trusted: the header is the client's.
        ("", 0, PEER),
        ("198.51.100.7", 0, PEER),
        ("198.51.100.7, 203.0.113.9", 0, PEER),
        # One adds the address of its peer on the right.
        ("203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.7,198.51.100.8,203.0.113.9", 1, "203.0.113.9"),
        (" 203.0.113.9\t", 1, "203.0.113.9"),
        # Two: the second adds the first's address.
        ("203.0.113.9, 10.0.0.1", 2, "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9, 10.0.0.1", 2, "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9, 10.0.0.1", 3, "198.51.100.7"),
        # A request that passed fewer proxies than there are.
        ("", 1, PEER),
        ("198.51.100.7", 2, PEER),
        ("", 16, PEER),
        # Empty places count.
        ("198.51.100.7, , 10.0.0.1", 2, PEER),
        ("198.51.100.7,,", 1, PEER),
        (",203.0.113.9", 1, "203.0.113.9"),
        # What proxies write beside an address.
        ("203.0.113.9:54321", 1, "203.0.113.9"),
        ("2001:db8::9", 1, "2001:db8::9"),
        ("[2001:db8::9]", 1, "2001:db8::9"),
        ("[2001:db8::9]:54321", 1, "2001:db8::9"),
        ("2001:0DB8:0:0:0:0:0:9", 1, "2001:db8::9"),
        ("::ffff:203.0.113.9", 1, "203.0.113.9"),
        ("[::ffff:203.0.113.9]:1", 1, "203.0.113.9"),
        ("fe80::9%eth0", 1, "fe80::9"),
        # What is no address.
        ("unknown", 1, PEER),
        ("_hidden", 1, PEER),
        ("203.0.113", 1, PEER),
        ("203.0.113.9.1", 1, PEER),
        ("0203.0.113.9", 1, PEER),
        ("3405803785", 1, PEER),
        ("[2001:db8::9", 1, "2001:db8::9"),
        ("[]:1", 1, PEER),
        ("203.0.113.9:1:2", 1, PEER),
        ('for="203.0.113.9"', 1, PEER),
        ("203.0.113.9; DROP TABLE", 1, PEER),
        ("203.0.113.9\x1b[2J", 1, PEER),
        ("\xff", 1, PEER),
        ("x" * 8000, 1, PEER),
        (":" * 8000, 1, PEER),
    ],
)
def test_an_address_behind_proxies(forwarded_for: str, proxies: int, expected: str) -> None:
    assert client_address(PEER, forwarded_for, proxies) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
    ],
)
def test_a_peers_address(peer: str, expected: str) -> None:
    """That of a Unix socket is empty."""
    assert client_address(peer, "", 0) == client_address(peer, "unknown", 1) == expected


def test_behind_a_unix_socket_the_header_is_read() -> None:
    assert client_address("", "198.51.100.7, 203.0.113.9", 1) == "203.0.113.9"


@given(forged=st.text(), proxies=st.integers(1, 4))
def test_nothing_that_a_client_writes_moves_the_place(forged: str, proxies: int) -> None:
    added = ["203.0.113.9", *(f"10.0.0.{number}" for number in range(1, proxies))]
    assert client_address(PEER, ",".join([forged, *added]), proxies) == "203.0.113.9"
