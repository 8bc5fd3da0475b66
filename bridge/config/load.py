"""From a folder or a file of YAML to a RoutingTable, or to every mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.config.build import Builder
from bridge.config.document import Empty, Items, Node, Scalar, Section, odd_blank_hint, read_file
from bridge.config.env import variable_name
from bridge.config.files import files
from bridge.config.models import (
    LATER,
    BasicAuthShape,
    ConcurrencyShape,
    OrderShape,
    ProofShapes,
    RetryShape,
    RouteShape,
    Shape,
    SignatureShape,
    SourceShape,
    TaskShape,
    TheEyeShape,
)
from bridge.config.problems import Problems
from bridge.config.readers import found
from bridge.config.routing_tests import ExpectedShape, RoutingTestShape
from bridge.config.sections import TableShape
from bridge.core.errors import ConfigError
from bridge.core.job import TableVersion
from bridge.core.problem import Place, Problem
from bridge.core.secrets import Secret
from bridge.core.suggestions import closest_match
from bridge.dry_run.routing_test import RoutingTest
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source_type import SourceType

S = TypeVar("S", bound=Shape)

_SECTIONS = tuple(TableShape.model_fields)
#: Hex digits of the table's hash: few enough to read out, enough to tell tables apart.
_HASH_LENGTH = 16
#: What keys of a route and of a task are called in other tools.
_ELSEWHERE = {
    "on": "event", "if": "when", "key": "secret_key",
    **dict.fromkeys(("args", "inputs", "params", "with"), "task_arguments"),
}  # fmt: skip
#: What to write where a key holds what other tools take there.
_INSTEAD = {
    ("when", "a list"): "write one text, with and between the conditions",
    ("match", "a list"): "write its lines without dashes; all of them must hold",
    ("match", "text"): "write a field and its value, as in payload.ref: main; an expression stands in when:",
    ("concurrency", "text"): "write the text below it, under group:",
}


@dataclass(frozen=True)
class Loaded:
    """A table that can be used."""

    table: RoutingTable
    #: Warnings only.
    problems: tuple[Problem, ...]
    #: Every secret in it, for the mask.
    secrets: tuple[Secret, ...] = field(repr=False)
    version: TableVersion
    #: Its tests, where they were asked for.
    tests: tuple[RoutingTest, ...] = ()


def load(
    config: Path,
    variables: Mapping[str, str],
    types: Mapping[str, SourceType],
    *,
    require_env: bool = True,
    with_tests: bool = False,
    commit: str | None = None,
) -> Loaded:
    """Read the table at `config`, a folder of YAML files or one file; `commit` is that of its checkout.

    `variables` is what ``${{ env.NAME }}`` reads; an unset one is an error, without `require_env` a warning.
    Only `with_tests` are the files read that its tests name: a server may lack them.
    Raises ConfigError with every problem, warnings included, where there is an error.
    """
    problems = Problems()
    digest = sha256()
    whole = _read_all(config, problems, digest.update)
    version = TableVersion(digest.hexdigest()[:_HASH_LENGTH], commit)
    builder = Builder(
        variables, types, problems, version,
        require_env=require_env, complete=whole.complete, read_payloads=with_tests,
    )  # fmt: skip
    table = _assemble(whole, builder, problems)
    if table is None or problems.has_errors:
        raise ConfigError(problems.sorted())
    return Loaded(table, problems.sorted(), tuple(builder.secrets), version, tuple(builder.tests))


@dataclass
class _Whole:
    """The sections of all files, as if they were one."""

    place: Place
    sources: Section
    tasks: Section
    theeye: Section | None = None
    on_dead: Section | None = None
    routes: list[Node] = field(default_factory=list)
    tests: list[Node] = field(default_factory=list)
    #: Whether every part could be read: else nothing is said about what is not there.
    complete: bool = True


def _read_all(config: Path, problems: Problems, seen: Callable[[bytes], object]) -> _Whole:
    """`seen` gets the bytes of each file."""
    place = Place(str(config), 1, 1)
    whole = _Whole(place, Section(place), Section(place))
    paths = _files(config, place, problems)
    whole.complete = bool(paths)
    for path in paths:
        node = read_file(path, problems, seen)
        if isinstance(node, Section):
            _add_file(node, whole, problems)
            continue
        whole.complete = False
        if node is not None and not isinstance(node, Empty):
            problems.error(
                node.place, f"the file is {_kind(node)}, expected a mapping", f"of {', '.join(_SECTIONS)}"
            )
    return whole


def _files(config: Path, place: Place, problems: Problems) -> list[Path]:
    """The files of the table in their order; none, reported, where there is none."""
    try:
        paths = files(config)
    except OSError as error:
        problems.error(place, f"the routing table cannot be read: {error.strerror}")
        return []
    if not config.exists():
        problems.error(place, "there is no such file or folder", "BRIDGE_CONFIG names the routing table")
    elif not paths:
        problems.error(place, "the folder holds no .yml or .yaml file", "put the routing table there")
    return paths


def _add_file(document: Section, whole: _Whole, problems: Problems) -> None:
    whole.complete = whole.complete and document.complete
    for key, node in document.items():
        if key in LATER["the table"]:
            problems.error(key.place, f"{key} is not supported yet", "leave it out")
        elif (name := closest_match(key, _SECTIONS)) is None:
            problems.error(key.place, f"unknown key {str(key)!r}", f"expected {', '.join(_SECTIONS)}")
            whole.complete = False
        else:
            if name != key:
                hint = f"expected {', '.join(_SECTIONS)}"
                problems.error(key.place, f"unknown key {str(key)!r}; did you mean {name}?", hint)
            _add_section(name, node, whole, problems)


def _add_section(name: str, node: Node, whole: _Whole, problems: Problems) -> None:
    lists = {"routes": whole.routes, "tests": whole.tests}
    if name in lists and isinstance(node, Items):
        lists[name] += node
    elif name not in lists and isinstance(node, Section):
        whole.complete = whole.complete and node.complete
        if name == "theeye":
            whole.theeye = Section(node.place) if whole.theeye is None else whole.theeye
            _add_names(node, whole.theeye, problems)
        elif name == "on_dead":
            whole.on_dead = Section(node.place) if whole.on_dead is None else whole.on_dead
            _add_names(node, whole.on_dead, problems)
        else:
            _add_names(node, whole.sources if name == "sources" else whole.tasks, problems)
    else:
        whole.complete = False
        if isinstance(node, Empty):
            return  # reported where the file was read
        if name in lists:
            problems.error(node.place, f"{name} must be a list", f"begin each {name[:-1]} with '- '")
        else:
            problems.error(node.place, f"{name} must be a mapping of names, or of keys", _key_hint(node))


def _add_names(names: Section, into: Section, problems: Problems) -> None:
    for name, node in names.items():
        if name in into:
            first = into.key(name).place
            problems.error(name.place, f"{name} is defined twice; first at {first}", "leave one out")
        else:
            into[name] = node


def _assemble(whole: _Whole, builder: Builder, problems: Problems) -> RoutingTable | None:
    if whole.theeye is None and whole.complete:
        problems.error(
            whole.place, "theeye is missing", "write theeye: and below it customer: <organization>"
        )
    theeye = _read(TheEyeShape, whole.theeye, "theeye", "theeye", problems)
    builder.add_theeye(theeye)
    for name, node in whole.sources.items():
        builder.add_source(name, _read(SourceShape, node, "a source", name, problems))
    for name, node in whole.tasks.items():
        builder.add_task(name, _read(TaskShape, node, "a task", name, problems))
    for node in whole.routes:
        builder.add_route(node.place, _read(RouteShape, node, "a route", "task", problems))
    for node in whole.tests:
        if (test := _read(RoutingTestShape, node, "a test", "test", problems)) is not None:
            builder.add_test(node.place, test)
    builder.add_on_dead(_read(OrderShape, whole.on_dead, "on_dead", "on_dead", problems))
    if not whole.routes and not problems.has_errors:
        problems.warning(whole.place, "there are no routes: every webhook is stored and makes no job")
    elif not problems.has_errors:
        builder.advise()
    return builder.table()


def _read(shape: type[S], node: Node | None, where: str, name: str, problems: Problems) -> S | None:
    """The shape of `node`, in which an Empty stands for each value that is wrong and reported.

    None where too much is wrong for more to be said.
    """
    if node is None or isinstance(node, Empty):
        return None
    if not isinstance(node, Section):
        problems.error(node.place, f"found {_kind(node)}, expected the keys of {where}", _key_hint(node))
        return None
    guessed: set[str] = set()
    while True:
        try:
            return shape.model_validate(node)
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        # First what unknown keys stand for: what seems missing may be there, misspelt.
        unknown = [mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"]
        for mistake in unknown:
            guessed |= _set_right(mistake, node, shape, where, problems)
        if unknown:
            continue
        for mistake in mistakes:
            _report(mistake, node, where, name, guessed, problems)
        passed_over = [_pass_over(mistake, node) for mistake in mistakes]
        if not all(passed_over):
            return None


def _set_right(
    mistake: ErrorDetails, node: Section, shape: type[Shape], where: str, problems: Problems
) -> set[str]:
    """Report an unknown key, and take it for the one that was probably meant, or leave it out.

    What it was taken for.
    """
    *path, key = mistake["loc"]
    holder = list(_walk(node, path))[-1]
    assert isinstance(holder, Section) and isinstance(key, str)  # noqa: S101 - it has a key
    place = holder.key(key).place
    inner: dict[int | str, type[Shape]] = {
        "retry": RetryShape, "any_of": ProofShapes, "basic_auth": BasicAuthShape,
        "signature": SignatureShape, "concurrency": ConcurrencyShape,
        "expect": ExpectedShape,
    }  # fmt: skip
    held = next((inner[part] for part in reversed(path) if part in inner), shape)
    known = [each.alias or name for name, each in held.model_fields.items()]
    meant = _ELSEWHERE.get(key) if _ELSEWHERE.get(key) in known else closest_match(key, known)
    if key in LATER[where]:
        problems.error(place, f"{key} is not supported yet", "leave it out")
        meant = None
    else:
        # Among proofs what is no misspelt key may be a secret.
        shown = f" {key!r}" if meant or held not in (ProofShapes, BasicAuthShape, SignatureShape) else ""
        guess = f"; did you mean {meant}?" if meant else ""
        problems.error(place, f"unknown key{shown}{guess}", f"expected {', '.join(known)}")
    if meant is None or meant in holder:
        holder.remove(key)
        return set()
    if closest_match(key, known, sure=True) is None:
        holder[holder.key(key)] = Empty.at_place(place)
    holder.rename(key, meant)
    return {meant}


def _report(
    mistake: ErrorDetails, node: Section, where: str, name: str, guessed: set[str], problems: Problems
) -> None:
    """Report one mistake of pydantic's. Under a key that was only guessed, no value is shown."""
    at = list(_walk(node, mistake["loc"]))[-1]
    if isinstance(at, Empty) or (isinstance(at, Scalar) and at.cut):
        return  # reported where the file was read
    keys = [part for part in mistake["loc"] if isinstance(part, str)]
    context = mistake.get("ctx", {})
    instead = _INSTEAD.get((keys[-1], _kind(at))) if keys else None
    match mistake["type"]:
        case "missing":
            problems.error(at.place, f"{keys[-1]} is missing", f"{[where, *keys][-2]} needs {keys[-1]}")
        case "literal_secret":
            variable = variable_name(name, keys[-1])
            hint = f"write {keys[-1]}: ${{{{ env.{variable} }}}} and set the variable {variable}"
            problems.error(at.place, context["message"], hint)
        case "mistake":
            message = str(context["message"])
            if not guessed.isdisjoint(keys):
                message = message.replace(found(at), "'…'")
            problems.error(context["at"] or at.place, f"{keys[-1]}: {message}", context["hint"] or instead)
        case _:
            problems.error(at.place, f"{keys[-1]}: found {_kind(at)}, expected a mapping", instead)


def _kind(node: Node) -> str:
    """What stands there, without showing it: it may be a secret."""
    return "a list" if isinstance(node, Items) else "text"


def _key_hint(node: Node) -> str | None:
    """What to write where text stands for keys."""
    if not isinstance(node, Scalar):
        return None
    return odd_blank_hint(node) or "write key: value, with a space after the colon"


def _pass_over(mistake: ErrorDetails, node: Section) -> bool:
    """Let an Empty stand for what is wrong or missing; False where one does and that is not enough."""
    holder, key, at = list(_steps(node, mistake["loc"]))[-1]
    empty = Empty.at_place(at.place)
    if mistake["type"] == "missing" and isinstance(at, Section):
        at.put(str(mistake["loc"][-1]), at.place, empty)
    elif isinstance(holder, Section) and not isinstance(at, Empty):
        holder[holder.key(str(key))] = empty
    elif isinstance(holder, Items) and isinstance(key, int) and not isinstance(at, Empty):
        holder[key] = empty
    else:
        return False
    return True


def _walk(node: Node, loc: Iterable[int | str]) -> Iterator[Node]:
    """The nodes that an error's location leads to, as far as they are in the file."""
    return (at for _, _, at in _steps(node, loc))


def _steps(node: Node, loc: Iterable[int | str]) -> Iterator[tuple[Node | None, int | str, Node]]:
    """The same with what holds each node, and under which key or number."""
    holder: Node | None = None
    key: int | str = ""
    yield holder, key, node
    for part in loc:
        if isinstance(node, Section) and part in node:
            holder, key, node = node, part, node.named(str(part))
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node):
            holder, key, node = node, part, node[part]
        elif not isinstance(part, int):  # where a list may stand, one alone may, too
            return
        yield holder, key, node
