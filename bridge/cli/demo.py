"""The command ``demo``: show a whole delivery."""

from __future__ import annotations

import click

from bridge.demo import tour


@click.command()
@click.option("--once", is_flag=True, help="Exit after the tour, with 1 if a step failed.")
def demo(once: bool) -> None:
    """Show a whole delivery, with a stand-in TheEye.

    Everything runs on this machine. The demo runs until you press Ctrl-C, unless you add --once.
    """
    tour.run(click.echo, once=once)
