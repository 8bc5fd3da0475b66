"""The command that prints the table's JSON Schema: schema."""

from __future__ import annotations

import click

from bridge.config.json_schema import document
from bridge.sources.base.discovery import discover


@click.command()
def schema() -> None:
    """Print the routing table's JSON Schema, with which an editor completes and underlines."""
    click.echo(document(discover().values()), nl=False)
