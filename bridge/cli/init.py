"""The command ``init``: write a first routing table."""

from __future__ import annotations

import re
import secrets
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlunsplit

import click

from bridge.cli.sender import hook_url
from bridge.cli.terminal import Terminal
from bridge.config.env import variable_name
from bridge.config.files import is_table_file
from bridge.config.first_table import FirstTable
from bridge.config.load import load
from bridge.config.readers import env_name
from bridge.core.errors import ConfigError, SettingsError
from bridge.core.problem import Place, Problem, Severity
from bridge.core.suggestions import did_you_mean
from bridge.sources.base.discovery import discover
from bridge.sources.base.source_type import SourceType

#: The longest line, in characters.
_WIDTH = 80


@click.command()
@click.option("--source", metavar="NAME", required=True, help="Name the source, the last part of its URL.")
@click.option(
    "--type", "type_name", metavar="TYPE", help="Set the sender's type.  [default: the source's name]"
)
@click.option("--event", help="Match this event or pattern.  [default: a common event]")
@click.option("--task", metavar="ID", help="Run the task with this id.  [default: env.NAME_TASK_ID]")
@click.option(
    "--key",
    metavar="VARIABLE",
    help="Read the key from VARIABLE.  [default: NAME_TASK_KEY]",
)
@click.option("--customer", help="Set the organization.  [default: env.THEEYE_CUSTOMER]")
@click.option(
    "--argument",
    "arguments",
    metavar="FIELD",
    multiple=True,
    help="Add an argument, such as payload.after. Repeatable.",
)
@click.option("--path", metavar="FILE", help="Write FILE; - prints it.  [default: config/routes.yml]")
@click.option("--url", help="Set the bridge's address.  [default: 127.0.0.1:$PORT]")
@click.pass_context
def init(
    ctx: click.Context,
    source: str,
    type_name: str | None,
    event: str | None,
    task: str | None,
    key: str | None,
    customer: str | None,
    arguments: tuple[str, ...],
    path: str | None,
    url: str | None,
) -> None:
    """Write a first routing table, and print the next steps.

    The next steps contain the webhook's URL and secret for the sender, the variables to set, and the
    commands to run. The command never overwrites a file, and never adds a mistake to the table.
    """
    terminal: Terminal = ctx.obj
    key = variable_name(source, "task_key") if key is None else key
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", key):
        message = "expected the name of a variable, such as TASK_KEY, not the key itself"
        raise click.BadParameter(message, param_hint="--key")
    types = discover()
    table = FirstTable(
        source,
        _type(type_name or source, types, "--source" if type_name is None else "--type"),
        event,
        arguments,
        task or f"${{{{ env.{variable_name(source, 'task_id')} }}}}",
        key,
        customer or FirstTable.customer,
    )
    hook = urlunsplit(hook_url(url or f"http://127.0.0.1:{terminal.settings.port}", source))
    warnings = _checked(table, types)
    if len(re.findall(rf"\$\{{\{{\s*env\.{key}\b", _text(table))) > 1:
        message = f"the table uses {key} for another value; name another variable for the task's key"
        raise click.BadParameter(message, param_hint="--key")
    program = ctx.find_root().info_name or "theeye-bridge"
    commands = [f"{program} check --env", f"{program} serve"]
    if path == "-":
        click.echo(_text(table), nl=False)
    else:
        target = _target(terminal.settings.config, path)
        table = _write(terminal, table, customer, target)
        click.echo(f"Wrote {target}.")
        schema = target.with_name("schema.json")
        if not schema.exists():
            commands.insert(0, f"{program} schema > {shlex.quote(str(schema))}")
    for line in [*warnings, *_next_steps(table, hook, is_local=url is None), *map(_indented, commands)]:
        # Not masked: the secret is shown here, once.
        click.echo(line, err=path == "-")


def _type(name: str, types: Mapping[str, SourceType], flag: str) -> SourceType:
    """Return the type of this name. Raises BadParameter."""
    if name in types:
        return types[name]
    message = f"no type is named {name!r}{did_you_mean(name, types)}"
    raise click.BadParameter(f"{message}; set --type to one of {', '.join(sorted(types))}", param_hint=flag)


def _text(table: FirstTable) -> str:
    return "".join(f"{line}\n" for _, line in table.lines())


def _checked(table: FirstTable, types: Mapping[str, SourceType]) -> list[str]:
    """Return the warnings of `check`. Raises UsageError with every mistake, each at its option."""
    flags = [flag for flag, _ in table.lines()]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "routes.yml"
        file.write_text(_text(table), "utf-8")
        try:
            problems = load(file, {}, types, require_env=False).problems
        except ConfigError as error:
            problems = error.problems
    messages = [
        (
            problem.severity,
            f"{flags[problem.place.line - 1] or file.name}: {problem.message}" + _hint(problem),
        )
        for problem in problems
        if not problem.message.endswith("is not set")
    ]
    errors = [message for severity, message in messages if severity is Severity.ERROR]
    if errors:
        raise click.UsageError("\n".join(errors))
    return [f"warning: {message}" for _, message in messages]


def _hint(problem: Problem) -> str:
    return "" if problem.hint is None else f"\n    hint: {problem.hint}"


def _is_folder(config: Path) -> bool:
    """Return whether the table is a folder, or will be one."""
    return config.is_dir() or not (config.suffix in (".yml", ".yaml") or config.exists())


def _target(config: Path, path: str | None) -> Path:
    """Return the file to write. Raises BadParameter if the table does not include it."""
    usual = config / "routes.yml" if _is_folder(config) else config
    target = usual if path is None else Path(path)
    beside = target.parent.resolve() == config.resolve() and is_table_file(target)
    if beside or target.resolve() == usual.resolve():
        return target
    table = f"the .yml and .yaml files in {config}" if _is_folder(config) else f"one file, {config}"
    message = f"{target} is not part of the table; BRIDGE_CONFIG names {table}"
    raise click.BadParameter(f"{message}; --path - prints the new part", param_hint="--path")


def _write(terminal: Terminal, table: FirstTable, customer: str | None, target: Path) -> FirstTable:
    """Write a new file and return its table. Raises SettingsError, and ConfigError for new mistakes."""
    before = _mistakes(terminal)
    config = terminal.settings.config
    # A problem of the table itself: there is no table, or it has no theeye.
    of_table = {Place(str(config), line, line) for line in (0, 1)}
    if not customer and not any(place in of_table for place, _ in before):
        table = replace(table, customer=None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(_text(table))
    except FileExistsError:
        other = "choose another file in the folder with --path, or " if _is_folder(config) else ""
        hint = f"{other}print the table with --path -"
        raise SettingsError(f"{target} already exists\n    hint: {hint}") from None
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror}") from None
    after = _mistakes(terminal)
    new = [problem for key, problem in after.items() if key not in before]
    if new:
        target.unlink()
        terminal.warn(f"{target} is not written: the table would have new mistakes")
        raise ConfigError(new)
    if after:
        terminal.warn("warning: the other files of the table have mistakes; run `check`")
    return table


def _mistakes(terminal: Terminal) -> Mapping[tuple[Place, str], Problem]:
    """Return the mistakes of the table, by their place and message."""
    try:
        terminal.load()
    except ConfigError as error:
        errors = (each for each in error.problems if each.severity is Severity.ERROR)
        return {(each.place, each.message): each for each in errors}
    return {}


def _next_steps(table: FirstTable, hook: str, *, is_local: bool) -> Iterator[str]:
    """Return the lines for the sender, and for the environment of the bridge; the commands follow them."""
    proof, guide = table.proof, table.type.guide
    secret = "" if proof.key in table.type.sender_issued else secrets.token_hex(32)
    by_token = proof.key == "url_token"
    yield from ("", f"1. Set up the webhook at {guide.sender}:", "")
    yield _indented(f"URL: {hook}?token={secret}" if by_token else f"URL: {hook}")
    yield from map(_indented, [] if by_token else _credentials(proof.key, secret))
    yield _filled(guide.setup)
    if is_local:
        local = hook.partition("/hooks/")[0]
        yield _filled(
            f"If the sender runs on another machine, replace {local} by the bridge's public address."
        )
    if table.event is not None and "event" in table.type.options:
        yield _filled(
            "All events have the name 'event', unless you set event: on the source to a field's path."
        )
    yield from ("", "2. Set these variables where the bridge runs. Fill in the empty ones:", "")
    looked_up = dict(_looked_up(table, is_issued=not secret))
    if secret:
        yield _indented(f"export {table.variable}={secret}")
    yield from (_indented(f"export {name}=") for name in looked_up)
    yield ""
    yield from (_indented(f"{name}: {meaning}") for name, meaning in looked_up.items())
    yield from ("", "3. Check the table, and run the server:", "")


def _looked_up(table: FirstTable, *, is_issued: bool) -> Iterator[tuple[str, str]]:
    """Yield each variable whose value a person must look up, and where."""
    if is_issued:
        yield table.variable, f"copy it from {table.type.guide.sender}"
    yield table.key, "the task's secret key, 64 characters, on the task's page at TheEye"
    if (task := env_name(table.task)) is not None:
        yield task, "the task's id, 24 hex digits, in the URL of that page"
    if table.customer == FirstTable.customer:
        yield "THEEYE_CUSTOMER", "the exact name of your organization at TheEye"


def _credentials(key: str, secret: str) -> Iterator[str]:
    if secret and key == "basic_auth":
        yield f"user name: {FirstTable.USERNAME}"
        yield f"password: {secret}"
    elif secret:
        yield f"{key.removeprefix('bearer_')}: {secret}"


def _indented(text: str) -> str:
    return f"    {text}"


def _filled(prose: str) -> str:
    return textwrap.fill(" ".join(prose.split()), _WIDTH, initial_indent="    ", subsequent_indent="    ")
