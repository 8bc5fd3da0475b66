"""The command ``record``: turn a stored event into a test of the routing table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click
import orjson

from bridge.cli.explain import stored_event
from bridge.cli.terminal import NUMBER, Terminal
from bridge.core.errors import ExpressionError, Refusal
from bridge.core.event import JSON, Event, Headers
from bridge.core.exact_json import dumps
from bridge.core.fields import parse_path
from bridge.core.problem import Place
from bridge.core.redaction import REDACTED, is_redacted, redact
from bridge.core.secrets import Mask
from bridge.dry_run.recorder import as_test_event, record, yaml_lines

#: The longest part of an event's name in the name of a file, in characters.
_NAMED = 60


@click.command("record")
@click.argument("event_id", type=NUMBER)
@click.option(
    "--redact",
    "paths",
    metavar="PATH",
    multiple=True,
    help="Redact this field, such as payload.user.email.",
)
@click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path),
    help="Write the payload here.  [default: tests beside the table]",
)  # fmt: skip
@click.pass_obj
def record_event(terminal: Terminal, event_id: int, paths: tuple[str, ...], into: Path | None) -> None:
    """Turn a stored event into a test of the routing table.

    The command writes the payload to a file in the table's folder, and prints the YAML of the test. To add
    the test to the table, run `record 12 >> config/event-12.yml`. The test expects the jobs that the current
    table creates. The command never overwrites a payload file.
    """
    table = terminal.load().table
    as_stored = stored_event(terminal, event_id, table)
    event = _shown(terminal, _without(as_stored, paths))
    config = terminal.settings.config
    folder = config if config.is_dir() else config.parent
    into = folder / "tests" if into is None else into
    if not into.resolve().is_relative_to(folder.resolve()):
        message = f"expected a folder in {folder}, the folder of the table, such as {folder / 'tests'}"
        raise click.BadParameter(message, param_hint="--into")
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", event.full_name)[:_NAMED].strip(".-") or "event"
    file = into / f"{slug}-{event_id}.json"
    try:
        test = record(f"{slug} {event_id}", Place(str(file), 1, 1), event, table, terminal.mask)
    except Refusal as error:
        raise click.ClickException(f"event {event_id} cannot become a test: {error}") from error
    payload = into.resolve().relative_to(folder.resolve()) / file.name
    lines = list(yaml_lines(test, payload.as_posix(), table))
    if hidden := [line for line in lines if terminal.fit(line) != line]:
        shown = terminal.fit(hidden[0].strip())
        raise click.ClickException(
            f"event {event_id} cannot become a test: it would contain a secret: {shown}"
        )
    _write(file, event.body)
    terminal.say(lines)
    terminal.warn(f"wrote {file}")
    for job in test.expected:
        if job.arguments is None and job.error is None:
            terminal.warn(
                f"route {job.route!r}: the test does not compare the arguments, "
                "because they contain a secret or cannot be written in a table"
            )
    if is_redacted(as_stored):
        terminal.warn(f"a field is redacted, so its value in the test is {REDACTED!r}; check expect")
    elif table.jobs_for(as_test_event(event)).jobs != table.jobs_for(as_stored).jobs:
        terminal.warn("the table creates different jobs because fields are redacted; check expect")


def _without(event: Event, paths: tuple[str, ...]) -> Event:
    """Return the event with these fields redacted. Raises BadParameter if one is missing."""
    for text in paths:
        try:
            path = parse_path(text, ("payload", "headers", "query"))
        except ExpressionError as error:
            raise click.BadParameter(str(error), param_hint="--redact") from error
        if not path.steps or (path.root != "payload" and len(path.steps) > 1):
            raise click.BadParameter(f"{text} is not a single field", param_hint="--redact")
        without = redact(event, [path])
        if (without.payload, without.headers, without.query) == (event.payload, event.headers, event.query):
            raise click.BadParameter(f"the event has no {text}", param_hint="--redact")
        event = without
    return event


def _shown(terminal: Terminal, event: Event) -> Event:
    """Return the event with an indented payload, and without secrets."""
    mask = terminal.mask
    payload = _masked(event.payload, mask)
    return replace(
        event,
        payload=payload,
        body=dumps(payload, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        headers=Headers((name, mask(value)) for name, value in event.headers.items()),
        query={name: mask(value) for name, value in event.query.items()},
        delivery_id=mask(event.delivery_id),
    )


def _masked(value: JSON, mask: Mask) -> JSON:
    """Return a copy in which every value with a secret is a masked text; a number may be one, too."""
    if isinstance(value, dict):
        return {mask(name): _masked(inner, mask) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, mask) for inner in value]
    text = value if isinstance(value, str) else dumps(value).decode()
    masked = mask(text)
    return value if masked == text else masked


def _write(file: Path, body: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(body)
    except FileExistsError:
        there = f"{file} already exists"
        reason = there if file.parent.is_dir() else f"{file.parent} is not a folder"
        raise click.ClickException(f"{reason}; choose another folder with --into") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
