"""Waiting list: members that wait, by network, and which one to evict if there are too many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    """Something that waits on behalf of a client."""

    @property
    def network(self) -> str:
        """The client's network, as `network_of` returns it."""

    @property
    def since(self) -> float:
        """When it began to wait, by ``time.monotonic()``."""


M = TypeVar("M", bound=Member)


class WaitingList(Generic[M]):
    """Members by network. Not thread-safe."""

    def __init__(self) -> None:
        self._by_network: dict[str, set[M]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[M]:
        for members in self._by_network.values():
            yield from members

    def __contains__(self, member: M) -> bool:
        return member in self._by_network.get(member.network, ())

    def add(self, member: M) -> None:
        """Add a member, which must not be in the list."""
        self._by_network.setdefault(member.network, set()).add(member)
        self._length += 1

    def discard(self, member: M) -> None:
        """Remove a member, if it is in the list."""
        members = self._by_network.get(member.network, set())
        if member in members:
            members.remove(member)
            self._length -= 1
            if not members:
                del self._by_network[member.network]

    def of(self, network: str) -> Collection[M]:
        """Return the members of one network."""
        return self._by_network.get(network, set())

    def largest(self, weight: Callable[[Collection[M]], int] = len) -> Collection[M]:
        """Return the members of the network with the most members, or with the most `weight`."""
        return max(self._by_network.values(), key=weight, default=set())

    def victim(self) -> M | None:
        """Return the member to evict: the oldest of the network with the most members.

        So one network's members, however many, never evict those of another.
        """
        return min(self.largest(), key=attrgetter("since"), default=None)
