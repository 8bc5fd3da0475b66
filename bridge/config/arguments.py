"""The `task_arguments` of a route, by name or in order, and their check against the task's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from bridge.config.compile import Compiler
from bridge.config.document import Invalid, Items, Node, Scalar, Section
from bridge.config.models import TaskCallModel
from bridge.config.problems import Problems
from bridge.core.event import JSON
from bridge.core.suggestions import closest_match, did_you_mean
from bridge.core.task import Task
from bridge.core.task_arguments import argument_problem
from bridge.expressions.expression import Template
from bridge.routing.route import Argument, Value

T = TypeVar("T")

#: The keys of an argument in TheEye's Job API.
_API_KEYS = {"id", "label", "order", "type", "value"}


class ArgumentsBuilder:
    """Build the arguments of each task call. Mistakes are reported and skipped."""

    def __init__(self, compiler: Compiler, problems: Problems) -> None:
        self._compiler = compiler
        self._error, self._warn = problems.error, problems.warning

    def build(
        self,
        model: TaskCallModel,
        task: Task | None,
        names: tuple[str, ...],
        *,
        allow_data_urls: bool = False,
    ) -> tuple[Argument, ...]:
        """Return the arguments in TheEye's order. Expressions see `names`."""
        given = model.task_arguments
        if isinstance(given, Invalid):
            return ()
        if isinstance(given, Items):
            self._check_shape(given)
        if given is None:
            declared = () if task is None else task.arguments or ()
            wanted = [name for name in declared if name is not None]
            if wanted:
                message = f"task_arguments is missing: the task has {', '.join(wanted)}"
                self._error(model.task.place, message, "write task_arguments:")
            return tuple(Argument(name or "fixed", None) for name in declared)
        ordered = self._ordered(given, task, lambda node: (node, self._compiler.value(node, names)))
        compiled = [(label, *(read or (None, None))) for label, read in ordered]
        if task is not None:
            self._check(given, compiled, task, allow_data_urls=allow_data_urls)
        return tuple(
            Argument(label, value, None if node is None else node.place) for label, node, value in compiled
        )

    def _check(
        self,
        given: Items | Section,
        compiled: list[tuple[str, Node | None, Value]],
        task: Task,
        *,
        allow_data_urls: bool,
    ) -> None:
        """Report arguments that TheEye's agent cannot run with any event."""
        known = tuple(_known(value) for _, _, value in compiled)
        flaws = [
            argument_problem(value, task.arguments_type, allow_data_urls=allow_data_urls) for value in known
        ]
        for (label, node, _), flaw in zip(compiled, flaws, strict=True):
            if node is not None and flaw is not None:
                self._error(node.place, f"{label}: {flaw}")
        together = task.arguments_problem(known, allow_data_urls=allow_data_urls)
        if together is not None and not any(flaws):
            self._error(given.place, together)

    def _check_shape(self, given: Items) -> None:
        """Warn about arguments as TheEye's API writes them, and about a mapping by name with dashes."""
        shapes = [tuple(item) if isinstance(item, Section) else () for item in given]
        for item, keys in zip(given, shapes, strict=True):
            if "value" in keys and {"order", "label"} & {*keys} and {*keys} <= _API_KEYS:
                message = "the argument is an object, with TheEye's order, label and value inside"
                value = item.named("value")
                line = f"- {value}" if isinstance(value, Scalar) else "only the value"
                self._warn(item.place, message, f"write {line}")
        (only, *others) = given or [None]
        if isinstance(only, Section) and not others and len(only) == 1:
            (key,) = only
            # Braces say that an object is meant.
            if only.place == key.place and isinstance(only[key], Scalar) and "${{" in str(only[key]):
                message = f"the argument is an object with the name {key}"
                self._warn(only.place, message, f"write - {only[key]}")
        names = [keys[0] for keys in shapes if len(keys) == 1]
        if len(set(names)) == len(given) > 1:
            message = f"each argument is an object with one name: {', '.join(names)}"
            hint = "to name arguments, remove the dashes, and list the names under arguments: of the task"
            self._warn(given.place, message, hint)

    def expected(self, given: Items | Section, task: Task, read: Callable[[Node], JSON]) -> tuple[JSON, ...]:
        """Return the arguments that a test expects, in TheEye's order, each through `read`."""
        return tuple(value for _, value in self._ordered(given, task, read))

    def _ordered(
        self, given: Items | Section, task: Task | None, read: Callable[[Node], T]
    ) -> Iterable[tuple[str, T | None]]:
        """Return the values with their names or numbers in TheEye's order; None for a fixed one."""
        declared = None if task is None else task.arguments
        if isinstance(given, Section):
            named = {str(key): read(node) for key, node in given.items()}
            return self._by_name(given, named, declared, task_is_known=task is not None)
        values = [read(item) for item in given]
        if declared is None:
            return [(f"argument {number}", value) for number, value in enumerate(values, 1)]
        return self._in_order(given, values, declared)

    def _in_order(
        self, given: Items, values: list[T], declared: tuple[str | None, ...]
    ) -> Iterable[tuple[str, T | None]]:
        wanted = [name for name in declared if name is not None]
        if len(values) != len(wanted):
            listed = ", ".join(wanted) or "none"
            message = f"found {len(values)} task_arguments, expected {len(wanted)}: {listed}"
            self._error(given.place, message, "the task's key arguments: sets their number and order")
            return ()
        left = iter(values)
        return [(name or "fixed", next(left) if name is not None else None) for name in declared]

    def _by_name(
        self,
        given: Section,
        values: dict[str, T],
        declared: tuple[str | None, ...] | None,
        *,
        task_is_known: bool,
    ) -> Iterable[tuple[str, T | None]]:
        if declared is None:
            if task_is_known:
                message = "task_arguments is a mapping, but the task has no argument names"
                self._error(given.place, message, "write arguments: [first, …] on the task, or a list here")
            return ()
        if "" in declared:
            return ()  # one of the names is wrong
        wanted = [name for name in declared if name is not None]
        meant: set[str | None] = set()
        for key in given:
            if key not in wanted:
                meant.add(closest_match(key, wanted))
                guess = did_you_mean(key, wanted)
                hint = f"arguments: {', '.join(wanted) or 'none'}"
                self._error(key.place, f"the task has no argument {str(key)!r}{guess}", hint)
        missing = [name for name in wanted if name not in values and name not in meant]
        if missing and given.complete:
            message = f"task_arguments lacks {', '.join(missing)}"
            self._error(given.place, message, "write null for an argument without a value")
        return [(name or "fixed", values.get(name) if name is not None else None) for name in declared]


def _known(value: Value) -> JSON:
    """Return the constant part of an argument: each text up to its first expression."""
    if isinstance(value, Template):
        return value.text.partition("${{")[0]
    if isinstance(value, tuple):
        return [_known(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    return value
