"""Load a folder or a file of YAML as a RoutingTable, or report every mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.config.build import TableBuilder
from bridge.config.document import (
    Invalid,
    Items,
    Node,
    Scalar,
    Section,
    read_content,
    read_file,
)
from bridge.config.env import variable_in, variable_name
from bridge.config.files import table_files
from bridge.config.models import (
    BasicAuthModel,
    ConcurrencyModel,
    Model,
    ProofsModel,
    RetryModel,
    RouteModel,
    SignatureModel,
    SourceModel,
    TaskCallModel,
    TaskModel,
    TheEyeModel,
)
from bridge.config.other_tools import (
    INSTEAD_OF_KEY,
    INSTEAD_OF_SECTION,
    INSTEAD_OF_VALUE,
    NAMED_ELSEWHERE,
)
from bridge.config.problems import Problems
from bridge.config.readers import describe
from bridge.config.routing_tests import ExpectedJobModel, RoutingTestModel
from bridge.config.sections import TableModel
from bridge.config.syntax_hints import odd_blank_hint
from bridge.core.errors import ConfigError
from bridge.core.job import TableVersion
from bridge.core.problem import Place, Problem
from bridge.core.secrets import Secret
from bridge.core.suggestions import closest_match
from bridge.dry_run.routing_test import RoutingTest
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source_type import SourceType

M = TypeVar("M", bound=Model)

_SECTIONS = tuple(TableModel.model_fields)
#: Hex digits of the table's hash.
_HASH_LENGTH = 16


@dataclass(frozen=True)
class Loaded:
    """A valid table."""

    table: RoutingTable
    #: Warnings only.
    problems: tuple[Problem, ...]
    #: Every secret of the table, for the mask.
    secrets: tuple[Secret, ...] = field(repr=False)
    version: TableVersion
    #: Its tests, if requested.
    tests: tuple[RoutingTest, ...] = ()


def load(
    config: Path,
    variables: Mapping[str, str],
    types: Mapping[str, SourceType],
    *,
    require_env: bool = True,
    with_tests: bool = False,
    commit: str | None = None,
    added: Mapping[str, bytes] | None = None,
) -> Loaded:
    """Read the table at `config`, a folder of YAML files or one file, from the checkout of `commit`.

    ``${{ env.NAME }}`` reads `variables`. An unset one is an error, or a warning without `require_env`.
    The payload files of tests are read only `with_tests`, since a server may lack them. `added` has the
    contents of further files by their names, which need not exist.
    Raises ConfigError with every error and warning if there is an error.
    """
    problems = Problems()
    digest = sha256()
    sections = _read_all(config, problems, digest.update, added or {})
    version = TableVersion(digest.hexdigest()[:_HASH_LENGTH], commit)
    builder = TableBuilder(
        variables, types, problems, version,
        require_env=require_env, complete=sections.complete, read_payloads=with_tests,
    )  # fmt: skip
    table = _assemble(sections, builder, problems)
    if table is None or problems.has_errors:
        raise ConfigError(problems.sorted())
    return Loaded(table, problems.sorted(), tuple(builder.secrets), version, tuple(builder.tests))


#: The sections that are lists. The others are mappings, which may be in several files.
_LISTS = ("routes", "tests")


@dataclass
class _Sections:
    """The sections of all files, merged."""

    place: Place
    mappings: dict[str, Section] = field(default_factory=dict)
    lists: dict[str, list[Node]] = field(default_factory=lambda: {name: [] for name in _LISTS})
    #: Whether every part could be read. Otherwise missing parts are not reported.
    complete: bool = True

    def named(self, name: str) -> Iterable[tuple[Scalar, Node]]:
        """Return the names and values of a mapping."""
        return self.mappings.get(name, Section(self.place)).items()


def _read_all(
    config: Path, problems: Problems, seen: Callable[[bytes], object], added: Mapping[str, bytes]
) -> _Sections:
    """Return the sections of all files. `seen` is called with the bytes of each file on disk."""
    place = Place(str(config), 1, 1)
    sections = _Sections(place)
    paths = _files(config, place, problems)
    sections.complete = bool(paths)
    nodes = [read_file(path, problems, seen) for path in paths]
    nodes += [read_content(name, content, problems) for name, content in added.items()]
    for node in nodes:
        if isinstance(node, Section):
            _add_file(node, sections, problems)
            continue
        sections.complete = False
        if node is not None and not isinstance(node, Invalid):
            problems.error(
                node.place, f"the file is {_kind(node)}, expected a mapping", f"of {', '.join(_SECTIONS)}"
            )
    return sections


def _files(config: Path, place: Place, problems: Problems) -> list[Path]:
    """Return the files of the table in order. A table without files is reported."""
    try:
        paths = table_files(config)
    except OSError as error:
        problems.error(place, f"the routing table cannot be read: {error.strerror}")
        return []
    if not config.exists():
        where = "" if config.is_absolute() else f" in {Path.cwd()}"
        hint = "run `theeye-bridge init`, or set BRIDGE_CONFIG to the routing table"
        problems.error(Place(str(config), 0, 0), f"no such file or folder{where}", hint)
    elif not paths:
        problems.error(place, "the folder has no .yml or .yaml file", "put the routing table there")
    return paths


def _add_file(document: Section, sections: _Sections, problems: Problems) -> None:
    sections.complete = sections.complete and document.complete
    for key, node in document.items():
        if key in INSTEAD_OF_SECTION or (name := closest_match(key, _SECTIONS)) is None:
            hint = INSTEAD_OF_SECTION.get(key, f"expected {', '.join(_SECTIONS)}")
            problems.error(key.place, f"unknown key {str(key)!r}", hint)
            sections.complete = False
        else:
            if name != key:
                hint = f"expected {', '.join(_SECTIONS)}"
                problems.error(key.place, f"unknown key {str(key)!r}; did you mean {name}?", hint)
            _add_section(name, node, sections, problems)


def _add_section(name: str, node: Node, sections: _Sections, problems: Problems) -> None:
    if name in _LISTS and isinstance(node, Items):
        sections.lists[name] += node
    elif name not in _LISTS and isinstance(node, Section):
        sections.complete = sections.complete and node.complete
        _add_names(node, sections.mappings.setdefault(name, Section(node.place)), problems)
    else:
        sections.complete = False
        if isinstance(node, Invalid):
            return  # already reported
        if name in _LISTS:
            problems.error(node.place, f"{name} must be a list", f"begin each {name[:-1]} with '- '")
        else:
            problems.error(node.place, f"{name} must be a mapping", _key_hint(node))


def _add_names(names: Section, into: Section, problems: Problems) -> None:
    for name, node in names.items():
        if name in into:
            first = into.key(name).place
            problems.error(name.place, f"{name} is defined twice; first at {first}", "remove one of them")
        else:
            into[name] = node


def _assemble(sections: _Sections, builder: TableBuilder, problems: Problems) -> RoutingTable | None:
    if "theeye" not in sections.mappings and sections.complete:
        problems.error(
            sections.place, "theeye is missing", "write theeye: and below it customer: <organization>"
        )
    theeye = _read(TheEyeModel, sections.mappings.get("theeye"), "theeye", "theeye", problems)
    builder.add_theeye(theeye)
    for name, node in sections.named("sources"):
        builder.add_source(name, _read(SourceModel, node, "a source", name, problems))
    for name, node in sections.named("tasks"):
        builder.add_task(name, _read(TaskModel, node, "a task", name, problems))
    for node in sections.lists["routes"]:
        builder.add_route(node.place, _read(RouteModel, node, "a route", "task", problems))
    for node in sections.lists["tests"]:
        if (test := _read(RoutingTestModel, node, "a test", "test", problems)) is not None:
            builder.add_test(node.place, test)
    for alert in ("on_dead", "on_silence"):
        builder.add_alert(alert, _read(TaskCallModel, sections.mappings.get(alert), alert, alert, problems))
    if not sections.lists["routes"] and not problems.has_errors:
        problems.warning(sections.place, "there are no routes: every webhook is stored and creates no job")
    elif not problems.has_errors:
        builder.advise()
    return builder.table()


def _read(model: type[M], node: Node | None, where: str, name: str, problems: Problems) -> M | None:
    """Return the model of `node`, with Invalid for each reported value, or None if that is not possible.

    Each round reports the mistakes that pydantic finds and replaces their values, so that a file's other
    mistakes are reported too.
    """
    if node is None or isinstance(node, Invalid):
        return None
    if not isinstance(node, Section):
        problems.error(node.place, f"found {_kind(node)}, expected the keys of {where}", _key_hint(node))
        return None
    guessed: set[str] = set()
    while True:
        try:
            return model.model_validate(node)
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        # Unknown keys first: a key that seems missing may be misspelt.
        unknown = [mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"]
        for mistake in unknown:
            guessed |= _correct_key(mistake, node, model, name, problems)
        if unknown:
            continue
        for mistake in mistakes:
            _report(mistake, node, where, name, guessed, problems)
        replaced = [_replace_with_invalid(mistake, node) for mistake in mistakes]
        if not all(replaced):
            return None


def _correct_key(
    mistake: ErrorDetails, node: Section, model: type[Model], name: str, problems: Problems
) -> set[str]:
    """Report an unknown key, and rename it to the key that it probably means, or remove it.

    Return that key.
    """
    *path, key = mistake["loc"]
    _, _, holder = _locate(node, path)
    assert isinstance(holder, Section) and isinstance(key, str)  # noqa: S101 - it has a key
    place = holder.key(key).place
    inner: dict[int | str, type[Model]] = {
        "retry": RetryModel, "any_of": ProofsModel, "basic_auth": BasicAuthModel,
        "signature": SignatureModel, "concurrency": ConcurrencyModel,
        "expect": ExpectedJobModel,
    }  # fmt: skip
    owner = next((inner[part] for part in reversed(path) if part in inner), model)
    known = [each.alias or field for field, each in owner.model_fields.items()]
    expected, base = f"expected {', '.join(known)}", key.removesuffix("_file")
    if key in INSTEAD_OF_KEY and NAMED_ELSEWHERE.get(key) not in known:
        problems.error(place, f"unknown key {key!r}", INSTEAD_OF_KEY[key])
        holder.remove(key)
        return set()
    if base != key and base in known:
        variable = variable_name(name, base)
        expected = f"write {base}: ${{{{ env.{variable} }}}} and set the variable {variable}_FILE to the path"
        holder[holder.key(key)] = Invalid.at_place(place)
    meant = NAMED_ELSEWHERE.get(key) if NAMED_ELSEWHERE.get(key) in known else closest_match(key, known)
    if owner is SourceModel and key in SignatureModel.model_fields:
        expected = f"write signature: {{{key}: …}}"
    # An unknown key beside credentials may itself be a secret.
    shown = f" {key!r}" if meant or owner not in (ProofsModel, BasicAuthModel, SignatureModel) else ""
    guess = f"; did you mean {meant}?" if meant else ""
    problems.error(place, f"unknown key{shown}{guess}", expected)
    if meant is None or meant in holder:
        holder.remove(key)
        return set()
    if closest_match(key, known, sure=True) is None:
        holder[holder.key(key)] = Invalid.at_place(place)
    holder.rename(key, meant)
    return {meant}


def _report(
    mistake: ErrorDetails, node: Section, where: str, name: str, guessed: set[str], problems: Problems
) -> None:
    """Report a mistake that pydantic found. The value of a `guessed` key is not shown."""
    _, _, at = _locate(node, mistake["loc"])
    if isinstance(at, Invalid) or (isinstance(at, Scalar) and at.cut):
        return  # already reported
    keys = [part for part in mistake["loc"] if isinstance(part, str)]
    context = mistake.get("ctx", {})
    instead = INSTEAD_OF_VALUE.get((keys[-1], _kind(at))) if keys else None
    match mistake["type"]:
        case "missing":
            problems.error(at.place, f"{keys[-1]} is missing", f"{[where, *keys][-2]} needs {keys[-1]}")
        case "literal_secret":
            variable = variable_in(at) or variable_name(name, keys[-1])
            hint = f"write {keys[-1]}: ${{{{ env.{variable} }}}} and set the variable {variable}"
            problems.error(at.place, context["message"], hint)
        case "mistake":
            message = str(context["message"])
            if not guessed.isdisjoint(keys):
                message = message.replace(describe(at), "'…'")
            problems.error(context["at"] or at.place, f"{keys[-1]}: {message}", context["hint"] or instead)
        case _:
            problems.error(at.place, f"{keys[-1]}: found {_kind(at)}, expected a mapping", instead)


def _kind(node: Node) -> str:
    """Return the kind of a node. Its value may be a secret."""
    return "a list" if isinstance(node, Items) else "a mapping" if isinstance(node, Section) else "text"


def _key_hint(node: Node) -> str | None:
    """Return what to write instead of text where keys are expected."""
    if not isinstance(node, Scalar):
        return None
    return odd_blank_hint(node) or "write key: value, with a space after the colon"


def _replace_with_invalid(mistake: ErrorDetails, node: Section) -> bool:
    """Replace a wrong or missing value with Invalid. Return False if it already is one."""
    holder, key, at = _locate(node, mistake["loc"])
    invalid = Invalid.at_place(at.place)
    if mistake["type"] == "missing" and isinstance(at, Section):
        at.put(str(mistake["loc"][-1]), at.place, invalid)
    elif isinstance(holder, Section) and not isinstance(at, Invalid):
        holder[holder.key(str(key))] = invalid
    elif isinstance(holder, Items) and isinstance(key, int) and not isinstance(at, Invalid):
        holder[key] = invalid
    else:
        return False
    return True


def _locate(node: Node, loc: Iterable[int | str]) -> tuple[Node | None, int | str, Node]:
    """Return the last existing node on the path of an error, with its parent and its key in it."""
    holder: Node | None = None
    key: int | str = ""
    for part in loc:
        if isinstance(node, Section) and part in node:
            holder, key, node = node, part, node.named(str(part))
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node):
            holder, key, node = node, part, node[part]
        elif not isinstance(part, int):  # a number may count a single value that is not in a list
            break
    return holder, key, node
