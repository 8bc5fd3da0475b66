"""The command ``check``: find every mistake in the routing table."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.terminal import Terminal, as_json
from bridge.core.errors import ConfigError
from bridge.core.problem import Problem
from bridge.process.database_disk import disk_trouble
from bridge.report.problems import annotation, problem_json
from bridge.routing.routing_table import RoutingTable


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--env", "require_env", is_flag=True, help="Report unset variables as errors, not as warnings.")
@as_json
@click.option("--github", "annotate", is_flag=True, help="Print annotations for GitHub Actions.")
@click.pass_obj
def check(terminal: Terminal, path: Path | None, require_env: bool, in_json: bool, annotate: bool) -> None:
    """Find every mistake in the routing table.

    PATH is the table's folder or file, by default BRIDGE_CONFIG. Each mistake has its file, line and column.
    The exit status is 1 if there are mistakes, and 0 otherwise. Warnings do not change it.
    """
    if in_json and annotate:
        raise click.UsageError("--json and --github cannot be combined")
    problems: tuple[Problem, ...]
    table = None
    try:
        loaded = terminal.load(path, require_env=require_env, with_tests=True)
        problems, table, version = loaded.problems, loaded.table, loaded.version
    except ConfigError as error:
        problems = error.problems
    if require_env and table is not None:
        for line in terminal.settings.unknown_variables():
            terminal.warn(f"warning: {line}")
        if trouble := disk_trouble(terminal.settings):
            terminal.warn(f"warning: {trouble}")
    if in_json:
        terminal.say_json([problem_json(problem) for problem in problems])
    else:
        terminal.say(map(annotation if annotate else str, problems))
    if table is None:
        raise SystemExit(1)
    if not in_json and not annotate:
        terminal.say([f"table {version.hash}: {_counted(table, len(problems))}"])


def _counted(table: RoutingTable, warnings: int) -> str:
    counts = [f"{len(part)} {name}{'' if len(part) == 1 else 's'}" for part, name in (
        (table.sources, "source"), (table.tasks, "task"), (table.routes, "route"),
    )]  # fmt: skip
    return f"{', '.join(counts)}; no mistakes, {warnings} warnings"
