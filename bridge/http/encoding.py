"""Content codings of answers: some proxies compress what nobody asked them to."""

from __future__ import annotations

import zlib

#: zlib's `wbits` by the names of RFC 9110 8.4.1. Some servers send "deflate" without its zlib header.
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


def decode(body: bytes, coding: str, largest: int) -> bytes | None:
    """Decode a body; no more of it than `largest` bytes and one, so that a small one cannot fill the memory.

    None where the coding is neither gzip nor deflate, or the body is not whole.
    """
    for window in _WINDOWS.get(coding.strip().lower(), ()):
        decoder = zlib.decompressobj(window)
        try:
            decoded = decoder.decompress(body, largest + 1)
        except zlib.error:
            continue
        if decoder.eof or len(decoded) > largest:
            return decoded
    return None
