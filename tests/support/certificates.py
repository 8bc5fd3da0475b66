"""The authorities that a client of the tests trusts."""

from __future__ import annotations

from pathlib import Path

import certifi

_END = "-----END CERTIFICATE-----\n"


def one_authority(folder: Path) -> Path:
    """Write a bundle with one public authority: a client that reads all of them costs 20 ms."""
    bundle = folder / "one.pem"
    bundle.write_text(Path(certifi.where()).read_text("ascii").partition(_END)[0] + _END, "ascii")
    return bundle
