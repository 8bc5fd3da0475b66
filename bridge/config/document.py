"""YAML files as plain data that knows where each part stands. The only module that imports PyYAML.

Strict: tags, anchors, aliases, merges, doubled keys, several documents and empty values are mistakes.
A scalar stays the text that was written; what it means is its field's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.config.problem import Place, Problems

#: How deep mappings and lists may stand in each other.
MAX_DEPTH = 40

_COMMENT = re.compile(r"[ \t]+#(\S?)")

_FLOW_HINT = 'inside [ ] and { } an expression must be in quotes: ["${{ payload.after }}"]'
_COLON_HINT = "YAML reads ': ' as a key; put the whole value in quotes"
_COMMENT_HINT = "put the whole value in quotes"


class Scalar(str):
    """A scalar's text with its place."""

    __slots__ = ("cut", "exact", "place", "plain")

    place: Place
    #: Written without quotes, so that `true`, `5` and `null` mean those values.
    plain: bool
    #: How many characters of the file come before the text; None where the text differs from the file's.
    exact: int | None
    #: Whether YAML took the rest of an expression for a comment.
    cut: bool

    def at(self, offset: int) -> Place:
        """The place of the text's character at `offset`, or the scalar's where that is not known."""
        if self.exact is None:
            return self.place
        return Place(self.place.file, self.place.line, self.place.column + self.exact + offset)


class Empty(Scalar):
    """A value that is not there; reported when it is read."""

    __slots__ = ()


class Section(dict[Scalar, Any]):
    """A mapping with its place; its keys are scalars."""

    place: Place

    def key(self, name: str) -> Scalar:
        """The key as it stands in the file."""
        return next(key for key in self if key == name)

    def named(self, name: str) -> Node:
        """The value of the key `name`."""
        node: Node = self[self.key(name)]
        return node


class Items(list[Any]):
    """A list with its place."""

    place: Place


Node = Scalar | Section | Items


@dataclass
class _Reader:
    """Turns one file's YAML events into nodes."""

    file: str
    text: str
    events: Iterator[yaml.Event]
    problems: Problems

    def place(self, event: yaml.Event) -> Place:
        mark = _mark(event.start_mark)
        return Place(self.file, mark.line + 1, mark.column + 1)

    def document(self) -> Node | None:
        node: Node | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.problems.error(
                        self.place(event),
                        "a second document begins here; one file is one document",
                    )
                    return node
                node = self.node(next(self.events), 0)
        return node

    def node(self, event: yaml.Event, depth: int) -> Node:
        place = self.place(event)
        if depth > MAX_DEPTH:
            raise _TooDeep(place)
        if isinstance(event, yaml.AliasEvent):
            self.problems.error(
                place, f"found an alias *{event.anchor}; the table takes none", "write the value out"
            )
            return self._empty(place)
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            self.problems.error(
                place, f"found an anchor &{event.anchor}; the table takes none", "leave it out"
            )
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            self.problems.error(place, f"found a tag {event.tag}; the table takes none", "leave it out")
        if isinstance(event, yaml.MappingStartEvent):
            return self._section(place, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(place, depth)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - the only kind of node that is left
        return self._scalar(event)

    def _section(self, place: Place, depth: int) -> Section:
        section = Section()
        section.place = place
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            value_event = next(self.events)
            value = self.node(value_event, depth + 1)
            if not isinstance(key, Scalar):
                self.problems.error(key.place, "a key must be text", _FLOW_HINT if depth else None)
                continue
            if key == "<<":
                self.problems.error(key.place, "found a merge <<; the table takes none", "write the keys out")
                continue
            if isinstance(value, Scalar):
                self._look_for_a_comment(value, value_event)
                if isinstance(value, Empty):
                    self.problems.error(
                        value.place, f"{key} has no value", "write null where nothing is meant"
                    )
            if key in section:
                first = section.key(key).place
                self.problems.error(key.place, f"{key} stands here twice; first at {first}", "leave one out")
                continue
            section[key] = value
        return section

    def _items(self, place: Place, depth: int) -> Items:
        items = Items()
        items.place = place
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item = self.node(event, depth + 1)
            if isinstance(item, Scalar):
                self._look_for_a_comment(item, event)
                if isinstance(item, Empty):
                    self.problems.error(
                        item.place, "an item of the list has no value", "write null where nothing is meant"
                    )
            items.append(item)
        return items

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        plain = not event.style
        if plain and event.value == "":
            return self._empty(self.place(event))
        scalar = Scalar(event.value)
        scalar.place = self.place(event)
        scalar.plain = plain
        quote = 0 if plain else 1
        source = self.text[_mark(event.start_mark).index + quote : _mark(event.end_mark).index - quote]
        scalar.exact = quote if source == event.value else None
        scalar.cut = False
        return scalar

    def _empty(self, place: Place) -> Empty:
        empty = Empty()
        empty.place, empty.plain, empty.exact, empty.cut = place, True, None, False
        return empty

    def _look_for_a_comment(self, scalar: Scalar, event: yaml.Event) -> None:
        """YAML silently cuts off what follows ` #`."""
        if not scalar.plain or not scalar:
            return
        end = _mark(event.end_mark)
        comment = _COMMENT.match(self.text, end.index)
        if not comment:
            return
        place = Place(self.file, end.line + 1, end.column + 1 + comment.group().index("#"))
        if scalar.rfind("${{") > scalar.rfind("}}"):
            scalar.cut = True
            self.problems.error(
                place, "YAML reads ' #' as a comment: the expression is cut off here", _COMMENT_HINT
            )
        elif comment[1]:
            self.problems.warning(
                place, "YAML reads ' #' as a comment: the value ends before it",
                f"{_COMMENT_HINT} if it belongs to the value, or write a space after #",
            )  # fmt: skip


def _mark(mark: yaml.Mark | yaml._yaml.Mark | None) -> yaml.Mark | yaml._yaml.Mark:
    assert mark is not None  # noqa: S101 - what is parsed from text has its marks
    return mark


class _TooDeep(Exception):
    def __init__(self, place: Place) -> None:
        self.place = place


def read_file(path: Path, problems: Problems) -> Node | None:
    """The file's data; None where it has none, or cannot be read at all (which is then a problem)."""
    name = str(path)
    start = Place(name, 1, 1)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.error(start, f"the file is not UTF-8 text (byte {error.start})", "save it as UTF-8")
        return None
    except OSError as error:
        problems.error(start, f"the file cannot be read: {error.strerror}")
        return None
    try:
        return _Reader(name, text, yaml.parse(text, Loader=yaml.CSafeLoader), problems).document()
    except _TooDeep as error:
        problems.error(error.place, f"nested more than {MAX_DEPTH} deep")
    except yaml.reader.ReaderError as error:
        problems.error(start, f"the file holds a character that YAML does not allow: {error.reason}")
    except yaml.MarkedYAMLError as error:
        _report_syntax(error, name, text, problems)
    return None


def _report_syntax(error: yaml.MarkedYAMLError, name: str, text: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
    problem = error.problem or "it cannot be read"
    hint = None
    if "mapping values are not allowed" in problem:
        hint = _COLON_HINT
    elif error.context and "flow" in error.context and "${{" in line:
        hint = _FLOW_HINT
    elif "\t" in line[: mark.column + 1 if mark else 0]:
        hint = "YAML takes no tabs for indentation; use spaces"
    context = f" {error.context}" if error.context else ""
    problems.error(place, f"no YAML: {problem}{context}", hint)
