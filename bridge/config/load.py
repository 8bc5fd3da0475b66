"""From a folder or a file of YAML to a RoutingTable, or to every mistake in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.config.build import Builder
from bridge.config.document import Empty, Items, Node, Scalar, Section, read_file
from bridge.config.problem import Place, Problem, Problems
from bridge.config.shapes import (
    LATER,
    ProofShapes,
    RetryShape,
    RouteShape,
    Shape,
    SourceShape,
    TaskShape,
    TheEyeShape,
)
from bridge.errors import ConfigError
from bridge.fields import did_you_mean
from bridge.settings import Secret
from bridge.sources import SourceType
from bridge.table import RoutingTable

S = TypeVar("S", bound=Shape)

_SECTIONS = ("theeye", "sources", "tasks", "routes")


@dataclass(frozen=True)
class Loaded:
    """A table that can be used."""

    table: RoutingTable
    #: Warnings only.
    problems: tuple[Problem, ...]
    #: Every secret in it, for the mask.
    secrets: tuple[Secret, ...] = field(repr=False)


def load(
    config: Path, variables: Mapping[str, str], types: Mapping[str, SourceType], *, require_env: bool = True
) -> Loaded:
    """Read the table at `config`, a folder of YAML files or one file.

    `variables` is what ``${{ env.NAME }}`` reads; an unset one is an error, without `require_env` a warning.
    Raises ConfigError with every problem, warnings included, where there is an error.
    """
    problems = Problems()
    whole = _read_all(config, problems)
    builder = Builder(variables, types, problems, require_env=require_env)
    table = _assemble(whole, builder, problems)
    if table is None or problems.has_errors:
        raise ConfigError(problems.sorted())
    return Loaded(table, problems.sorted(), tuple(builder.secrets))


@dataclass
class _Whole:
    """The sections of all files, as if they were one."""

    place: Place
    theeye: Section | None = None
    sources: dict[Scalar, Node] = field(default_factory=dict)
    tasks: dict[Scalar, Node] = field(default_factory=dict)
    routes: list[Node] = field(default_factory=list)


def _read_all(config: Path, problems: Problems) -> _Whole:
    whole = _Whole(Place(str(config), 1, 1))
    if config.is_dir():
        paths = sorted(
            path
            for path in config.iterdir()
            if path.suffix in (".yml", ".yaml") and not path.name.startswith(".") and path.is_file()
        )
        if not paths:
            problems.error(
                whole.place, "the folder holds no .yml or .yaml file", "put the routing table there"
            )
    elif config.exists():
        paths = [config]
    else:
        paths = []
        problems.error(
            whole.place, "there is no such file or folder", "BRIDGE_CONFIG names the routing table"
        )
    for path in paths:
        node = read_file(path, problems)
        if isinstance(node, Section):
            _add_file(node, whole, problems)
        elif node is not None and not isinstance(node, Empty):
            kind = "a list" if isinstance(node, Items) else "text"
            problems.error(
                node.place, f"the file is {kind}, expected a mapping", f"of {', '.join(_SECTIONS)}"
            )
    return whole


def _add_file(document: Section, whole: _Whole, problems: Problems) -> None:
    for key, node in document.items():
        if isinstance(node, Empty):
            continue
        if key in LATER["the table"]:
            problems.error(key.place, f"{key} is not supported yet", "leave it out")
        elif key not in _SECTIONS:
            guess = did_you_mean(key, _SECTIONS)
            problems.error(key.place, f"unknown key {str(key)!r}{guess}", f"expected {', '.join(_SECTIONS)}")
        elif key == "routes":
            if isinstance(node, Items):
                whole.routes += node
            else:
                problems.error(node.place, "routes must be a list", "begin each route with '- '")
        elif not isinstance(node, Section):
            problems.error(node.place, f"{key} must be a mapping of names, or of keys")
        elif key == "theeye":
            _add_names(node, whole.theeye if whole.theeye is not None else node, problems)
            whole.theeye = whole.theeye if whole.theeye is not None else node
        else:
            _add_names(node, whole.sources if key == "sources" else whole.tasks, problems)


def _add_names(names: Section, into: dict[Scalar, Any], problems: Problems) -> None:
    if names is into:
        return
    for name, node in names.items():
        first = next((other for other in into if other == name), None)
        if first is not None:
            problems.error(name.place, f"{name} is defined twice; first at {first.place}", "leave one out")
        else:
            into[name] = node


def _assemble(whole: _Whole, builder: Builder, problems: Problems) -> RoutingTable | None:
    if whole.theeye is None and not problems.has_errors:
        problems.error(
            whole.place, "theeye is missing", "write theeye: and below it customer: <organization>"
        )
    theeye = _read(TheEyeShape, whole.theeye, "theeye", "theeye", problems)
    for name, node in whole.sources.items():
        if (source := _read(SourceShape, node, "a source", name, problems)) is not None:
            builder.add_source(name, source)
        else:
            builder.broken.add(str(name))
    for name, node in whole.tasks.items():
        if (task := _read(TaskShape, node, "a task", name, problems)) is not None:
            builder.add_task(name, task)
        else:
            builder.broken.add(str(name))
    for node in whole.routes:
        if (route := _read(RouteShape, node, "a route", "task", problems)) is not None:
            builder.add_route(node.place, route)
    if not whole.routes and not problems.has_errors:
        problems.warning(whole.place, "there are no routes: every webhook is stored and makes no job")
    return builder.table(theeye) if theeye is not None else None


def _read(shape: type[S], node: Node | None, where: str, name: str, problems: Problems) -> S | None:
    if node is None or isinstance(node, Empty):
        return None
    if not isinstance(node, Section):
        kind = "a list" if isinstance(node, Items) else "text"
        problems.error(node.place, f"found {kind}, expected the keys of {where}")
        return None
    try:
        return shape.model_validate(node)
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            _report(mistake, node, shape, where, name, problems)
        return None


def _report(
    mistake: ErrorDetails, node: Section, shape: type[Shape], where: str, name: str, problems: Problems
) -> None:
    path = list(_walk(node, mistake["loc"]))
    at = path[-1]
    if isinstance(at, Empty):
        return  # reported where the file was read
    key = str(mistake["loc"][-1]) if mistake["loc"] else ""
    context = mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            holder = path[-2]
            place = holder.key(key).place if isinstance(holder, Section) else at.place
            _report_unknown_key(place, key, _shape_at(shape, mistake["loc"][:-1]), where, problems)
        case "missing":
            problems.error(at.place, f"{key} is missing", f"{where} needs {key}")
        case "literal_secret":
            variable = f"{name}_{key}" if isinstance(mistake["loc"][-1], str) else f"{name}_secret"
            variable = "".join(letter if letter.isalnum() else "_" for letter in variable).upper()
            hint = f"write {key}: ${{{{ env.{variable} }}}} and set the variable {variable}"
            problems.error(at.place, context["message"], hint)
        case "mistake":
            problems.error(at.place, f"{key}: {context['message']}", context["hint"])
        case _:
            problems.error(at.place, f"{key}: expected the keys of a mapping")


def _walk(node: Node, loc: tuple[int | str, ...]) -> Iterator[Node]:
    """The nodes that an error's location leads to, as far as they are in the file."""
    yield node
    for part in loc:
        if isinstance(node, Section) and part in node:
            node = node.named(str(part))
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif not isinstance(part, int):  # where a list may stand, one alone may, too
            return
        yield node


def _shape_at(shape: type[Shape], loc: tuple[int | str, ...]) -> type[Shape]:
    inner: dict[tuple[int | str, ...], type[Shape]] = {("retry",): RetryShape, ("any_of",): ProofShapes}
    return inner.get(loc, shape)


def _report_unknown_key(place: Place, key: str, shape: type[Shape], where: str, problems: Problems) -> None:
    known = [each.alias or name for name, each in shape.model_fields.items()]
    if key in LATER[where]:
        problems.error(place, f"{key} is not supported yet", "leave it out")
    else:
        problems.error(
            place, f"unknown key {key!r}{did_you_mean(key, known)}", f"expected {', '.join(known)}"
        )
