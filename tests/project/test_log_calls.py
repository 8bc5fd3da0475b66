"""Every log call of the bridge names a documented action, and no field but its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.process.log_fields import ACTIONS
from tests.support.documents import ROOT

LEVELS = ("debug", "info", "warning", "error")
METHODS = {**{level: level for level in LEVELS}, "critical": "error", "exception": "error"}
#: Objects with a logger's methods, as the code names them.
LOGGERS = ("log", "self.log", "self.access_log", "logging")
#: GunicornLogger calls its own methods.
OWN_LOGGER = "bridge/server/gunicorn_logger.py"
#: Commands print for a person: their lines need no action.
NOT_OPERATIONAL = ("bridge/cli/", "bridge/demo/")
#: The action of calls that log fields from another function, by file.
ACTIONS_FROM_ELSEWHERE = {"bridge/intake/receive.py": "dead", "bridge/intake/refusals.py": "refuse"}
#: The fields that job_fields adds.
OF_JOB = ("job", "event", "route", "task")

MODULES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted((ROOT / "bridge").rglob("*.py"))
    if path.name != "log_fields.py"  # it defines both functions
}
#: The values that are assigned at the top of a module, by name.
CONSTANTS = {
    each.targets[0].id: each.value
    for tree in MODULES.values()
    for each in tree.body
    if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
}


@dataclass(frozen=True)
class LogFields:
    """One call of Fields or job_fields."""

    action: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class LogCall:
    """One call that logs a record."""

    place: str
    levels: tuple[str, ...]
    message: str | None
    #: None if another function makes them.
    fields: LogFields | None
    #: None if it has none.
    action: str | None


def fields_of(node: ast.AST) -> LogFields | None:
    """Return the fields that an expression makes, or None if it makes none."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    if node.func.id not in ("Fields", "job_fields"):
        return None
    action = node.args[0]
    assert isinstance(action, ast.Constant), ast.unparse(node)
    names = tuple(keyword.arg or "**" for keyword in node.keywords)
    return LogFields(str(action.value), (*OF_JOB, *names) if node.func.id == "job_fields" else names)


def text_of(node: ast.AST) -> str | None:
    """Return the fixed parts of a text."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        # A part that is inserted may be a text of the code, too.
        inner = [each for value in node.values for each in ast.walk(value) if isinstance(each, ast.Constant)]
        return "".join(str(each.value) for each in inner)
    return None


def assigned(name: ast.expr, function: ast.AST) -> ast.expr:
    """Return the value that a variable has where it is used, if the function assigns it."""
    values = [
        each.value
        for each in ast.walk(function)
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == ast.unparse(name)
        if each.lineno < name.lineno
    ]
    if not isinstance(name, ast.Name):
        return name
    return values[-1] if values else CONSTANTS.get(name.id, name)


def log_calls(file: str, tree: ast.Module) -> Iterator[LogCall]:
    """Yield each call of a logger's method."""
    loggers = (*LOGGERS, "self") if file == OWN_LOGGER else LOGGERS
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) in loggers and node.func.attr in (*METHODS, "log"):
                yield log_call(file, function, node, node.func.attr)


def log_call(file: str, function: ast.AST, node: ast.Call, method: str) -> LogCall:
    levels: tuple[str, ...] = (METHODS.get(method, ""),)
    arguments = node.args
    if method == "log":
        levels = tuple(name.lower() for name in re.findall(r"logging\.([A-Z]+)", ast.unparse(arguments[0])))
        arguments = arguments[1:]
    template = assigned(arguments[0], function)
    # A mapping that is not the only argument is not the record's arguments.
    given = assigned(arguments[1], function) if len(arguments) == 2 else None
    fields = None if given is None else fields_of(given)
    action = None if fields is None else fields.action
    if fields is None and len(arguments) == 2 and ast.unparse(arguments[1]) == "fields":
        action = ACTIONS_FROM_ELSEWHERE.get(file)
    return LogCall(f"{file}:{node.lineno}", levels, text_of(template), fields, action)


CALLS = [call for file, tree in MODULES.items() for call in log_calls(file, tree)]
FIELDS = [
    fields for tree in MODULES.values() for node in ast.walk(tree) if (fields := fields_of(node)) is not None
]


def test_every_record_of_the_server_has_an_action() -> None:
    assert len(CALLS) > 50
    lacking = [
        call.place for call in CALLS if call.action is None and not call.place.startswith(NOT_OPERATIONAL)
    ]
    assert not lacking, lacking


def test_no_call_is_overlooked() -> None:
    """Each logger is an object that this test knows, and `makeLogRecord` has fields, too."""
    text = "\n".join((ROOT / file).read_text("utf-8") for file in MODULES)
    named = re.findall(r"^ *(\w+) = logging\.getLogger\(__name__\)$", text, re.MULTILINE)
    others = re.findall(r"logging\.getLogger\((?!\)|__name__)(.*?)\)(.*)", text)
    assert set(named) == {"log"}
    assert [rest for _, rest in others if not rest.startswith((".setLevel(", ".addFilter("))] == []
    assert text.count("makeLogRecord(") == text.count('makeLogRecord({**record, "args": fields})') == 1


@pytest.mark.parametrize("fields", dict.fromkeys(FIELDS), ids=lambda fields: fields.action)
def test_fields_are_those_of_their_action(fields: LogFields) -> None:
    allowed = ACTIONS[fields.action].split()
    names = [name for name in fields.names if name != "**"]
    assert set(names) <= set(allowed), fields
    # In the order of the table, which readers of lines see.
    assert names == sorted(names, key=allowed.index), fields


def test_every_action_and_field_is_used() -> None:
    used = {
        action: {name for each in FIELDS if each.action == action for name in each.names}
        for action in ACTIONS
    }
    assert {action: set(ACTIONS[action].split()) for action in ACTIONS} == {
        action: names - {"**"} for action, names in used.items()
    }


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.place)
def test_a_message_names_only_fields_of_its_record(call: LogCall) -> None:
    """Otherwise its arguments could not be shown."""
    assert call.message is not None
    assert call.action is not None
    names = set(re.findall(r"%\((\w+)\)[-+.0-9]*[drsf]", call.message))
    rest = re.sub(r"%\((\w+)\)[-+.0-9]*[drsf]", "", call.message)
    given = call.fields.names if call.fields is not None else ACTIONS[call.action].split()
    assert names <= set(given), call
    assert "%" not in rest, call


def documented(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading of the page."""
    page = (ROOT / "docs" / "reference" / "logs.md").read_text("utf-8")
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    return [row.split(" | ") for row in rows[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_action_is_documented_with_its_levels_and_fields() -> None:
    levels: dict[str, set[str]] = {action: set() for action in ACTIONS}
    for call in CALLS:
        if call.action is not None:
            levels[call.action] |= set(call.levels)
    levels["library"] = {"any"}
    rows = {
        words(action)[0]: ([each.strip() for each in level.split(",")], words(fields))
        for action, level, _, fields in documented("Actions")
    }
    ordered = {action: [each for each in (*LEVELS, "any") if each in levels[action]] for action in ACTIONS}
    assert rows == {action: (ordered[action], fields.split()) for action, fields in ACTIONS.items()}


def test_every_field_is_documented() -> None:
    rows = [name for cell, *_ in documented("Fields") for name in words(cell)]
    always = ["time", "level", "logger", "action", "message", "exception"]
    assert sorted(rows) == sorted({*always, *(name for each in ACTIONS.values() for name in each.split())})


def test_the_page_is_named_where_the_format_is_set() -> None:
    page = Path(ROOT / "docs" / "reference" / "environment.md").read_text("utf-8")
    assert "(logs.md)" in page
