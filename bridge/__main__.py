"""``python -m bridge``, or ``python path/of/bridge`` anywhere, is the program ``theeye-bridge``."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]


def _refuse(reason: str) -> None:
    """Exit with one line that names this Python and the one to use."""
    there = _CHECKOUT / ".venv" / "bin" / "python"
    use = f"{there} -m bridge" if there.exists() else f"make lint in {_CHECKOUT}, and then {there} -m bridge"
    sys.exit(f"{sys.executable} cannot run the bridge: {reason}; use {use}")


if __name__ == "__main__":
    if not __package__:
        # Python put the package's own folder there, whose http would hide the library's.
        sys.path[0] = str(_CHECKOUT)
    if sys.version_info < (3, 11):  # noqa: UP036 - older releases can read this file
        _refuse("it is Python {}.{}, and 3.11 or newer is needed".format(*sys.version_info))
    try:
        from bridge.cli import main

        main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "bridge":
            raise
        _refuse(f"its environment {sys.prefix} has no package {error.name}")
