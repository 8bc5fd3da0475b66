"""The addresses on which the server listens, in gunicorn's form."""

from __future__ import annotations

import socket


def every_interface(port: int) -> str:
    """Return the address of every interface: IPv6 and IPv4, or IPv4 alone if the system cannot do both."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
            # Some systems accept no IPv4 on such a socket, and gunicorn does not change this option.
            accepts_ipv4 = not trial.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        accepts_ipv4 = False
    return f"[::]:{port}" if accepts_ipv4 else f"0.0.0.0:{port}"
