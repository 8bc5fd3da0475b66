"""The command that shows a whole delivery: demo."""

from __future__ import annotations

import click

from bridge.demo import tour


@click.command()
@click.option("--once", is_flag=True, help="End after the tour: with 0, or with 1 where a step failed.")
def demo(once: bool) -> None:
    """Show a whole delivery on this machine, against a stand-in TheEye."""
    tour.run(click.echo, once=once)
