"""Who gives way among those that wait, and which addresses are one network."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bridge.core.client_network import network_of
from bridge.process.waiting_list import WaitingList


@dataclass(eq=False)
class Waiting:
    network: str
    since: float


class TestWaitingList:
    def test_the_oldest_of_the_network_with_the_most_gives_way(self) -> None:
        waiting: WaitingList[Waiting] = WaitingList()
        assert waiting.victim() is None
        first, *others = [Waiting("a", 1), Waiting("b", 4), Waiting("b", 2), Waiting("b", 3)]
        for member in [first, *others]:
            waiting.add(member)
        assert waiting.victim() is others[1]
        waiting.discard(others[1])
        waiting.discard(others[1])
        waiting.discard(others[2])
        assert set(waiting) == {first, others[0]}
        assert len(waiting) == 2
        assert first in waiting
        assert others[1] not in waiting

    def test_a_network_without_members_is_forgotten(self) -> None:
        waiting: WaitingList[Waiting] = WaitingList()
        for number in range(100):
            member = Waiting(f"{number}", 0)
            waiting.add(member)
            waiting.discard(member)
        assert not waiting._by_network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("a:socket", "a:socket"),
        ("", ""),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network
