"""The program ``theeye-bridge``: its commands, each in the file of its name, and how it prints an error."""

from __future__ import annotations

from importlib import import_module

import click

from bridge import __version__
from bridge.cli.terminal import Terminal
from bridge.core.errors import BridgeError, ConfigError, NoStore
from bridge.core.secrets import Mask
from bridge.process.log import configure
from bridge.process.settings import Settings

COMPLETION = """\b
To complete commands with Tab (also zsh_source, fish_source):
  eval "$(_THEEYE_BRIDGE_COMPLETE=bash_source theeye-bridge)"
"""


#: The commands in the order in which a new user needs them: the name of each function, in the file of the
#: command's name.
COMMANDS = {
    "demo": "demo",
    "init": "init",
    "check": "check",
    "explain": "explain",
    "test": "test",
    "record": "record_event",
    "preview": "preview_table",
    "schema": "schema",
    "serve": "serve",
    "fake-theeye": "fake_theeye",
    "worker": "worker",
    "send": "send",
    "jobs": "jobs",
    "events": "events",
    "pause": "pause",
    "resume": "resume",
    "audit": "audit",
    "db": "db",
    "prune": "prune",
}


class Commands(click.Group):
    """Imports a command when it is needed, and prints an error in one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of COMMANDS, not of the alphabet."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command: `check` and `test` need neither the web application nor the database."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"bridge.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = getattr(module, COMMANDS[cmd_name])
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            terminal = ctx.obj if isinstance(ctx.obj, Terminal) else None
            # Each problem of a table has its own place and severity.
            text = str(error) if isinstance(error, ConfigError) else f"Error: {error}"
            click.echo(text if terminal is None else terminal.fit(text), err=True)
            ctx.exit(2 if isinstance(error, NoStore) else 1)


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
