"""The program ``theeye-bridge``: its commands, each in the file of its name, and how it prints an error."""

from __future__ import annotations

import click

from bridge import __version__
from bridge.cli.audit import audit
from bridge.cli.check import check
from bridge.cli.db import db
from bridge.cli.demo import demo
from bridge.cli.events import events
from bridge.cli.explain import explain
from bridge.cli.fake_theeye import fake_theeye
from bridge.cli.init import init
from bridge.cli.jobs import jobs
from bridge.cli.pause import pause
from bridge.cli.preview import preview_table
from bridge.cli.prune import prune
from bridge.cli.record import record_event
from bridge.cli.resume import resume
from bridge.cli.schema import schema
from bridge.cli.send import send
from bridge.cli.serve import serve
from bridge.cli.terminal import Terminal
from bridge.cli.test import test
from bridge.cli.worker import worker
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.secrets import Mask
from bridge.process.log import configure
from bridge.process.settings import Settings

COMPLETION = """\b
To complete commands with Tab (also zsh_source, fish_source):
  eval "$(_THEEYE_BRIDGE_COMPLETE=bash_source theeye-bridge)"
"""


class Commands(click.Group):
    """A group that prints an error in one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of COMMANDS, not of the alphabet."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            terminal = ctx.obj if isinstance(ctx.obj, Terminal) else None
            # Each problem of a table has its own place and severity.
            text = str(error) if isinstance(error, ConfigError) else f"Error: {error}"
            click.echo(text if terminal is None else terminal.fit(text), err=True)
            ctx.exit(1)


@click.group("theeye-bridge", cls=Commands, epilog=COMPLETION)
@click.version_option(
    __version__, prog_name="theeye-bridge", message="%(prog)s %(version)s", help="Print the version."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run TheEye tasks from webhooks."""
    mask = Mask()
    configure("WARNING", "text", mask)
    ctx.obj = Terminal(Settings.from_environ(), mask)
    mask.add(ctx.obj.settings.secrets)
    if ctx.obj.settings.is_colorless:
        ctx.color = False


#: In the order in which a new user needs them.
COMMANDS = (
    demo, init, check, explain, test, record_event, preview_table, schema, serve, fake_theeye, worker,
    send, jobs, events, pause, resume, audit, db, prune,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
