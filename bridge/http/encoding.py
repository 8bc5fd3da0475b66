"""Content codings of answers: some proxies compress without being asked."""

from __future__ import annotations

import zlib
from contextlib import suppress

#: zlib's `wbits` by the names of RFC 9110 8.4.1. Some servers send "deflate" without its zlib header.
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
#: The first byte of each member of a gzip body (RFC 1952 2.2).
_MEMBER = b"\x1f"
#: Bytes that are decoded at once: zlib copies the rest of them at the end of each member.
_PIECE = 4096


def decode(body: bytes, coding: str, largest: int) -> bytes | None:
    """Return at most `largest` + 1 bytes of the decoded body, so that a small body cannot fill the memory.

    None if the coding is neither gzip nor deflate, or if the body is incomplete.
    """
    for window in _WINDOWS.get(coding.strip().lower(), ()):
        with suppress(zlib.error):
            return _decompress(body, window, largest)
    return None


def _decompress(body: bytes, window: int, largest: int) -> bytes | None:
    decoded, decoder = bytearray(), zlib.decompressobj(window)
    for begin in range(0, len(body), _PIECE):
        rest = body[begin : begin + _PIECE]
        while rest and len(decoded) <= largest:
            if decoder.eof:
                if not rest.startswith(_MEMBER):  # padding, which gzip(1) ignores too
                    return bytes(decoded)
                decoder = zlib.decompressobj(window)
            decoded += decoder.decompress(rest, largest + 1 - len(decoded))
            rest = decoder.unused_data
    return bytes(decoded) if decoder.eof or len(decoded) > largest else None
