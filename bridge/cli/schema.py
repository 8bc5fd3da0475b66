"""The command ``schema``: print the JSON Schema of the routing table."""

from __future__ import annotations

import click

from bridge.config.json_schema import document
from bridge.sources.base.discovery import discover


@click.command()
def schema() -> None:
    """Print the JSON Schema of the routing table, for editors."""
    click.echo(document(discover().values()), nl=False)
