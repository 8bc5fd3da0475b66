"""The commands of ``python -m bridge``, on Click: one module for each noun, brought together here."""

from __future__ import annotations

import click

from bridge.cli import (
    audit,
    demo,
    events,
    init,
    jobs,
    pauses,
    preview,
    retention,
    schema,
    send,
    table,
    tests,
    worker,
)
from bridge.cli.terminal import Terminal
from bridge.core.errors import BridgeError
from bridge.core.secrets import Mask
from bridge.process.log import configure
from bridge.process.settings import Settings


class Commands(click.Group):
    """Prints the cause of an error, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            terminal = ctx.obj if isinstance(ctx.obj, Terminal) else None
            text = str(error) if terminal is None else terminal.fit(str(error))
            click.echo(text, err=True)
            ctx.exit(1)


@click.group(cls=Commands)
@click.pass_context
def main(ctx: click.Context) -> None:
    """A webhook-to-job bridge: webhooks in, authentic and stored; jobs out, at TheEye."""
    mask = Mask()
    configure("WARNING", "text", mask)
    ctx.obj = Terminal(Settings.from_environ(), mask)
    mask.add(ctx.obj.settings.secrets)
    if ctx.obj.settings.is_colorless:
        ctx.color = False


COMMANDS = (
    init.init, table.check, table.explain, tests.run_tests, tests.record_event, preview.preview_table,
    schema.schema, jobs.jobs, events.events, pauses.pause, pauses.resume, send.send,
    worker.serve, worker.worker, worker.db, retention.prune, audit.audit, demo.demo,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
