"""The command ``worker``: run delivery in a separate process."""

from __future__ import annotations

import click

from bridge.cli.terminal import Terminal
from bridge.server import delivery_worker as process


@click.command()
@click.pass_obj
def worker(terminal: Terminal) -> None:
    """Run delivery in a separate process.

    Start the server with BRIDGE_DELIVER=false, so that it only receives.
    """
    process.run(terminal.settings)
