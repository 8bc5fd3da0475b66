"""What is legal in a table but probably not meant: warnings, which change nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bridge.config.compile import Compiler
from bridge.config.document import Empty, Items, Node, Scalar, Section
from bridge.config.problems import Problems, guess
from bridge.config.readers import found
from bridge.config.shapes import RouteShape
from bridge.errors import OverBudget
from bridge.expressions import Expression, Template
from bridge.fields import EVENT_NAMES, Each, Path, Step, closest, did_you_mean, path_text
from bridge.problem import Place
from bridge.sources import EVERY_EVENT, Source
from bridge.sources.payloads import Inside, Stop, follow

Steps = tuple[Step, ...]

#: What makes a pattern more than the name of an event.
_SPECIAL = re.compile(r"[*?\\]|\$\{\{")


class Adviser:
    """Warns of one route after the other. What cannot be compiled is reported elsewhere, too, and once."""

    def __init__(self, compiler: Compiler, problems: Problems) -> None:
        self._compiler = compiler
        self._problems = problems

    def of_route(self, place: Place, shape: RouteShape, source: Source, names: tuple[str, ...]) -> None:
        """`names` are those that its expressions see."""
        events = [event for event in shape.event or () if not isinstance(event, Empty)]
        for event in events:
            self._of_event(event, source)
        advice = source.type.advice(tuple(map(str, events)), loops=shape.loop is not None)
        if advice is not None:
            self._problems.warning(shape.event[0].place if shape.event else place, *advice)
        if shape.match is not None and not shape.match and shape.match.complete:
            hint = "write what must hold, such as payload.ref: refs/heads/main, or leave it out"
            self._problems.warning(shape.match.place, "match is empty: it asks for nothing", hint)
        if shape.when is not None:
            self._of_when(shape.when, names)
        self._of_fields(shape, source, names)

    def of_test(self, event: Scalar, source: Source) -> None:
        """A test that expects nothing would pass with any name. One of a handshake is none of a route."""
        if not isinstance(event, Empty) and event not in source.type.handshakes:
            self._of_event(event, source)

    def _of_event(self, event: Scalar, source: Source) -> None:
        """Of a name that the sender is not known to have: only a warning, since senders add events."""
        known, handshakes = source.type.events, source.type.handshakes
        if event in handshakes:
            message = f"{event} is a test or confirmation of the sender's: no route is asked about it"
            self._problems.warning(event.place, message, "leave it out; the bridge answers it by itself")
        elif several := _several(event, known):
            hint = f"for any of several write a list: [{', '.join(several)}]"
            self._problems.warning(event.place, f"found {found(event)}, expected one event", hint)
        elif known and not _is_known(event, known):
            # Names of several words share some of them, which makes others look close.
            words = (event, event.partition(".")[0])
            guesses = (did_you_mean(word, known, sure=" " in word) for word in words)
            meant = next(filter(None, guesses), "")
            message = f"{source.type.name} has no event {found(event)} that is known{meant}"
            self._problems.warning(
                event.place, message, "docs/reference/sources.md lists them; senders add some"
            )
        elif event != event.strip():
            message = f"the event {found(event)} begins or ends with a blank, which no sender's does"
            self._problems.warning(event.place, message, "leave the blank out")

    def _of_when(self, when: Scalar, names: tuple[str, ...]) -> None:
        expression = self._compiler.condition(when, names)
        if expression is not None and not expression.names:
            try:
                always = "true" if expression.holds({})[0] else "false"
            except OverBudget:
                always = "over the budget of an event"
            hint = "compare a field, as in payload.ref == 'refs/heads/main'; text alone is true"
            self._problems.warning(when.place, f"when reads no field: it is always {always}", hint)

    def _of_fields(self, shape: RouteShape, source: Source, names: tuple[str, ...]) -> None:
        """Of a field that no known webhook has that the route wants, and of a loop over what is no list."""
        payloads = _payloads(shape.event, source)
        if not payloads:
            return
        what = f"{' or '.join(shape.event or ('webhook',))} of {source.type.name}"
        looped = None if shape.loop is None else self._items(shape.loop)
        if shape.loop is not None and looped is not None:
            self._of_field(shape.loop, looped, (), payloads, what)
        for scalar, path, guarded in self._read(shape, names):
            if path.root == "payload":
                self._of_field(scalar, path, (), payloads, what, guarded=guarded)
            elif path.root == "item" and looped is not None:
                self._of_field(scalar, path, looped.steps, payloads, what, guarded=guarded)

    def _items(self, loop: Scalar) -> Path | None:
        """The path of a loop's items, where it is over a field of the payload and nothing else."""
        expression = self._compiler.condition(loop, EVENT_NAMES)
        if expression is None or [path.text for path in expression.paths] != [expression.text]:
            return None
        (path,) = expression.paths
        return Path(path.text, path.root, (*path.steps, Each())) if path.root == "payload" else None

    def _of_field(
        self, scalar: Scalar, path: Path, before: Steps, payloads: list[Inside], what: str,
        *, guarded: bool = False,
    ) -> None:  # fmt: skip
        """`before` are the steps from the payload to where `path` begins.

        What is `guarded` may be missing: of that only what is misspelt is reported.
        """
        stops = [follow(payload, (*before, *path.steps)) for payload in payloads]
        if None in stops:
            return
        stop = max((stop for stop in stops if stop is not None), key=lambda each: each.steps)
        if stop.steps < len(before):
            return  # what the loop is over is reported
        if guarded and _may_be_there(path.steps[stop.steps - len(before)], stop):
            return
        at = re.search(re.escape(path.text) + r"(?!\w)", scalar)
        place = scalar.at(at.start() if at else 0)
        self._problems.warning(place, *_said(path, stop.steps - len(before), stop, what))

    def _read(self, shape: RouteShape, names: tuple[str, ...]) -> Iterator[tuple[Scalar, Path, bool]]:
        """Every path that the route reads, with the scalar it stands in, and whether it may be missing."""
        for key in shape.match or ():
            path = self._compiler.path(key, names)
            if path is not None:
                yield key, path, False
        if shape.when is not None:
            yield from _paths(shape.when, self._compiler.condition(shape.when, names))
        group = None if shape.concurrency is None else shape.concurrency.group
        for scalar in _scalars([shape.task_arguments, group, shape.once_key]):
            if "${{" in scalar:
                yield from _paths(scalar, self._compiler.template(scalar, names))


def _paths(scalar: Scalar, read: Expression | Template | None) -> Iterator[tuple[Scalar, Path, bool]]:
    for path in () if read is None else read.paths:
        yield scalar, path, read is not None and path in read.guarded


def _may_be_there(step: Step, stop: Stop) -> bool:
    """Whether it is a field that some webhook could have, and no misspelt one."""
    if isinstance(stop.holder, list) or not isinstance(step, str):
        return False
    return closest(step, stop.holder, sure=True) is None


def _is_known(event: str, known: Iterable[str]) -> bool:
    """Whether the name, or what a glob begins with, is one of `known`, or one with an action."""
    special = _SPECIAL.search(event)
    start = event if special is None else event[: special.start()]
    return any(
        start.startswith(f"{name}.") or (name == start if special is None else name.startswith(start))
        for name in known
    )


def _several(event: str, known: Iterable[str]) -> list[str]:
    """The known events that stand in one text, as other tools write a list; none where that is no list."""
    for between in (r"\s*(?:,|\|+|\bor\b)\s*", r"\s+"):
        names = re.split(between, event.strip())
        if len(names) > 1 and all(name[:1].isalpha() and _is_known(name, known) for name in names):
            return names
    return []


def _payloads(events: tuple[Scalar, ...] | None, source: Source) -> list[Inside]:
    """What is known of the payloads of each event that a route wants; nothing where one is not known."""
    fields = source.type.fields
    if any(_several(event, source.type.events) for event in events or ()):
        return []
    if EVERY_EVENT in fields:
        return [fields[EVERY_EVENT]]
    wanted = events or [event for event in source.type.events if event not in source.type.handshakes]
    payloads = [fields.get(event) or fields.get(event.rpartition(".")[0]) for event in wanted]
    return [] if None in payloads else payloads


def _said(path: Path, there: int, stop: Stop, what: str) -> tuple[str, str]:
    """The warning, and what to write instead; `there` is how many steps of the path are known."""
    holder, step = path_text(path.root, path.steps[:there]), path.steps[there]
    if isinstance(stop.holder, list):
        hint = "write [0] for its first element; in match, [*] for any"
        return f"{holder} is a list in every known {what}", hint
    if not isinstance(step, str):
        return f"{holder} is no list in any known {what}", f"it has: {guess('', stop.holder)[1]}"
    meant, known = guess(step, stop.holder)
    return f"no known {what} has {path_text(holder, [step])}{meant}", f"{holder} has: {known}"


def _scalars(nodes: Iterable[Node | None]) -> Iterator[Scalar]:
    for node in nodes:
        if isinstance(node, Items):
            yield from _scalars(node)
        elif isinstance(node, Section):
            yield from _scalars(node.values())
        elif node is not None and not isinstance(node, Empty):
            yield node
