"""Field paths, such as ``payload.a.b[0]["c.d"]`` and ``payload.commits[*].id``; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice, product

from bridge.core.budget import Budget, budget_of
from bridge.core.errors import ExpressionError
from bridge.core.event import JSON, Headers
from bridge.core.json_values import MISSING, Absent, json_type
from bridge.core.suggestions import did_you_mean

#: The names that a path or an expression may begin with.
EVENT_NAMES = ("payload", "headers", "query", "event", "action", "source", "delivery_id", "received_at")
ITEM_NAMES = ("item", "index")

#: Names of GitHub Actions, Ansible and Alertmanager's templates, and the paths here.
_NAMES_ELSEWHERE = {
    "github.event_name": "event", "github.event.action": "action", "github.event": "payload",
    "github.sha": "payload.after", "github.repository": "payload.repository.full_name",
    "github.actor": "payload.sender.login", "github.head_ref": "payload.pull_request.head.ref",
    "github.base_ref": "payload.pull_request.base.ref",
    "github.ref_name": "payload.ref.removeprefix('refs/heads/')",
    "github.ref": "payload.ref", "inputs": "payload.inputs", "body": "payload", "request.body": "payload",
    "request.headers": "headers", "ansible_eda.event.payload": "payload", "ansible_eda.event": "payload",
    "event.payload": "payload", "event": "payload", "alert": "item", "$labels": "item.labels",
    "severity": "item.labels.severity", "alertname": "item.labels.alertname", "labels": "item.labels",
    "Labels": "item.labels", "Annotations": "item.annotations",
    "CommonLabels": "payload.commonLabels", "CommonAnnotations": "payload.commonAnnotations",
}  # fmt: skip
#: Objects of other tools that no event has.
FOREIGN_NAMES = ("env", "github", "groups", "hostvars", "job", "matrix", "needs", "runner", "steps")
#: Keys that combine conditions in other tools.
_COMBINED = ("all", "all_of", "and", "any", "any_of", "or")
COMBINED_HINT = (
    "match needs all of its lines; for any of several values write a list, such as [a, b]; "
    "for any of several conditions write when: a or b"
)

#: Of these, the names of values with fields.
CONTAINERS = {"payload", "headers", "query", "item"}

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NAMES = re.compile(r"\.\{([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)+)\}", re.ASCII)
_INDEX = re.compile(r"\[(-?\d{1,9})\]", re.ASCII)
_QUOTED = re.compile(r"""\[\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*\]""")

#: Budget steps for the look-up of a path, besides one for each of its own steps.
_LOOK_UP = 4

#: The most names that a message lists; a longer name is not one of them.
_LISTED_NAMES_LIMIT = 20
_NAME_LENGTH_LIMIT = 60
#: The most names of an object that a message considers, so that a huge object costs no more.
_CONSIDERED_NAMES_LIMIT = 1000
#: The most names of similar length that are compared for a suggestion.
_COMPARED_NAMES_LIMIT = 100
#: Budget steps for the list of names, besides those for each name.
_MESSAGE = 40
#: Comparisons of characters for a suggestion in one budget step.
_COMPARISONS_PER_STEP = 3


@dataclass(frozen=True)
class Each:
    """The step ``[*]``: every element of a list."""


#: A name, an index, every element, or any of several names.
Step = str | int | Each | tuple[str, ...]


@dataclass(frozen=True)
class Path:
    """A compiled field path."""

    text: str
    root: str
    steps: tuple[Step, ...]

    @property
    def is_single(self) -> bool:
        """Return whether it leads to one field: it has neither [*] nor several names."""
        return not any(isinstance(step, Each | tuple) for step in self.steps)

    def alternatives(self) -> list[Path]:
        """Return a path for each choice of its names."""
        choices = [step if isinstance(step, tuple) else (step,) for step in self.steps]
        return [Path(path_text(self.root, steps), self.root, steps) for steps in product(*choices)]

    def is_inside(self, other: Path) -> bool:
        """Return whether it leads to the other's field, or to a field inside it."""
        return self.root == other.root and self.steps[: len(other.steps)] == other.steps

    def value(self, scope: Mapping[str, JSON]) -> JSON | Absent:
        """Return the field's value in `scope`, or MISSING. For paths without ``[*]``."""
        value = scope.get(self.root, MISSING)
        for step in self.steps:
            value = child(value, step)
            if value is MISSING:
                break
        return value

    def values(self, scope: Mapping[str, JSON]) -> list[JSON] | Absent:
        """Return every value that the path leads to, or MISSING if the field or its list is missing.

        Elements of ``[*]`` without the field are left out, so the list may be empty. Raises OverBudget.
        """
        budget = budget_of(scope)
        budget.charge(_LOOK_UP + len(self.steps))
        values = [scope.get(self.root, MISSING)]
        starred = False
        for step in self.steps:
            if isinstance(step, Each):
                lists = [value for value in values if isinstance(value, list)]
                if not starred and not lists:
                    return MISSING
                starred = True
                budget.charge(sum(map(len, lists)))
                values = [element for value in lists for element in value]
            else:
                names = step if isinstance(step, tuple) else (step,)
                if starred:
                    budget.charge(len(values) * len(names))
                values = [
                    inner
                    for value in values
                    for name in names
                    if (inner := child(value, name)) is not MISSING
                ]
                if not starred and not values:
                    return MISSING
        return MISSING if values and values[0] is MISSING else values


def child(value: JSON | Absent, step: Step) -> JSON | Absent:
    """Return a field of an object, an element of a list, or a header; or MISSING."""
    if isinstance(step, str):
        if isinstance(value, dict | Headers):
            return value.get(step, MISSING)
    elif type(step) is int and isinstance(value, list | tuple) and -len(value) <= step < len(value):
        return value[step]
    return MISSING


def reject_lone_surrogates(text: str) -> str:
    """Return the text. Raises ExpressionError for a lone surrogate, which neither RE2 nor the store accepts.

    YAML's ``"\\ud800"`` is one.
    """
    if not text.isascii():
        for at, character in enumerate(text):
            if "\ud800" <= character <= "\udfff":
                raise ExpressionError(f"{character!a} is a lone surrogate", at, "write the character itself")
    return text


def parse_path(text: str, names: Iterable[str] = EVENT_NAMES) -> Path:
    """Compile `text`. Raises ExpressionError with the offset of the error."""
    names = tuple(names)
    root = _NAME.match(reject_lone_surrogates(text))
    if root is None:
        raise ExpressionError(f"found {text!r}, expected a field path such as payload.ref")
    if root[0] not in names:
        raise ExpressionError(
            f"unknown name {root[0]!r}{did_you_mean(root[0], names, sure=True)}",
            0,
            _instead(text, root[0], names),
        )
    steps: list[Step] = []
    at = root.end()
    while at < len(text):
        step, end = _parse_step(text, at)
        steps.append(step)
        at = end
    if steps and root[0] not in CONTAINERS:
        meant = path_elsewhere(text, names)
        hint = None if meant is None else f"write {meant}"
        raise ExpressionError(f"{root[0]} has no fields: it is text or a number", root.end(), hint)
    return Path(text, root[0], tuple(steps))


def _parse_step(text: str, at: int) -> tuple[Step, int]:
    if text.startswith("[*]", at):
        return Each(), at + 3
    if index := _INDEX.match(text, at):
        return int(index[1]), index.end()
    if several := _NAMES.match(text, at):
        return tuple(re.split(", *", several[1])), several.end()
    if quoted := _QUOTED.match(text, at):
        inner = quoted[1] if quoted[1] is not None else quoted[2]
        return re.sub(r"\\(.)", r"\1", inner), quoted.end()
    if text[at] == ".":
        name = _NAME.match(text, at + 1)
        rest = text[name.end()] if name and name.end() < len(text) else ""
        if name and rest in ("", ".", "["):
            return name[0], name.end()
        whole = re.split(r"[.\[\]]", text[at + 1 :], maxsplit=1)[0]
        meant: Step = int(whole) if re.fullmatch("[0-9]{1,9}", whole) else Each() if whole == "*" else whole
        written = path_text(text[:at], [meant]) + text[at + 1 + len(whole) :]
        if whole.endswith("!"):
            written = f"{text[: at + len(whole)]}: {{not: …}}"
        raise ExpressionError(
            f"a name after a dot may contain only letters, digits and _, got {whole!r}",
            at + 1,
            f"write {written}" if whole else None,
        )
    hint = f"for every element write {text[:at]}[*]{text[at + 2 :]}" if text.startswith("[]", at) else None
    raise ExpressionError(f'expected . or [ at {text[at:]!r}, as in payload.a.b[0]["c.d"]', at, hint)


def path_text(root: str, steps: Iterable[Step]) -> str:
    """Return the path as text."""
    text = root
    for step in steps:
        if isinstance(step, Each):
            text += "[*]"
        elif isinstance(step, tuple):
            text += f".{{{','.join(step)}}}"
        elif isinstance(step, int):
            text += f"[{step}]"
        elif _NAME.fullmatch(step):
            text += f".{step}"
        else:
            text += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return text


def missing_message(path: Path, scope: Mapping[str, JSON]) -> str:
    """Say which field is missing, which fields there are, and which one may have been meant.

    Only the first few messages of an event list many fields and suggest one. Raises OverBudget.
    """
    value: JSON | Absent = scope.get(path.root, MISSING)
    for at, step in enumerate(path.steps):
        inner = child(value, step)
        if inner is not MISSING:
            value = inner
            continue
        shown = [_shortened(step) for step in path.steps[: at + 1]]
        reached, missing = path_text(path.root, shown[:-1]), path_text(path.root, shown)
        event = str(scope.get("event"))
        holder = f"{'an' if event[:1] in 'aeiou' else 'a'} {event}" if reached == "payload" else reached
        budget = budget_of(scope)
        if budget.allow_details():
            suggestion = _suggestion(reached, value, step, budget)
            return f"{missing} is missing; {_inventory(holder, value, budget)}{suggestion}"
        if isinstance(value, dict | Headers) and len(value) > _LISTED_NAMES_LIMIT:
            return f"{missing} is missing; {holder} has {len(value)} fields"
        return f"{missing} is missing; {_inventory(holder, value, budget)}"
    return f"{path.text} is missing"


def _inventory(holder: str, value: JSON | Absent, budget: Budget) -> str:
    if isinstance(value, dict | Headers):
        some = list(islice(value, _CONSIDERED_NAMES_LIMIT))
        budget.charge(_MESSAGE + 4 * len(some))
        # Without long names: many that begin alike are slow to sort, and no mask finds a part of a secret.
        names = sorted(name for name in some if len(name) <= _NAME_LENGTH_LIMIT)[:_LISTED_NAMES_LIMIT]
        if not len(value):
            return f"{holder} has no fields"
        return f"{holder} has: {', '.join([*names, '…'] if len(value) > len(names) else names)}"
    if isinstance(value, list):
        return f"{holder} is a list of {len(value)}"
    return f"{holder} is {json_type(value)}"


def _suggestion(reached: str, value: JSON | Absent, step: Step, budget: Budget) -> str:
    if isinstance(step, str) and isinstance(value, dict | Headers):
        word = step[:_NAME_LENGTH_LIMIT]
        # A name more than twice as long, or less than half, is never close.
        considered = islice(value, _CONSIDERED_NAMES_LIMIT)
        similar = (name for name in considered if len(word) <= 2 * len(name) <= 4 * len(word))
        names = list(islice(similar, _COMPARED_NAMES_LIMIT))
        budget.charge(len(word) * sum(map(len, names)) // _COMPARISONS_PER_STEP)
        close = get_close_matches(word, names, n=1)
        if close:
            return f"; did you mean {path_text(reached, [close[0]])}?"
    return ""


def _shortened(step: Step) -> Step:
    return "…" if isinstance(step, str) and len(step) > _NAME_LENGTH_LIMIT else step


def path_elsewhere(text: str, names: Iterable[str] = EVENT_NAMES) -> str | None:
    """Return the path of a field that other tools name so, if it begins with one of `names`."""
    for theirs, path in _NAMES_ELSEWHERE.items():
        ours = path if "item" in names else path.replace("item.labels", "payload.commonLabels")
        # The whole of such an object is rarely meant.
        is_there = text.startswith((f"{theirs}.", f"{theirs}[")) or (text == theirs and "." in theirs + ours)
        if is_there and re.split(r"\W", ours)[0] in names:
            return ours + text[len(theirs) :]
    return None


#: Filters and a name of GitHub Actions, and the line of match that does the same.
_FILTERS = {
    **dict.fromkeys(("branches", "github.ref_name"), "payload.ref: refs/heads/main"),
    "tags": "payload.ref: refs/tags/v*",
    "paths": "payload.commits[*].{added,modified,removed}[*]: src/*",
}


def _instead(text: str, root: str, names: tuple[str, ...]) -> str:
    """Return what to write for a path that begins with an unknown name: of a header, or of a field."""
    known = f"a path begins with one of {', '.join(names)}"
    if root in _COMBINED:
        return COMBINED_HINT
    if text in _FILTERS and "payload" in names:
        return f"write {_FILTERS[text]}"
    if root in ITEM_NAMES:
        return f"{root} exists only in a route with a loop, such as loop: payload.alerts"
    if (meant := path_elsewhere(text, names)) is not None:
        return f"write {meant}"
    if root in (*EVENT_NAMES, *FOREIGN_NAMES) or did_you_mean(root, names, sure=True):
        return known
    if "headers" in names and re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)+", text):
        return f"write {path_text('headers', [text])}"
    if "item" in names:
        return f"write item.{text} for a field of the item, or payload.{text}; {known}"
    return f"write payload.{text}; {known}" if "payload" in names else known
