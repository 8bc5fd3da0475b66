"""NewRoute: a route that a person builds from an event, as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.config.first_table import scalar


@dataclass(frozen=True)
class NewRoute:
    """A route, as it will be written; empty texts are left out."""

    source: str
    name: str = ""
    event: str = ""
    #: The path of a loop's list, such as ``payload.alerts``.
    loop: str = ""
    #: Paths and the values that they must have.
    conditions: tuple[tuple[str, str], ...] = ()
    #: A task's name in the table, or its id.
    task: str = ""
    #: The variable of the key of a task that is not in the table.
    key: str = ""
    #: Names, or empty texts in a list, and paths or expressions.
    arguments: tuple[tuple[str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the lines of its YAML, below ``routes:``."""
        pairs = [("name", self.name), ("source", self.source), ("event", self.event), ("loop", self.loop)]
        begin = "  - "
        for key, value in pairs:
            if value:
                yield f"{begin}{key}: {scalar(value)}"
                begin = "    "
        if self.conditions:
            yield "    match:"
            yield from (f"      {_key(path)}: {_pattern(value)}" for path, value in self.conditions)
        if self.task:
            yield f"    task: {scalar(self.task)}"
        if self.key:
            yield f"    secret_key: ${{{{ env.{self.key} }}}}"
        if self.arguments:
            yield "    task_arguments:"
            for name, value in self.arguments:
                yield f"      {f'{_key(name)}:' if name else '-'} {scalar(_expression(value))}"

    def text(self) -> str:
        return "\n".join(("routes:", *self.lines())) + "\n"


def _expression(value: str) -> str:
    """Return a path as an expression; text that contains an expression does not change."""
    return value if "${{" in value or not value else f"${{{{ {value} }}}}"


def _key(text: str) -> str:
    return text if re.fullmatch(r"[\w.]+(\[(\*|\d+)\][\w.]*)*", text) else scalar(text, quoted=True)


def _pattern(value: str) -> str:
    """Write a value of the event as a pattern: true, a number and null as they are."""
    if re.fullmatch(r"true|false|null|-?(0|[1-9]\d{0,17})(\.\d+)?", value):
        return value
    return scalar(value)
