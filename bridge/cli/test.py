"""The command ``test``: run the tests of the routing table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.cli.terminal import Terminal, as_json
from bridge.config.problems import guess
from bridge.core.event import JSON
from bridge.dry_run.routing_test import RoutingTest, RoutingTestResult
from bridge.process.log import escaped


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--name", "names", multiple=True, help="Run only the test of this name. Repeatable.")
@as_json
@click.pass_obj
def test(terminal: Terminal, path: Path | None, names: tuple[str, ...], in_json: bool) -> None:
    """Run the tests of the routing table.

    PATH is the table's folder or file, by default BRIDGE_CONFIG. The exit status is 0 if all tests pass. It
    is 1 if a test fails, or if the table has mistakes.
    """
    loaded = terminal.load(path, with_tests=True)
    there = [test.name for test in loaded.tests]
    for name in names:
        if name not in there:
            meant, listed = guess(name, there)
            raise click.BadParameter(
                f"no test is named {name!r}{meant}; known: {listed}", param_hint="--name"
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
