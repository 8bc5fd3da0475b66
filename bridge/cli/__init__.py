"""The command line: `main` is the program ``theeye-bridge``."""

from bridge.cli.commands import main

__all__ = ["main"]
