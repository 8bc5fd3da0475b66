"""Guide: how to set up a type of source, for `init`, the JSON Schema and docs/reference/sources.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guide:
    """Markdown. Line breaks in the prose do not matter."""

    #: The sender's own name, such as ``GitHub``.
    title: str
    #: What to set at the sender.
    setup: str
    #: The keys of the example's route in YAML, besides its source and its task.
    route: str
    #: The name of the example's source; by default, that of the type.
    source: str = ""
    #: Keys of the example's source in YAML, besides its type and its credential.
    source_keys: str = ""
