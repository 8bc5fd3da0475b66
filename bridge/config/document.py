"""YAML files as plain data with places. The only module that imports PyYAML.

Strict: tags, anchors, aliases, merges, doubled keys, several documents and empty values are errors. A scalar
stays the written text, which its field's type interprets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.config.problems import Problems
from bridge.config.syntax_hints import COLON_HINT, TAG_HINT, odd_blank_hint, syntax_hint
from bridge.core.problem import Place

#: How deep mappings and lists may be nested.
MAX_DEPTH = 40

_COMMENT = re.compile(r"[ \t]+#(\S?)")

_BRACES_HINT = "put quotes around a value that begins with { or [; write an expression as ${{ … }}"
_PATH_HINT = 'inside { }, put quotes around a key with [ ]: \'…\' if the key contains ", otherwise "…"'
_BLANK_HINT = "write a value, such as null, or remove the key"
_MARK_HINT = "put quotes around the value, or remove the anchor"
_COMMENT_HINT = "put quotes around the whole value"


class Scalar(str):
    """The text of a scalar with its place."""

    __slots__ = ("cut", "exact", "place", "plain")

    place: Place
    #: Whether it has no quotes, so that `true`, `5` and `null` mean those values.
    plain: bool
    #: The characters between its place and its text; None if the text differs from the file's.
    exact: int | None
    #: Whether YAML treated the rest of an expression as a comment.
    cut: bool

    def at(self, offset: int) -> Place:
        """Return the place of the character at `offset`, or of the scalar if that is unknown."""
        if self.exact is None:
            return self.place
        return Place(self.place.file, self.place.line, self.place.column + self.exact + offset)


class Invalid(Scalar):
    """A missing or wrong value, which is already reported."""

    __slots__ = ()

    @classmethod
    def at_place(cls, place: Place) -> Invalid:
        invalid = cls()
        invalid.place, invalid.plain, invalid.exact, invalid.cut = place, True, None, False
        return invalid


class Section(dict[Scalar, Any]):
    """A mapping with its place. Its keys are scalars."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        #: Whether every key could be read. Otherwise a missing key is not reported.
        self.complete = True
        self._keys: dict[str, Scalar] = {}

    def __setitem__(self, key: Scalar, value: Any) -> None:
        self._keys.setdefault(key, key)
        super().__setitem__(key, value)

    def key(self, name: str) -> Scalar:
        """Return the key as written in the file."""
        return self._keys[name]

    def named(self, name: str) -> Node:
        """Return the value of the key `name`."""
        node: Node = self[self.key(name)]
        return node

    def remove(self, name: str) -> None:
        """Remove the key `name`."""
        del self[self._keys.pop(name)]

    def rename(self, name: str, to: str) -> None:
        """Rename the key `name` to `to`, at the same place."""
        place, value = self.key(name).place, self.named(name)
        self.remove(name)
        self.put(to, place, value)

    def put(self, name: str, place: Place, value: Node) -> None:
        """Set the key `name` to `value`."""
        key = Scalar(name)
        key.place, key.plain, key.exact, key.cut = place, True, None, False
        self[key] = value


class Items(list[Any]):
    """A list with its place."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


Node = Scalar | Section | Items


@dataclass
class _Reader:
    """Turn the YAML events of one file into nodes."""

    file: str
    text: str
    events: Iterator[yaml.Event]
    problems: Problems

    def place(self, event: yaml.Event) -> Place:
        mark = _mark(event.start_mark)
        return Place(self.file, mark.line + 1, mark.column + 1)

    def document(self) -> Node:
        node: Node = Section(Place(self.file, 1, 1))
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.problems.error(
                        self.place(event),
                        "a second document begins here; a file must be one document",
                        "remove the ---, or write two files",
                    )
                    if isinstance(node, Section):
                        node.complete = False
                    break
                root = next(self.events)
                node = node if _is_blank(root) else self.node(root, 0)
        return node

    def node(self, event: yaml.Event, depth: int) -> Node:
        """Return the node that begins with `event`, or a reported Invalid."""
        place = self.place(event)
        if depth > MAX_DEPTH:
            raise _TooDeep(place)
        # The message shows no name: a value that begins with *, & or ! may be a secret without quotes.
        if isinstance(event, yaml.AliasEvent):
            hint = "put quotes around the value, or write out the aliased value"
            self.problems.error(place, "aliases (*) are not allowed", hint)
            return Invalid.at_place(place)
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            self.problems.error(place, "anchors (&) are not allowed", _MARK_HINT)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            self.problems.error(place, "tags (!) are not allowed", TAG_HINT)
        if isinstance(event, yaml.MappingStartEvent):
            return self._section(place, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(place, depth)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - the only kind of node that is left
        return Invalid.at_place(place) if event.anchor or event.tag else self._scalar(event)

    def _section(self, place: Place, depth: int) -> Section | Invalid:
        section = Section(place)
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, depth + 1)
            value_event = next(self.events)
            value = self.node(value_event, depth + 1)
            if key is None:
                section.complete = False
                continue
            if isinstance(value, Scalar):
                self._look_for_a_comment(value, value_event)
                if _is_blank(value_event):
                    between = self.text[_mark(event.end_mark).index : _mark(value_event.start_mark).index]
                    if ":" not in between:
                        # The message does not show the key: alone in { } it may be a secret.
                        is_path = self.text.startswith("[", _mark(event.end_mark).index)
                        hint = _PATH_HINT if is_path else _BRACES_HINT
                        self.problems.error(key.place, "a key has no value", hint)
                        section.complete = False
                        continue
                    self.problems.error(value.place, f"{key} has no value", _BLANK_HINT)
            if key in section:
                first = section.key(key).place
                hint = (
                    "remove one of them"
                    if isinstance(value, Scalar)
                    else f"put both under one {key}:, or rename one"
                )
                self.problems.error(key.place, f"{key} is defined twice; first at {first}", hint)
                continue
            section[key] = value
        return section if section or section.complete else Invalid.at_place(place)

    def _key(self, event: yaml.Event, depth: int) -> Scalar | None:
        """Return the key, or None if it is not valid, which is reported."""
        place = self.place(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._skip_collection()
            self.problems.error(place, "found a mapping or a list, expected a key", _BRACES_HINT)
            return None
        key = self.node(event, depth)
        if not isinstance(key, Scalar) or isinstance(key, Invalid):
            if _is_blank(event):
                self.problems.error(place, "expected a key before ':'")
            return None
        if key == "<<":
            self.problems.error(place, "merges (<<) are not allowed", "write out all keys")
            return None
        if "${{" in key:
            end = _mark(event.end_mark)
            if _is_open(key):
                at = Place(self.file, end.line + 1, end.column + 1)
                self.problems.error(at, "the expression ends here", COLON_HINT)
            else:
                self.problems.error(place, "found an expression, expected a key", "a key is never evaluated")
            return None
        return key

    def _skip_collection(self) -> None:
        depth = 1
        while depth:
            event = next(self.events)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)

    def _items(self, place: Place, depth: int) -> Items:
        items = Items(place)
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item = self.node(event, depth + 1)
            if isinstance(item, Scalar):
                self._look_for_a_comment(item, event)
                if _is_blank(event):
                    self.problems.error(item.place, "an item of the list has no value", _BLANK_HINT)
            items.append(item)
        return items

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        plain = not event.style
        if plain and event.value == "":
            return Invalid.at_place(self.place(event))
        scalar = Scalar(event.value)
        scalar.place = self.place(event)
        scalar.plain = plain
        quote = 0 if plain else 1
        source = self.text[_mark(event.start_mark).index + quote : _mark(event.end_mark).index - quote]
        scalar.exact = quote if source == event.value else None
        scalar.cut = False
        return scalar

    def _look_for_a_comment(self, scalar: Scalar, event: yaml.Event) -> None:
        """Report a value that YAML cuts off at ` #`."""
        if not scalar.plain or not scalar:
            return
        end = _mark(event.end_mark)
        comment = _COMMENT.match(self.text, end.index)
        if not comment:
            return
        place = Place(self.file, end.line + 1, end.column + 1 + comment.group().index("#"))
        if _is_open(scalar):
            scalar.cut = True
            self.problems.error(
                place, "YAML reads ' #' as a comment: the expression ends here", _COMMENT_HINT
            )
        elif comment[1]:
            self.problems.warning(
                place, "YAML reads ' #' as a comment: the value ends before it",
                f"{_COMMENT_HINT} if it belongs to the value, or write a space after #",
            )  # fmt: skip


def _is_open(text: str) -> bool:
    """Return whether an expression begins in `text` and does not end in it."""
    return text.rfind("${{") > text.rfind("}}")


def _is_blank(event: yaml.Event) -> bool:
    """Return whether a value is missing."""
    return isinstance(event, yaml.ScalarEvent) and not (
        event.value or event.style or event.anchor or event.tag
    )


def _mark(mark: yaml.Mark | yaml._yaml.Mark | None) -> yaml.Mark | yaml._yaml.Mark:
    assert mark is not None  # noqa: S101 - events of a parsed text have marks
    return mark


class _TooDeep(Exception):
    def __init__(self, place: Place) -> None:
        self.place = place


def read_file(path: Path, problems: Problems, seen: Callable[[bytes], object]) -> Node | None:
    """Return the file's data, or None if it cannot be read, which is reported.

    `seen` is called with the bytes of the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.error(Place(str(path), 1, 1), f"the file cannot be read: {error.strerror}")
        return None
    seen(content)
    return read_content(str(path), content, problems)


def read_content(name: str, content: bytes, problems: Problems) -> Node | None:
    """Return the data of a file with this name and content, or None if it is invalid, which is reported."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _after(error.object[: error.start], name)
        problems.error(place, "the file is not UTF-8 text", "save it as UTF-8")
        return None
    try:
        return _Reader(name, text, yaml.parse(text, Loader=yaml.CSafeLoader), problems).document()
    except _TooDeep as error:
        problems.error(error.place, f"nested more than {MAX_DEPTH} deep")
    except yaml.reader.ReaderError as error:
        place = _after(text.encode()[: error.position], name)
        problems.error(place, f"the file contains a character that YAML does not allow: {error.reason}")
    except yaml.MarkedYAMLError as error:
        _report_syntax(error, name, text, problems)
    return None


def _after(before: bytes, name: str) -> Place:
    """Return the place in the file `name` after these bytes of it."""
    text = before.decode(errors="ignore")
    return Place(name, text.count("\n") + 1, len(text) - text.rfind("\n"))


def _report_syntax(error: yaml.MarkedYAMLError, name: str, text: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    if mark and error.context_mark and mark.index >= len(text):
        mark = error.context_mark  # the opening quote or bracket says more than the end of the file
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
    if problems.has_error_on(place):
        return  # the reported error broke the rest of the line
    problem = error.problem or "unknown error"
    before = line[: mark.column] if mark else ""
    hint = odd_blank_hint("\n".join(lines[max(place.line - 2, 0) : place.line])) or syntax_hint(
        problem, error.context or "", before, line[len(before) :]
    )
    context = f" {error.context}" if error.context else ""
    problems.error(place, f"not valid YAML: {problem}{context}", hint)
