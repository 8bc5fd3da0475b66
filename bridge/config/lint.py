"""Warnings about valid parts of a table that are probably mistakes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from bridge.config.compile import WORDS, Compiler
from bridge.config.document import Invalid, Items, Node, Scalar, Section
from bridge.config.known_values import SPECIAL, misfit
from bridge.config.models import RouteModel, TaskCallModel
from bridge.config.problems import Problems, guess
from bridge.config.readers import describe
from bridge.core.errors import OverBudget
from bridge.core.event import JSON
from bridge.core.fields import EVENT_NAMES, Each, Path, Step, path_text
from bridge.core.json_text import json_text
from bridge.core.problem import Place
from bridge.core.suggestions import closest_match, did_you_mean
from bridge.expressions.comparisons import Comparison
from bridge.expressions.expression import Expression, Template
from bridge.routing.match import NOT
from bridge.sources.base.known_fields import ANY, FieldTree, UnknownStep, find_unknown_step, known_at
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import EVERY_EVENT, SourceType

Steps = tuple[Step, ...]

#: A hint lists the known events of a type with fewer than this.
_FEW = 5
#: A name that differs for each item of a loop.
_ITEM = re.compile(r"\b(?:item|index)\b")


class Linter:
    """Warn about routes and tests. Compile errors are reported elsewhere, and only once."""

    def __init__(self, compiler: Compiler, problems: Problems) -> None:
        self._compiler = compiler
        self._problems = problems
        self._warn = problems.warning

    def check_route(self, place: Place, model: RouteModel, source: Source, names: tuple[str, ...]) -> None:
        """Warn about a route whose expressions see `names`."""
        events = [event for event in model.event or () if not isinstance(event, Invalid)]
        for event in events:
            self._check_event(event, source, events)
        advice = source.type.route_warning(tuple(map(str, events)), loops=model.loop is not None)
        if advice is not None:
            self._warn(model.event[0].place if model.event else place, *advice)
        if model.match is not None and not model.match and model.match.complete:
            hint = "write a condition, such as payload.ref: refs/heads/main, or remove it"
            self._warn(model.match.place, "match is empty: it matches every event", hint)
        if model.when is not None:
            self._check_when(model.when, names)
        self._check_fields(model, source, names)
        if model.loop is not None:
            self._check_items(model, model.loop, source, names)

    def check_alert(
        self, name: str, model: TaskCallModel, names: tuple[str, ...], root: str, fields: Collection[str]
    ) -> None:
        """Warn about a field that the `root` of an alert's arguments never has."""
        for scalar in _scalars([model.task_arguments]):
            template = self._compiler.template(scalar, names) if "${{" in scalar else None
            for _, path, _ in _paths(scalar, template):
                step = path.steps[0] if path.steps and path.root == root else None
                if isinstance(step, str) and step not in fields:
                    meant, known = guess(step, fields)
                    place = scalar.at(max(scalar.find(path.text), 0))
                    self._warn(place, f"{root} of {name} has no field {step}{meant}", f"it has: {known}")

    def check_test(self, event: Scalar, source: Source) -> None:
        """Warn about a test's event: a test that expects no job would pass with any name."""
        if not isinstance(event, Invalid) and event not in source.type.setup_events:
            self._check_event(event, source, [])

    def _check_event(self, event: Scalar, source: Source, events: list[Scalar]) -> None:
        """Warn about an unknown event. It is not an error, since senders add events."""
        if (flaw := _event_flaw(event, source.type, events)) is not None:
            self._warn(event.place, *flaw)

    def _check_when(self, when: Scalar, names: tuple[str, ...]) -> None:
        expression = self._compiler.condition(when, names)
        if expression is None:
            return
        for place, each in _placed(expression.comparisons, when):
            if (flaw := each.text_mistake) is not None:
                self._warn(place, *flaw)
        if not expression.names:
            try:
                always = "true" if expression.is_true({})[0] else "false"
            except OverBudget:
                always = "over the budget of an event"
            hint = "compare a field, such as payload.ref == 'refs/heads/main'; text alone is always true"
            self._warn(when.place, f"when reads no field: it is always {always}", hint)

    def _check_fields(self, model: RouteModel, source: Source, names: tuple[str, ...]) -> None:
        """Warn about fields that no known webhook of this route has, and about a loop without a list."""
        read = list(self._read(model, names))
        for scalar, path, _ in read:
            if source.removes(path):
                message = f"{path.text} is not in any event: the bridge removes credentials"
                hint = "remove it: the bridge has verified the request before it evaluates routes"
                self._warn(scalar.at(max(scalar.find(path.text), 0)), message, hint)
        payloads = _payloads(model.event, source)
        if not payloads:
            return
        what = f"{' or '.join(model.event or ('webhook',))} of {source.type.name}"
        looped = None if model.loop is None else self._items(model.loop)
        items = () if looped is None else looped.steps
        if model.loop is not None and looped is not None:
            self._check_field(model.loop, looped, (), payloads, what)
        for place, path, value, begins in self._compared(model, names):
            self._check_value(place, path, value, items, payloads, what, begins=begins)
        for scalar, path, guarded in read:
            if path.root == "payload" and not source.removes(path):
                self._check_field(scalar, path, (), payloads, what, guarded=guarded)
            elif path.root == "item" and items:
                self._check_field(scalar, path, items, payloads, what, guarded=guarded)

    def _check_value(
        self, place: Place, path: Path, value: JSON, items: Steps, payloads: list[FieldTree], what: str,
        *, begins: bool,
    ) -> None:  # fmt: skip
        """Warn about a value that the field never has, or never `begins` with.

        `items` are the steps to the items of the loop.
        """
        before = items if path.root == "item" else ()
        if path.root == "payload" or before:
            pattern = f"{value}*" if begins else value
            hints = [misfit(pattern, known_at(each, (*before, *path.steps)), path.text) for each in payloads]
            hint = hints[0]
            if hint is not None and None not in hints and not self._problems.has_problem_at(place):
                how = "at the beginning of" if begins else "as"
                message = f"no known {what} has {_shown(value)} {how} {path.text}"
                self._warn(place, message, hint.removesuffix("*") if begins else hint)

    def _compared(
        self, model: RouteModel, names: tuple[str, ...]
    ) -> Iterator[tuple[Place, Path, JSON, bool]]:
        """Yield every field that match or when compares, with the place of its pattern or value.

        Last is whether the field need only begin with it.
        """
        for key, node in (model.match or {}).items():
            path = self._compiler.path(key, names)
            for one in () if path is None else path.alternatives():
                shown = Path(key, one.root, one.steps)
                yield from ((at, shown, glob, False) for at, glob in _patterns(node))
        expression = None if model.when is None else self._compiler.condition(model.when, names)
        if model.when is None or expression is None:
            return
        for place, each in _placed(expression.comparisons, model.when):
            is_pattern = isinstance(each.value, str) and SPECIAL.search(each.value)
            if each.path is not None and each.value is not None and not is_pattern:
                yield place, each.path, each.value, each.operator == "match"

    def _check_items(self, model: RouteModel, loop: Scalar, source: Source, names: tuple[str, ...]) -> None:
        """Warn about items that share what should differ: their once_key, or their arguments."""
        looped = self._items(loop)
        if model.once_within is not None and not _ITEM.search(model.once_key or ""):
            items = () if looped is None else looped.steps
            known = [known_at(tree, items) or () for tree in _payloads(model.event, source)]
            field = "fingerprint" if items and any("fingerprint" in tree for tree in known) else "id"
            message = "all items have the same once_key: only one of them runs in the time of once_within"
            hint = f"write once_key: ${{{{ item.{field} }}}}, or another field that differs for each item"
            self._warn((model.once_key or loop).place, message, hint)
        if looped is not None:
            self._check_match_of_items(model, looped, names)
        arguments = [text for text in _scalars([model.task_arguments]) if "${{" in text]
        if looped is None or any(map(_ITEM.search, arguments)):
            return
        length = len(looped.steps)
        for scalar in arguments:
            for _, path, _ in _paths(scalar, self._compiler.template(scalar, names)):
                is_inside = (path.root, path.steps[: length - 1]) == (looped.root, looped.steps[:-1])
                if is_inside and any(isinstance(step, int) for step in path.steps[length - 1 : length]):
                    element = path_text(path.root, path.steps[:length])
                    hint = f"write {path_text('item', path.steps[length:])}"
                    message = f"{element} is the same for every item of the loop"
                    self._warn(scalar.place, message, hint)

    def _check_match_of_items(self, model: RouteModel, looped: Path, names: tuple[str, ...]) -> None:
        """Warn about a line of match that looks at all items: each item then passes, or none."""
        for key in model.match or ():
            path = self._compiler.path(key, names)
            if path is not None and path.is_inside(looped):
                message = f"{key} matches every item of the loop if it matches one"
                self._warn(key.place, message, f"write {path_text('item', path.steps[len(looped.steps) :])}")

    def _items(self, loop: Scalar) -> Path | None:
        """Return the path of a loop's items, if the loop is only a field of the payload."""
        expression = self._compiler.condition(loop, EVENT_NAMES)
        if expression is None or [path.text for path in expression.paths] != [expression.text]:
            return None
        (path,) = expression.paths
        return Path(path.text, path.root, (*path.steps, Each())) if path.root == "payload" else None

    def _check_field(
        self, scalar: Scalar, path: Path, before: Steps, payloads: list[FieldTree], what: str,
        *, guarded: bool = False,
    ) -> None:  # fmt: skip
        """Warn about an unknown field. `before` are the steps from the payload to the start of `path`.

        A `guarded` field may be missing, so only a misspelt one is reported.
        """
        stops: list[UnknownStep] = []
        for payload in payloads:  # a route for every event has many, and the first few usually suffice
            if (unknown := find_unknown_step(payload, (*before, *path.steps))) is None:
                return
            stops.append(unknown)
        stop = max(stops, key=lambda each: each.steps)
        if stop.steps < len(before):
            return  # the loop's own path is reported
        if guarded and _may_be_there(path.steps[stop.steps - len(before)], stop):
            return
        at = re.search(re.escape(path.text) + r"(?!\w)", scalar)
        place = scalar.at(at.start() if at else 0)
        self._warn(place, *_field_warning(path, stop.steps - len(before), stop, what))

    def _read(self, model: RouteModel, names: tuple[str, ...]) -> Iterator[tuple[Scalar, Path, bool]]:
        """Yield every path that the route reads, with its scalar, and whether the field may be missing."""
        for key in model.match or ():
            path = self._compiler.path(key, names)
            yield from ((key, one, False) for one in (() if path is None else path.alternatives()))
        if model.when is not None:
            yield from _paths(model.when, self._compiler.condition(model.when, names))
        group = None if model.concurrency is None else model.concurrency.group
        for scalar in _scalars([model.task_arguments, group, model.once_key]):
            if "${{" in scalar:
                yield from _paths(scalar, self._compiler.template(scalar, names))


def _placed(comparisons: Iterable[Comparison], when: Scalar) -> Iterator[tuple[Place, Comparison]]:
    """Yield each comparison with the place of its constant, or that of the whole condition."""
    ends: dict[str, int] = {}
    for each in comparisons:
        value = re.escape(_shown(each.constant))
        is_text = isinstance(each.constant, str)
        pattern = re.compile(rf"(?<=['\"]){value}(?=['\"])" if is_text else rf"(?<![\w.]){value}(?![\w.])")
        # Equal constants follow each other in the order of their comparisons.
        found = pattern.search(when, ends.get(value, 0)) or pattern.search(when)
        ends[value] = found.end() if found else 0
        yield when.at(found.start() if found else 0), each


def _event_flaw(event: Scalar, kind: SourceType, events: list[Scalar]) -> tuple[str, str] | None:
    """Return a mistake in one of the `events` of a route, and the hint, or None."""
    known, text = kind.events, describe(event)
    if event in kind.setup_events:
        message = f"{event} is a test or confirmation by the sender, which matches no route"
        return message, "remove this event: the bridge answers it itself, and no route is evaluated"
    if several := _several(event, known):
        hint = f"for several events, write a list: [{', '.join(several)}]"
        return f"found {text}, expected one event", hint
    if known and (excluded := re.fullmatch(r"(?:!|not )\s*([^.\s]+)(?:\.(.+))?", event)):
        name, action = excluded.groups()
        when = f"not (event == '{name}' and action == '{action}')" if action else f"event != '{name}'"
        return f"found {text}, but event cannot exclude a name", f"remove it, and write when: {when}"
    if known and not _is_known(event, known):
        holders = [each for each, actions in kind.actions.items() if event in actions]
        if holders := [each for each in events if each in holders] or holders[:3]:
            written = " or ".join(f"{each}.{event}" for each in holders)
            rest = f" instead of {holders[0]} and {event}" if holders[0] in events else ""
            return f"{event} is an action of {kind.name}, not an event", f"write {written}{rest}"
        # Names of several words share words, so more of them look close.
        words = (event, event.partition(".")[0])
        near = closest_match(event, known, cutoff=0.9)
        longer = [near] if near else [each for each in known if event.startswith(f"{each}_")]
        guesses = (
            *(f"; did you mean {each}?" for each in longer[-1:]),
            *(did_you_mean(word, known, sure=" " in word) for word in words),
        )
        message = f"{kind.name} has no known event {text}{next(filter(None, guesses), '')}"
        hint = "the reference of sources lists the known events; a sender may have newer ones"
        return message, f"known: {', '.join(known)}" if len(known) < _FEW else hint
    if instead := _unknown_action(event, kind):
        return f"{kind.name} has no known event {event}", instead
    message = f"the event {text} begins or ends with a space, as no event does"
    return None if event == event.strip() else (message, "remove the space")


def _paths(scalar: Scalar, read: Expression | Template | None) -> Iterator[tuple[Scalar, Path, bool]]:
    for path in () if read is None else read.paths:
        yield scalar, path, read is not None and path in read.optional


def _may_be_there(step: Step, stop: UnknownStep) -> bool:
    """Return whether some webhook could have this field: it is not misspelt."""
    if not isinstance(stop.holder, Mapping) or not isinstance(step, str):
        return False
    return closest_match(step, stop.holder, sure=True) is None


def _is_known(event: str, known: Iterable[str]) -> bool:
    """Return whether the name, or the start of a glob, is a known event, also with an action."""
    special = SPECIAL.search(event)
    start = event if special is None else event[: special.start()]
    return any(
        start.startswith(f"{name}.") or (name == start if special is None else name.startswith(start))
        for name in known
    )


def _several(event: str, known: Iterable[str]) -> list[str]:
    """Return the known events in a text that is a list in other tools, or nothing."""
    for between in (r"\s*(?:,|\|+|\bor\b)\s*", r"\s+"):
        names = re.split(between, event.strip())
        if len(names) > 1 and all(name[:1].isalpha() and _is_known(name, known) for name in names):
            return names
    return []


def _payloads(events: tuple[Scalar, ...] | None, source: Source) -> list[FieldTree]:
    """Return the known payload of each event of a route, or nothing if one is unknown."""
    fields = source.type.fields
    if any(_several(event, source.type.events) for event in events or ()):
        return []
    if EVERY_EVENT in fields:
        return [fields[EVERY_EVENT]]
    wanted = events or [event for event in source.type.events if event not in source.type.setup_events]
    payloads = [_payload(event, source) for event in wanted]
    return [] if None in payloads else payloads


def _payload(event: str, source: Source) -> FieldTree:
    """Return the known fields of an event: at least those that its bodies must have."""
    known, markers = source.type.events, source.type.markers
    for name in (event, event.rpartition(".")[0]):
        if name in source.type.fields:
            return source.type.fields[name]
        if name in known:
            more = () if markers is None else (*markers.optional.get(name, ()), *markers.context)
            return dict.fromkeys((ANY, *(path.partition(".")[0] for path in (*known[name], *more))))
    return None


def _unknown_action(event: str, kind: SourceType) -> str | None:
    """Return what to write for ``event.action`` if the event has no such action."""
    name, _, action = event.rpartition(".")
    if kind.actions.get(name) == ():
        return f"write {name}: it has no actions"
    hint = misfit(action, kind.actions.get(name), "action")
    return hint and hint.replace("write ", f"write {name}.")


def _patterns(node: Node) -> Iterator[tuple[Place, str]]:
    """Yield the texts of a line of match, without null; of regular expressions those that are only text."""
    if isinstance(node, Items):
        for inner in node:
            yield from _patterns(inner)
    elif isinstance(node, Section):
        yield from () if NOT not in node else _patterns(node.named(NOT))
        regex = node.named("regex") if "regex" in node else None
        if isinstance(regex, Scalar) and (start := re.fullmatch(r"\^([\w/-]+)(\$?)", regex)):
            yield regex.place, start[1] + ("" if start[2] else "*")
    elif not isinstance(node, Invalid) and "${{" not in node and not (node.plain and node in WORDS):
        yield node.place, str(node)


def _shown(value: JSON) -> str:
    return value if isinstance(value, str) else json_text(value)


def _field_warning(path: Path, there: int, stop: UnknownStep, what: str) -> tuple[str, str]:
    """Return the warning, and what to write instead. The first `there` steps of the path are known."""
    holder, step = path_text(path.root, path.steps[:there]), path.steps[there]
    if isinstance(stop.holder, tuple) and stop.holder:
        hint = f"for JSON in it write ({holder} | from_json){path_text('', [step])}"
        return f"{holder} is text in every known {what}", hint
    if isinstance(stop.holder, list):
        hint = "write [0] for its first element; in match, [*] for any"
        if step in ("length", "size", "count"):
            hint = f"write {holder} | length in an expression, such as when: {holder} | length == 2"
        return f"{holder} is a list in every known {what}", hint
    if isinstance(stop.holder, tuple):
        return f"{holder} is true or false in every known {what}", f"write {holder}"
    names = {*stop.holder} - {ANY}
    if not isinstance(step, str):
        return f"{holder} is not a list in any known {what}", f"it has: {guess('', names)[1]}"
    meant, known = guess(step, names)
    return f"no known {what} has {path_text(holder, [step])}{meant}", f"{holder} has: {known}"


def _scalars(nodes: Iterable[Node | None]) -> Iterator[Scalar]:
    for node in nodes:
        if isinstance(node, Items):
            yield from _scalars(node)
        elif isinstance(node, Section):
            yield from _scalars(node.values())
        elif node is not None and not isinstance(node, Invalid):
            yield node
