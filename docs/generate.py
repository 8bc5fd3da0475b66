"""Write the parts of the documentation that the code declares. `make docs` runs it.

A page marks each such part with two comments, and the rest of the page is written by hand:

    <!-- generated: environment -->
    …
    <!-- end -->

`parts` names them. Each must be on exactly one page. A new type of source gets its section by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click.testing import CliRunner

from bridge.cli import main
from bridge.config import json_schema
from bridge.config.first_table import example
from bridge.core.metrics import METRICS
from bridge.expressions.filters import FILTERS, TESTS, TEXT_METHODS
from bridge.process.settings import COMMIT_VARIABLES, VARIABLES
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import HeaderToken, HmacSignature, Proof, UrlToken
from bridge.sources.base.source_type import SourceType

ROOT = Path(__file__).parents[1]
PROGRAM = "theeye-bridge"
_SOURCES = ROOT / "docs" / "reference" / "sources.md"
#: A longer list of known events is folded.
FOLDED = 40

#: A part: its name, the rest of the first comment, and its text.
MARKED = re.compile(r"(?<=^<!-- generated: )(.+?)( -->\n)(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return every Markdown page that users read."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parts() -> dict[str, Callable[[], str]]:
    """Return the function that writes each part, by the part's name."""
    types = discover()
    tables = _key_tables(json_schema.schema(types.values()))
    return {
        "commands": partial(_join, _commands(main, PROGRAM)),
        "environment": partial(_join, _environment()),
        "metrics": partial(_join, _metrics()),
        "commit variables": partial(_words, COMMIT_VARIABLES),
        "filters": partial(_words, sorted(FILTERS)),
        "tests": partial(_words, sorted(TESTS)),
        "text methods": partial(_words, TEXT_METHODS),
        "source types": partial(_join, _source_types(types.values())),
        **{f"source {name}": partial(_join, _source(each)) for name, each in types.items()},
        **{f"keys of {name}": partial(_join, rows) for name, rows in tables},
        **{f"output of {name}": partial(_output, *how) for name, how in _OUTPUTS.items()},
    }


def part_names(page: str) -> list[str]:
    """Return the names of the parts that a page's text marks, in order."""
    return [name for name, _, _ in MARKED.findall(page)]


def filled(page: str, by_name: Mapping[str, Callable[[], str]]) -> str:
    """Return a page's text with each part as the code declares it. Raises KeyError for an unknown part."""
    return MARKED.sub(lambda part: f"{part[1]}{part[2]}\n{by_name[part[1]]().strip()}\n\n", page)


def with_sections(page: str, types: Iterable[str]) -> str:
    """Return the text of docs/reference/sources.md with a section for each type, in alphabetical order."""
    present = [name.removeprefix("source ") for name in part_names(page) if name.startswith("source ")]
    for name in sorted(set(types) - set(present)):
        section = f"## {name}\n\n<!-- generated: source {name} -->\n<!-- end -->\n"
        following = min((other for other in present if other > name), default=None)
        if following is None:
            page = f"{page}\n{section}"
        else:
            page = page.replace(f"\n## {following}\n", f"\n{section}\n## {following}\n", 1)
        present.append(name)
    return page


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _words(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _cell(text: str) -> str:
    """Return prose, or code in backticks, as a cell of a table."""
    parts = " ".join(text.split()).replace("|", r"\|").split("`")
    # Outside of code, Markdown takes <name> for HTML.
    return "`".join(part if number % 2 else part.replace("<", r"\<") for number, part in enumerate(parts))


# Commands


def _commands(group: click.Group, name: str) -> Iterator[str]:
    """A table of all commands, then a section for each."""
    commands = list(leaves(group, name))
    yield "| command | |"
    yield "|---|---|"
    for full_name, command in commands:
        anchor = re.sub(r"[^\w-]", "", full_name.replace(" ", "-"))
        shown = full_name.removeprefix(f"{PROGRAM} ")
        yield f"| [`{shown}`](#{anchor}) | {_cell(_first_sentence(command))} |"
    yield from _options(group, click.Context(group, info_name=name))
    for full_name, command in commands:
        yield ""
        yield from _command(full_name, command)


def leaves(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands that users see, in all groups, with their full names."""
    context = click.Context(group)
    for each in sorted(group.list_commands(context)):
        command, full_name = group.get_command(context, each), f"{name} {each}"
        if isinstance(command, click.Group):
            yield from leaves(command, full_name)
        elif command is not None and not command.hidden:
            yield full_name, command


def _first_sentence(command: click.Command) -> str:
    text = " ".join((command.help or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def _command(full_name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=full_name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"### {full_name}"
    yield ""
    yield f"```text\n{full_name} {usage}".rstrip() + "\n```"
    # A form feed in Click's help ends what people read; \b marks lines that are not joined.
    for paragraph in (command.help or "").partition("\f")[0].strip().split("\n\n"):
        yield ""
        lines = [line.strip() for line in paragraph.splitlines()]
        yield _join(lines[1:]) if lines[:1] == ["\b"] else " ".join(lines)
    yield from _options(command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and "--help" not in parameter.opts
        and (record := parameter.get_help_record(context)) is not None
    ]
    if options:
        yield ""
        yield "| option | |"
        yield "|---|---|"
        yield from (f"| {_cell(f'`{option}`')} | {_cell(text)} |" for option, text in options)


# Settings


def _environment() -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for each in VARIABLES:
        default = f"`{each.default}`" if each.default else "unset"
        default += f"; {each.otherwise}" if each.otherwise else ""
        yield f"| `{each.name}` | {default} | {_cell(each.meaning)} |"


# Metrics


def _metrics() -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        bounds = f" Buckets: {', '.join(each.bounds)}." if each.bounds else ""
        yield f"| `{each.name}` | {each.kind} | {labels} | {_cell(each.meaning + bounds)} |"


# The routing table's keys

#: The key tables' sections: where each is in the JSON Schema.
_SECTIONS = {
    "theeye": ("properties", "theeye"),
    "sources": ("definitions", "SourceKeys"),
    "tasks": ("properties", "tasks", "additionalProperties"),
    "routes": ("properties", "routes", "items"),
    "on_dead": ("properties", "on_dead"),
    "on_silence": ("properties", "on_silence"),
    "tests": ("properties", "tests", "items"),
}


def _key_tables(whole: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[str]]]:
    """Each section's name, and the lines of the table of its keys."""
    shapes = {name: _resolved(_at(whole, *path), whole) for name, path in _SECTIONS.items()}
    for name, shape in shapes.items():
        # A route and an alert may have the keys of their task, which are in one table only.
        elsewhere = shapes["tasks"]["properties"] if name in ("routes", "on_dead", "on_silence") else ()
        yield name, _keys(shape, whole, elsewhere)


def _at(whole: Any, *path: str) -> Any:
    for step in path:
        whole = whole[step]
    return whole


def _keys(shape: Mapping[str, Any], whole: Mapping[str, Any], elsewhere: Container[str]) -> Iterator[str]:
    yield "| key | values | meaning |"
    yield "|---|---|---|"
    properties = {key: value for key, value in shape["properties"].items() if key not in elsewhere}
    yield from _key_rows({**shape, "properties": properties}, whole, "")


def _key_rows(shape: Mapping[str, Any], whole: Mapping[str, Any], prefix: str) -> Iterator[str]:
    required = shape.get("required", ())
    for key, described in sorted(shape["properties"].items(), key=lambda each: each[0] not in required):
        value = _resolved(described, whole)
        mark = " (required)" if key in required else ""
        description = described.get("description") or value.get("description", "")
        default = f" Default: `{_text(value['default'])}`." if "default" in value else ""
        meaning = f"{_sentence(description)}{default}".strip()
        yield f"| `{prefix}{key}`{mark} | {_values(value)} | {_cell(meaning)} |"
        inside = _resolved(value.get("items", value), whole)
        # The keys of any_of are those of the source itself.
        if "properties" in inside and key != "any_of":
            yield from _key_rows(inside, whole, f"{prefix}{key}.")


def _resolved(shape: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The shape that a reference names; of one or a list of the same, the one."""
    while "$ref" in shape or "anyOf" in shape:
        if "$ref" in shape:
            found = _at(whole, *shape["$ref"].removeprefix("#/").split("/"))
            shape = {**found, "many": True} if shape.get("many") else found
        else:
            one, *others = shape["anyOf"]
            if not (others and others[0].get("type") == "array" and others[0].get("items") == one):
                break
            shape = {**one, "many": True}
    return shape


def _values(value: Mapping[str, Any]) -> str:
    if "enum" in value and len(value["enum"]) < 10:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "patternErrorMessage" in value:
        text = value["patternErrorMessage"].removeprefix("expected ")
        text = text.replace("${{ env.NAME }}: never the secret itself", "`${{ env.NAME }}`")
        text = text.replace("${{ env.NAME }}", "`${{ env.NAME }}`").replace("``", "`")
    else:
        written: str | list[str] = value.get("type", "string")
        kinds = [written] if isinstance(written, str) else written
        named = {"array": "list", "object": "mapping", "boolean": "`true`, `false`"}
        text = "text" if "string" in kinds else ", ".join(named.get(kind, kind) for kind in kinds)
    return f"{text}, or a list of these" if value.get("many") else text


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".…" else f"{text}."


# Types of sources


#: Where requests have credentials that are not in one header.
_PLACES = {
    UrlToken.key: "the query parameter `token`",
    "topic_arns": "`Signature` and `TopicArn` of the body",
}


def _source_types(types: Iterable[SourceType]) -> Iterator[str]:
    yield "| type | sender | credentials |"
    yield "|---|---|---|"
    for each in sorted(types, key=lambda each: each.name):
        keys = ", ".join(f"`{proof.key}`" for proof in each.proofs)
        yield f"| [`{each.name}`](#{each.name}) | {each.guide.title} | {keys} |"


def _source(source_type: SourceType) -> Iterator[str]:
    """What the code knows of one type."""
    guide = source_type.guide
    issued = dict.fromkeys(source_type.sender_issued, "; the sender issues it")
    yield f"{' '.join(guide.setup.split())}\n"
    yield f"```yaml\n{example(source_type)}\n```\n"
    for proof in source_type.proofs:
        yield f"- **Credential:** `{proof.key}`, in {_place(source_type, proof)}{issued.get(proof.key, '')}."
    yield f"- **Body:** {', or '.join(map(str, source_type.bodies))}."
    if source_type.replayable:
        yield "- **Replays:** this type accepts `replays:`. See [Replays](#replays)."
    if source_type.events:
        retired = dict.fromkeys(source_type.retired_events, " (retired)")
        yield from _known_events([f"`{name}`{retired.get(name, '')}" for name in source_type.events])


def _place(source_type: SourceType, proof: Proof) -> str:
    """Return where a request has the credential."""
    if isinstance(proof, HeaderToken) and "header" in source_type.options:
        return "the header that `header:` names"
    if isinstance(proof, HmacSignature) and "signature" in source_type.options:
        named = "the header that `signature:` names"
        return f"`{proof.header}`, or {named}" if source_type.default_signature else named
    return _PLACES.get(proof.key, f"`{proof.header}`")


def _known_events(names: list[str]) -> Iterator[str]:
    if len(names) <= FOLDED:
        yield f"- **Known events:** {', '.join(names)}."
    else:
        yield f"\n<details><summary>{len(names)} known events</summary>\n\n{', '.join(names)}.\n\n</details>"


# Outputs of the tutorial's commands

_FIRST, _FIXED = "refs/heads/release/*", "[refs/heads/main, refs/heads/release/*]"
_EXPLAIN = ("explain", "--source", "github", "--event", "push", str(ROOT / "bridge" / "demo" / "push.json"))
_SET = {"GITHUB_SECRET": "a-secret-for-the-tutorial", "DEPLOY_KEY": "k1" * 32}
_UNSET = dict.fromkeys(_SET)
#: The arguments, what `payload.ref` matches in the table, and the variables.
_OUTPUTS: dict[str, tuple[tuple[str, ...], str, Mapping[str, str | None]]] = {
    "the first check": (("check",), _FIRST, _UNSET),
    "the first explain": (_EXPLAIN, _FIRST, _SET),
    "the second explain": (_EXPLAIN, _FIXED, _SET),
    "test": (("test",), _FIXED, _SET),
}
#: A delivery id, which `explain` makes up.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _output(arguments: tuple[str, ...], ref: str, variables: Mapping[str, str | None]) -> str:
    """Run a command of the tutorial on the tutorial's table, and return its output."""
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    table, tests = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with TemporaryDirectory() as folder:
        config = Path(folder) / "tutorial"
        config.mkdir()
        text = table.replace(_FIRST, ref)
        (config / "routes.yml").write_text(f"{text}\n{tests}" if arguments == ("test",) else text, "utf-8")
        environ = {"BRIDGE_CONFIG": str(config), "NO_COLOR": "1", **variables}
        result = CliRunner().invoke(main, arguments, env=environ)
    if result.exit_code:
        raise RuntimeError(f"{arguments[0]} failed: {result.output}")
    output = result.output.replace(f"{folder}/", "")
    output = _UUID.sub("c1f34a32-1101-42e5-8b46-e7e3cbb48744", output)
    return f"```text\n{output.strip()}\n```"


def write() -> None:
    """Write every page that differs, and the JSON Schema."""
    by_name, types = parts(), discover()
    texts = {page: page.read_text("utf-8") for page in pages()}
    texts[_SOURCES] = with_sections(texts[_SOURCES], types)
    texts = {page: filled(text, by_name) for page, text in texts.items()}
    texts[ROOT / "config" / "schema.json"] = json_schema.document(types.values())
    for path, text in texts.items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    write()
