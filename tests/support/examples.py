"""How many examples a property is tried on: some of them in ``make test``, all of them in ``make slow``."""

from __future__ import annotations

import os

#: Per cent.
_SHARE = 100 if os.environ.get("BRIDGE_TEST_EXAMPLES") == "all" else 20


def examples(number: int) -> int:
    """Return how many of this number of examples to try."""
    return max(5, number * _SHARE // 100)
