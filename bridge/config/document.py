"""YAML files as plain data that knows where each part stands. The only module that imports PyYAML.

Strict: tags, anchors, aliases, merges, doubled keys, several documents and empty values are mistakes.
A scalar stays the text that was written; what it means is its field's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.config.problems import Problems
from bridge.core.problem import Place

#: How deep mappings and lists may stand in each other.
MAX_DEPTH = 40

_COMMENT = re.compile(r"[ \t]+#(\S?)")
#: A blank that YAML takes for a letter.
_ODD_BLANK = re.compile(r":([^\S \t\r\n])")

#: Of a line: a key, and nothing before it but its indentation.
_KEY_ALONE = re.compile(r"[ -]*[^\s:]+")
#: A value, up to its closing quote.
_QUOTED_START = re.compile(r"""(: |- )(["']).*\2\s*$""")

_BRACES_HINT = "put a value that begins with { or [ in quotes; an expression is written ${{ … }}"
_PATH_HINT = "inside { } put the whole of a key with [ ] in quotes, other ones than stand in it"
_FLOW_HINT = 'inside [ ] and { } an expression must be in quotes: ["${{ payload.after }}"]'
_COLON_HINT = "YAML reads ': ' as a key; put the whole value in quotes"
_BLANK_HINT = "leave it out, or write the value; null too is written out where it is meant"
_MARK_HINT = "put quotes around a value that begins so; else leave it out"
_TAG_HINT = (
    "for what must not be, write {not: …} in match and not … in when; "
    "else leave the ! out, or put the whole value in quotes"
)
_AND_HINT = "in an expression write and for &&; else put the whole value in quotes"
_INDENTATION_HINT = "what belongs together begins in the same column, with spaces before it"
_QUOTE_HINT = "YAML ends a value that begins with a quote at the next one; put other quotes around the whole"
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


class Invalid(Scalar):
    """Stands for a value that is not there or is wrong, which is reported already."""

    __slots__ = ()

    @classmethod
    def at_place(cls, place: Place) -> Invalid:
        empty = cls()
        empty.place, empty.plain, empty.exact, empty.cut = place, True, None, False
        return empty


class Section(dict[Scalar, Any]):
    """A mapping with its place; its keys are scalars."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        #: Whether every key could be read: else nothing can be said about what is not there.
        self.complete = True
        self._keys: dict[str, Scalar] = {}

    def __setitem__(self, key: Scalar, value: Any) -> None:
        self._keys.setdefault(key, key)
        super().__setitem__(key, value)

    def key(self, name: str) -> Scalar:
        """The key as it stands in the file."""
        return self._keys[name]

    def named(self, name: str) -> Node:
        """The value of the key `name`."""
        node: Node = self[self.key(name)]
        return node

    def remove(self, name: str) -> None:
        """Leave the key `name` out."""
        del self[self._keys.pop(name)]

    def rename(self, name: str, to: str) -> None:
        """Let the value of the key `name` stand under the key `to`, at the same place."""
        place, value = self.key(name).place, self.named(name)
        self.remove(name)
        self.put(to, place, value)

    def put(self, name: str, place: Place, value: Node) -> None:
        """Let `value` stand under the key `name`."""
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
    """Turns one file's YAML events into nodes."""

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
                        "a second document begins here; one file is one document",
                        "leave the --- out, or make two files of it",
                    )
                    if isinstance(node, Section):
                        node.complete = False
                    break
                root = next(self.events)
                node = node if _is_blank(root) else self.node(root, 0)
        return node

    def node(self, event: yaml.Event, depth: int) -> Node:
        """The node that begins with `event`; an Invalid, reported, where it is none that a table takes."""
        place = self.place(event)
        if depth > MAX_DEPTH:
            raise _TooDeep(place)
        # Names are left out: what begins with *, & or ! may be a secret without quotes.
        if isinstance(event, yaml.AliasEvent):
            hint = "put quotes around a value that begins so; else write out what it stands for"
            self.problems.error(place, "found an alias (*); the table takes none", hint)
            return Invalid.at_place(place)
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            self.problems.error(place, "found an anchor (&); the table takes none", _MARK_HINT)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            self.problems.error(place, "found a tag (!); the table takes none", _TAG_HINT)
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
                        # Alone in { } it may be anything, a secret too: it is not shown.
                        is_path = self.text.startswith("[", _mark(event.end_mark).index)
                        hint = _PATH_HINT if is_path else _BRACES_HINT
                        self.problems.error(key.place, "found a key without a value", hint)
                        section.complete = False
                        continue
                    self.problems.error(value.place, f"{key} has no value", _BLANK_HINT)
            if key in section:
                first = section.key(key).place
                self.problems.error(key.place, f"{key} stands here twice; first at {first}", "leave one out")
                continue
            section[key] = value
        return section if section or section.complete else Invalid.at_place(place)

    def _key(self, event: yaml.Event, depth: int) -> Scalar | None:
        """None, reported, where it is no key that a table takes."""
        place = self.place(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._skip_collection()
            self.problems.error(place, "found a mapping or a list, expected a key", _BRACES_HINT)
            return None
        key = self.node(event, depth)
        if not isinstance(key, Scalar) or isinstance(key, Invalid):
            if _is_blank(event):
                self.problems.error(place, "found nothing before ':', expected a key")
            return None
        if key == "<<":
            self.problems.error(place, "found a merge <<; the table takes none", "write the keys out")
            return None
        if "${{" in key:
            end = _mark(event.end_mark)
            if _is_open(key):
                at = Place(self.file, end.line + 1, end.column + 1)
                self.problems.error(at, "the expression is cut off here", _COLON_HINT)
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
        """YAML silently cuts off what follows ` #`."""
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
                place, "YAML reads ' #' as a comment: the expression is cut off here", _COMMENT_HINT
            )
        elif comment[1]:
            self.problems.warning(
                place, "YAML reads ' #' as a comment: the value ends before it",
                f"{_COMMENT_HINT} if it belongs to the value, or write a space after #",
            )  # fmt: skip


def _is_open(text: str) -> bool:
    """Whether an expression begins in `text` that does not end in it."""
    return text.rfind("${{") > text.rfind("}}")


def _is_blank(event: yaml.Event) -> bool:
    """Whether nothing at all stands where a value should."""
    return isinstance(event, yaml.ScalarEvent) and not (
        event.value or event.style or event.anchor or event.tag
    )


def _mark(mark: yaml.Mark | yaml._yaml.Mark | None) -> yaml.Mark | yaml._yaml.Mark:
    assert mark is not None  # noqa: S101 - what is parsed from text has its marks
    return mark


class _TooDeep(Exception):
    def __init__(self, place: Place) -> None:
        self.place = place


def read_file(path: Path, problems: Problems, seen: Callable[[bytes], object]) -> Node | None:
    """The file's data, an empty mapping where it has none; None, reported, where it cannot be read.

    `seen` gets the bytes that were read.
    """
    name = str(path)
    try:
        read = path.read_bytes()
        seen(read)
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _after(error.object[: error.start], name)
        problems.error(place, "the file is not UTF-8 text", "save it as UTF-8")
        return None
    except OSError as error:
        problems.error(Place(name, 1, 1), f"the file cannot be read: {error.strerror}")
        return None
    try:
        return _Reader(name, text, yaml.parse(text, Loader=yaml.CSafeLoader), problems).document()
    except _TooDeep as error:
        problems.error(error.place, f"nested more than {MAX_DEPTH} deep")
    except yaml.reader.ReaderError as error:
        place = _after(text.encode()[: error.position], name)
        problems.error(place, f"the file holds a character that YAML does not allow: {error.reason}")
    except yaml.MarkedYAMLError as error:
        _report_syntax(error, name, text, problems)
    return None


def _after(before: bytes, name: str) -> Place:
    """The place in the file `name` that follows these bytes of it."""
    text = before.decode(errors="ignore")
    return Place(name, text.count("\n") + 1, len(text) - text.rfind("\n"))


def _report_syntax(error: yaml.MarkedYAMLError, name: str, text: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    if mark and error.context_mark and mark.index >= len(text):
        mark = error.context_mark  # what is not closed says more than the end of the file
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
    if problems.has_error_on(place):
        return  # what is reported there broke the rest of the line
    problem = error.problem or "it cannot be read"
    before = line[: mark.column] if mark else ""
    hint = odd_blank_hint("\n".join(lines[max(place.line - 2, 0) : place.line])) or _syntax_hint(
        problem, error.context or "", before, line[len(before) :]
    )
    context = f" {error.context}" if error.context else ""
    problems.error(place, f"no YAML: {problem}{context}", hint)


def odd_blank_hint(text: str) -> str | None:
    """What to do about a blank after a colon that only looks like a space."""
    odd = _ODD_BLANK.search(text)
    return None if odd is None else f"type a space after the colon; what stands there is U+{ord(odd[1]):04X}"


def _syntax_hint(problem: str, context: str, before: str, after: str) -> str | None:
    """What to do about PyYAML's `problem`; `before` and `after` are the line around its place."""
    if "\t" in before or after.startswith("\t"):
        return "YAML takes no tabs for indentation; use spaces"
    if "mapping values are not allowed" in problem:
        return _INDENTATION_HINT if _KEY_ALONE.fullmatch(before) else _COLON_HINT
    if "flow" in context and "${{" in before + after:
        return _FLOW_HINT
    if "cannot start any token" in problem or "an alias" in context or "a directive" in context:
        return "put quotes around a value that begins with @, `, % or *"
    if "an anchor" in context:
        return _AND_HINT
    if "could not find expected ':'" in problem:
        return "a key and its value are written key: value, with a blank after the colon"
    if "did not find expected" in problem and _QUOTED_START.search(before):
        return _QUOTE_HINT
    return _INDENTATION_HINT if "block" in context and not before.strip() else None
