"""By default the server listens on IPv6 and IPv4, or on IPv4 alone where the system cannot do both."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from bridge.server.listen_address import every_interface


class Trial:
    """A socket of a system that has IPv6."""

    only_ipv6 = 0

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, address: tuple[str, int]) -> None:
        assert address == ("::", 0)

    def getsockopt(self, *_: int) -> int:
        return self.only_ipv6


class OnlyIPv6(Trial):
    """As with ``net.ipv6.bindv6only``."""

    only_ipv6 = 1


class NoAddress(Trial):
    """As with ``net.ipv6.conf.all.disable_ipv6``."""

    def bind(self, address: tuple[str, int]) -> None:
        raise OSError("Cannot assign requested address")


class NoIPv6(Trial):
    """As with ``ipv6.disable=1`` at boot."""

    def __init__(self, *_: Any) -> None:
        raise OSError("Address family not supported by protocol")


@pytest.mark.parametrize(
    ("kind", "address"),
    [(Trial, "[::]:9"), (OnlyIPv6, "0.0.0.0:9"), (NoAddress, "0.0.0.0:9"), (NoIPv6, "0.0.0.0:9")],
)
def test_it_is_ipv6_only_if_that_accepts_ipv4_too(
    monkeypatch: pytest.MonkeyPatch, kind: type[Trial], address: str
) -> None:
    monkeypatch.setattr(socket, "socket", kind)
    assert every_interface(9) == address
