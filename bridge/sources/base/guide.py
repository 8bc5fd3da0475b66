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
    #: Whether the title names one sender. Otherwise `init` says *the sender*.
    is_one_sender: bool = True

    @property
    def sender(self) -> str:
        """The sender in a sentence."""
        return self.title if self.is_one_sender else "the sender"
