"""FirstTable: one source and one route as YAML, from flags and the type's example."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bridge.config.env import variable_name
from bridge.sources.base.proofs import Proof
from bridge.sources.base.source_type import SourceType

#: Keys that a route may copy from the type's example.
_EXAMPLE_KEYS = ("event", "loop", "when", "match", "task_arguments")

#: Arguments for a type without an example: every event has these.
_DEFAULT_ARGUMENTS = ("event", "delivery_id")


@dataclass(frozen=True)
class FirstTable:
    """A source and a route. Missing values become variables or come from the type's example."""

    #: The user name of basic_auth.
    USERNAME: ClassVar[str] = "bridge"

    source: str
    type: SourceType
    event: str | None
    #: Expressions, with or without ``${{ }}``.
    arguments: tuple[str, ...]
    #: Its id, or ``${{ env.NAME }}``.
    task: str
    #: The variable of the task's key.
    key: str
    #: None if another file has ``theeye``.
    customer: str | None = "${{ env.THEEYE_CUSTOMER }}"
    #: Whether it is the documentation's example of the type, with every key of its guide.
    is_example: bool = False

    @property
    def proof(self) -> Proof:
        return self.type.proofs[0]

    @property
    def variable(self) -> str:
        """Return the variable of the source's secret."""
        key = {"basic_auth": "password", "topic_arns": "topic_arn"}.get(self.proof.key, self.proof.key)
        return variable_name(self.source, key)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield each line after the flag that sets it, or after an empty text."""
        if not self.is_example:
            yield "", "# yaml-language-server: $schema=schema.json"
        if self.customer is not None:
            yield "", "theeye:"
            yield "--customer", f"  customer: {scalar(self.customer)}"
            yield "", ""
        yield "", "sources:"
        yield "--source", f"  {scalar(self.source)}:"
        if self.type.name != self.source:
            yield "--type", f"    type: {self.type.name}"
        for line in self._proof():
            yield "", f"    {line}"
        yield "", ""
        yield "", "routes:"
        yield "--source", f"  - source: {scalar(self.source)}"
        yield from self._conditions()
        yield "--task", f"    task: {scalar(self.task)}"
        yield "--key", f"    secret_key: ${{{{ env.{self.key} }}}}"
        yield from self._arguments()

    def _proof(self) -> Iterator[str]:
        value = f"${{{{ env.{self.variable} }}}}"
        if self.proof.key == "basic_auth":
            yield f'basic_auth: {{username: {self.USERNAME}, password: "{value}"}}'
            return
        yield f"{self.proof.key}: {value}"
        if self.is_example:
            yield from textwrap.dedent(self.type.guide.source_keys).strip().splitlines()
        elif (
            self.proof.key == "secret"
            and "signature" in self.type.options
            and self.type.default_signature is None
        ):
            yield f"signature: {{header: {self.proof.header}}}"

    def _conditions(self) -> Iterator[tuple[str, str]]:
        example = self._example_lines()
        if self.event is not None:
            yield "--event", f"    event: {scalar(self.event)}"
        yield from (("", line) for line in example.get("event", ()) if self.event is None)
        if self._loops(example) != ("loop" in example):
            return
        yield from (("", line) for key in ("loop", "when") for line in example.get(key, ()))
        if self.is_example:
            yield from (("", line) for line in example.get("match", ()))
        elif "match" in example:
            yield "", "    # To narrow it down, such as:"
            yield from (("", f"    # {line.removeprefix('    ')}") for line in example["match"])

    def _arguments(self) -> Iterator[tuple[str, str]]:
        example = self._example_lines()
        if not self.arguments and "task_arguments" in example:
            yield from (("", line) for line in example["task_arguments"])
            return
        yield "", "    task_arguments:"
        for argument in self.arguments or _DEFAULT_ARGUMENTS:
            text = argument if "${{" in argument else f"${{{{ {argument} }}}}"
            yield "--argument", f"      - {scalar(text)}"

    def _loops(self, example: dict[str, list[str]]) -> bool:
        named = not self.arguments or re.search(r"\b(item|index)\b", " ".join(self.arguments))
        return "loop" in example and bool(named)

    def _example_lines(self) -> dict[str, list[str]]:
        """Return the lines of the guide's route by key; none if it is for another event."""
        if "event" in self.type.options and not self.is_example:
            return {}
        route = textwrap.indent(textwrap.dedent(self.type.guide.route), "    ")
        found = {
            key: block[0].splitlines()
            for key in _EXAMPLE_KEYS
            if (block := re.search(rf"^    {key}:.*\n(?:      .*\n)*", route, re.MULTILINE))
        }
        events = [line.partition(":")[2].strip(' "') for line in found.get("event", ())]
        return found if self.event is None or self.event in (events or [self.event]) else {}


def example(source_type: SourceType) -> str:
    """Return the documentation's example of a type: a source and a route in YAML."""
    name = source_type.guide.source or source_type.name
    table = FirstTable(
        name, source_type, None, (), "5f3c9a7be4b0a1c2d3e4f501", "TASK_KEY", customer=None, is_example=True
    )
    return "\n".join(line for _, line in table.lines())


def scalar(text: str, *, quoted: bool = False) -> str:
    """Return the text as YAML, `quoted` or with quotes if it needs them."""
    plain = not quoted and re.fullmatch(r"(\w|\$\{\{).*\S|\w", text) and not re.search(r": |:$| #", text)
    return text if plain and text.isprintable() else json.dumps(text, ensure_ascii=False)
