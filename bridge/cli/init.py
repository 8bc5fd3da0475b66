"""The command that writes a first table: init."""

from __future__ import annotations

import re
import secrets
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlunsplit

import click

from bridge.cli.sender import hook_url
from bridge.cli.terminal import Terminal
from bridge.config.files import is_table_file
from bridge.config.first_table import FirstTable
from bridge.config.load import load
from bridge.core.errors import ConfigError, SettingsError
from bridge.core.problem import Place, Problem, Severity
from bridge.core.suggestions import did_you_mean
from bridge.sources.base.discovery import discover
from bridge.sources.base.source_type import SourceType

#: Characters of a line of the guide's prose.
_WIDTH = 100


@click.command()
@click.option("--source", required=True, help="Its name: the last part of its URL.")
@click.option("--type", "type_name", help="What kind of sender it is.  [default: its name]")
@click.option("--event", help="The event, event.action, or a glob.  [default: a usual one of the type]")
@click.option("--task", help="The task's id at TheEye.  [default: ${{ env.TASK_ID }}]")
@click.option("--key", default="TASK_KEY", show_default=True, help="The variable of the task's secret key.")
@click.option("--customer", help="The organization at TheEye.  [default: ${{ env.THEEYE_CUSTOMER }}]")
@click.option(
    "--argument", "arguments", multiple=True, help="Such as payload.after; in order, as often as needed."
)
@click.option(
    "--path", help="Where to write it, - for standard output.  [default: routes.yml in BRIDGE_CONFIG]"
)
@click.option("--url", default="https://your-bridge", show_default=True, help="The bridge's address.")
@click.pass_obj
def init(
    terminal: Terminal,
    source: str,
    type_name: str | None,
    event: str | None,
    task: str | None,
    key: str,
    customer: str | None,
    arguments: tuple[str, ...],
    path: str | None,
    url: str,
) -> None:
    """Write a first routing table, and say what to paste into the sender.

    It adds no mistake to the table. A file that is there is never overwritten.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", key):
        message = "expected a variable's name, such as TASK_KEY, and never the key itself"
        raise click.BadParameter(message, param_hint="--key")
    types = discover()
    table = FirstTable(
        source,
        _type(type_name or source, types, "--source" if type_name is None else "--type"),
        event,
        arguments,
        task or FirstTable.task,
        key,
        customer or FirstTable.customer,
    )
    hook = urlunsplit(hook_url(url, source))
    warnings = _checked(table, types)
    if len(re.findall(rf"\$\{{\{{\s*env\.{key}\b", _text(table))) > 1:
        message = f"{key} holds something else of this table; the task's key needs a variable of its own"
        raise click.BadParameter(message, param_hint="--key")
    if path == "-":
        click.echo(_text(table), nl=False)
    else:
        target = _target(terminal.settings.config, path)
        _write(terminal, table, customer, target)
        click.echo(f"{target} is written.")
        schema = target.with_name("schema.json")
        if not schema.exists():
            click.echo(f"For your editor: python -m bridge schema > {schema}")
    for line in [*warnings, *_next_steps(table, hook)]:
        # Not through the mask: the secret is shown here, once.
        click.echo(line, err=path == "-")


def _type(name: str, types: Mapping[str, SourceType], flag: str) -> SourceType:
    """The type of this name. Raises BadParameter."""
    if name in types:
        return types[name]
    message = f"there is no type {name!r}{did_you_mean(name, types)}"
    raise click.BadParameter(f"{message}; say --type: one of {', '.join(sorted(types))}", param_hint=flag)


def _text(table: FirstTable) -> str:
    return "".join(f"{line}\n" for _, line in table.lines())


def _checked(table: FirstTable, types: Mapping[str, SourceType]) -> list[str]:
    """What `check` would warn of. Raises UsageError with every mistake, by the flag that it is said with."""
    flags = [flag for flag, _ in table.lines()]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "routes.yml"
        file.write_text(_text(table), "utf-8")
        try:
            problems = load(file, {}, types, require_env=False).problems
        except ConfigError as error:
            problems = error.problems
    said = [
        (
            problem.severity,
            f"{flags[problem.place.line - 1] or file.name}: {problem.message}" + _hint(problem),
        )
        for problem in problems
        if not problem.message.endswith("is not set")
    ]
    errors = [message for severity, message in said if severity is Severity.ERROR]
    if errors:
        raise click.UsageError("\n".join(errors))
    return [f"warning: {message}" for _, message in said]


def _hint(problem: Problem) -> str:
    return "" if problem.hint is None else f"\n    hint: {problem.hint}"


def _is_folder(config: Path) -> bool:
    """Whether the table is a folder, or will be one."""
    return config.is_dir() or not (config.suffix in (".yml", ".yaml") or config.exists())


def _target(config: Path, path: str | None) -> Path:
    """Where to write. Raises BadParameter where the table would not be read from there."""
    usual = config / "routes.yml" if _is_folder(config) else config
    target = usual if path is None else Path(path)
    beside = target.parent.resolve() == config.resolve() and is_table_file(target)
    if beside or target.resolve() == usual.resolve():
        return target
    table = f"the .yml and .yaml files in {config}" if _is_folder(config) else f"one file, {config}"
    message = f"{target} would not be read: the table is {table}, as BRIDGE_CONFIG says"
    raise click.BadParameter(f"{message}; --path - shows what to write there", param_hint="--path")


def _write(terminal: Terminal, table: FirstTable, customer: str | None, target: Path) -> None:
    """Write what is not there yet. Raises SettingsError, and ConfigError where it does not fit the others."""
    before = _mistakes(terminal)
    config = terminal.settings.config
    # At the table's own place stands that there is none yet, or that it has no theeye.
    if not customer and not any(place == Place(str(config), 1, 1) for place, _ in before):
        table = replace(table, customer=None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(_text(table))
    except FileExistsError:
        other = "say --path for another file beside it, or " if _is_folder(config) else "say "
        hint = f"{other}--path - to see the table"
        raise SettingsError(f"{target} is there already, and stays as it is\n    hint: {hint}") from None
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror}") from None
    after = _mistakes(terminal)
    new = [problem for key, problem in after.items() if key not in before]
    if new:
        target.unlink()
        terminal.warn(f"{target} is not written: with it the table would have mistakes")
        raise ConfigError(new)
    if after:
        terminal.warn("warning: the table has mistakes that were there before; check names them")


def _mistakes(terminal: Terminal) -> Mapping[tuple[Place, str], Problem]:
    """Of the table as it stands, by what stays the same when its hint names more sources."""
    try:
        terminal.load()
    except ConfigError as error:
        errors = (each for each in error.problems if each.severity is Severity.ERROR)
        return {(each.place, each.message): each for each in errors}
    return {}


def _next_steps(table: FirstTable, hook: str) -> Iterator[str]:
    """What to paste into the sender, and what to set where the bridge runs."""
    proof, guide = table.proof, table.type.guide
    secret = "" if proof.key in table.type.sender_issued else secrets.token_hex(32)
    yield f"At the sender ({guide.title}):"
    if proof.key == "url_token":
        yield f"    URL: {hook}?token={secret}"
    else:
        yield f"    URL: {hook}"
        yield from _credentials(proof.key, secret)
    prose = " ".join(guide.setup.split())
    yield textwrap.fill(prose, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    yield "Where the bridge runs:"
    yield f"    {table.variable}={secret or '…  # the sender gives it out: copy it from there'}"
    yield f"    {table.key}=…  # the task's secret key: 64 characters, on its page at TheEye"
    if table.task == FirstTable.task:
        yield "    TASK_ID=…  # the task's id: 24 hex digits, in its address at TheEye"
    if table.customer == FirstTable.customer:
        yield "    THEEYE_CUSTOMER=…  # your organization's exact name at TheEye"
    if table.event is not None and "event" in table.type.options:
        yield "Every event is named event, unless event: on the source says which field names it."
    yield "Every such event runs the task; match: narrows it down. Then: python -m bridge check --env"


def _credentials(key: str, secret: str) -> Iterator[str]:
    if secret and key == "basic_auth":
        yield f"    user name: {FirstTable.USERNAME}"
        yield f"    password: {secret}"
    elif secret:
        yield f"    {key.removeprefix('bearer_')}: {secret}"
