"""The commands of the table's tests: test, and record, which makes one of a stored event."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import orjson

from bridge.cli.table import stored_event
from bridge.cli.terminal import NUMBER, Terminal, as_json
from bridge.config.problems import guess
from bridge.core.errors import ExpressionError, Refusal
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import parse_path
from bridge.core.problem import Place
from bridge.core.redaction import REDACTED, is_redacted, redact
from bridge.core.secrets import Mask
from bridge.dry_run.recorder import as_test_event, record, yaml_lines
from bridge.dry_run.routing_test import RoutingTest, RoutingTestResult
from bridge.process.log import escaped

#: Of an event, how many characters stand in a file's name.
_NAMED = 60


@click.command("test")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--name", "names", multiple=True, help="Only the test of this name; may be given again.")
@as_json
@click.pass_obj
def run_tests(terminal: Terminal, path: Path | None, names: tuple[str, ...], in_json: bool) -> None:
    """Run the tests of the routing table at PATH (default: BRIDGE_CONFIG).

    Exits with 0 where all pass, with 1 where one fails or the table has mistakes.
    """
    loaded = terminal.load(path, with_tests=True)
    there = [test.name for test in loaded.tests]
    for name in names:
        if name not in there:
            meant, listed = guess(name, there)
            raise click.BadParameter(
                f"no test is named {name!r}{meant}; there are: {listed}", param_hint="--name"
            )
    done = [
        (test, test.run(loaded.table, terminal.mask))
        for test in loaded.tests
        if not names or test.name in names
    ]
    failed = sum(bool(verdict.failures) for _, verdict in done)
    if in_json:
        terminal.say_json({"failed": failed, "tests": [_verdict_json(*each) for each in done]})
    else:
        for each in done:
            terminal.say(map(escaped, _verdict_lines(*each)))
        count = f"{len(done)} test{'' if len(done) == 1 else 's'}"
        terminal.say([f"{count}, {failed} failed" if done else "no tests"])
    if failed:
        sys.exit(1)


def _verdict_lines(test: RoutingTest, verdict: RoutingTestResult) -> Iterator[str]:
    yield f"FAIL  {test.name}  ({test.place})" if verdict.failures else f"ok    {test.name}"
    for each in verdict.failures:
        yield f"      {each.subject}: expected {each.expected}, got {each.actual}"
    for warning in verdict.warnings:
        yield f"      warning: {warning}"


def _verdict_json(test: RoutingTest, verdict: RoutingTestResult) -> JSON:
    differences = [
        {"subject": each.subject, "expected": each.expected, "actual": each.actual}
        for each in verdict.failures
    ]
    return {
        "name": test.name,
        "place": str(test.place),
        "passed": not differences,
        "differences": differences,
        "warnings": list(verdict.warnings),
    }


@click.command("record")
@click.argument("event_id", type=NUMBER)
@click.option(
    "--redact",
    "paths",
    metavar="PATH",
    multiple=True,
    help="A field to leave out, such as payload.user.email.",
)
@click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the payload, in that of the table.  [default: tests, there]",
)  # fmt: skip
@click.pass_obj
def record_event(terminal: Terminal, event_id: int, paths: tuple[str, ...], into: Path | None) -> None:
    """Make a test of a stored event: write its payload to a file, and print the test's YAML.

    It expects what today's table makes of the event. What is printed is a whole file for the table's
    folder, as in `record 12 >> config/event-12.yml`; or paste it below tests:. No file is overwritten.
    """
    table = terminal.load().table
    as_stored = stored_event(terminal, event_id, table)
    event = _shown(terminal, _without(as_stored, paths))
    config = terminal.settings.config
    folder = config if config.is_dir() else config.parent
    into = folder / "tests" if into is None else into
    if not into.resolve().is_relative_to(folder.resolve()):
        message = f"expected a folder in {folder}: a table's payloads are beside it"
        raise click.BadParameter(message, param_hint="--into")
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", event.full_name)[:_NAMED].strip(".-") or "event"
    file = into / f"{slug}-{event_id}.json"
    try:
        test = record(f"{slug} {event_id}", Place(str(file), 1, 1), event, table, terminal.mask)
    except Refusal as error:
        raise click.ClickException(f"no test can be made of event {event_id}: {error}") from error
    payload = into.resolve().relative_to(folder.resolve()) / file.name
    lines = list(yaml_lines(test, payload.as_posix(), table))
    if hidden := [line for line in lines if terminal.fit(line) != line]:
        shown = terminal.fit(hidden[0].strip())
        raise click.ClickException(
            f"no test can be made of event {event_id}: it would hold a secret: {shown}"
        )
    _write(file, event.body)
    terminal.say(lines)
    terminal.warn(f"wrote {file}")
    for job in test.expected:
        if job.arguments is None and job.error is None:
            terminal.warn(f"route {job.route!r}: any arguments will do, as the table may not hold its own")
    if is_redacted(as_stored):
        terminal.warn(f"a field was redacted when it was stored: the test has {REDACTED!r} there, see expect")
    elif table.jobs_for(as_test_event(event)).jobs != table.jobs_for(as_stored).jobs:
        terminal.warn("without what was redacted the table makes other jobs of it: see expect")


def _without(event: Event, paths: tuple[str, ...]) -> Event:
    """The event with these fields redacted. Raises BadParameter where one is not there."""
    for text in paths:
        try:
            path = parse_path(text, ("payload", "headers", "query"))
        except ExpressionError as error:
            raise click.BadParameter(str(error), param_hint="--redact") from error
        if not path.steps or (path.root != "payload" and len(path.steps) > 1):
            raise click.BadParameter(f"{text} is no single field", param_hint="--redact")
        found = redact(event, [path])
        if (found.payload, found.headers, found.query) == (event.payload, event.headers, event.query):
            raise click.BadParameter(f"the event has no {text}", param_hint="--redact")
        event = found
    return event


def _shown(terminal: Terminal, event: Event) -> Event:
    """The event as it is written: for people, and without what passes for a secret."""
    mask = terminal.mask
    payload = _masked(event.payload, mask)
    return replace(
        event,
        payload=payload,
        body=orjson.dumps(payload, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        headers=Headers((name, mask(value)) for name, value in event.headers.items()),
        query={name: mask(value) for name, value in event.query.items()},
        delivery_id=mask(event.delivery_id),
    )


def _masked(value: JSON, mask: Mask) -> JSON:
    """A copy in which a text stands for each value that is a secret, a number too."""
    if isinstance(value, dict):
        return {mask(name): _masked(inner, mask) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, mask) for inner in value]
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    masked = mask(text)
    return value if masked == text else masked


def _write(file: Path, body: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(body)
    except FileExistsError:
        there = f"{file} is there already, and stays"
        reason = there if file.parent.is_dir() else f"{file.parent} is no folder"
        raise click.ClickException(f"{reason}; say another folder: --into") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
