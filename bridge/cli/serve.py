"""The command ``serve``: run the server."""

from __future__ import annotations

import ipaddress
import os
import re
import sys

import click

from bridge.cli.terminal import PORT, Terminal
from bridge.server.listen_address import every_interface

#: The module of gunicorn's settings.
SETTINGS = "python:bridge.server.gunicorn_config"


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", type=PORT, metavar="N", help="Listen on this port.  [default: PORT, else 8000]")
@click.option("--bind", metavar="ADDR", help="Listen on this address only, such as 127.0.0.1.")
@click.argument("gunicorn_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def serve(terminal: Terminal, port: int | None, bind: str | None, gunicorn_options: tuple[str, ...]) -> None:
    """Run the server: receive webhooks and deliver jobs.

    The server is gunicorn, with settings of the bridge. The command passes GUNICORN_OPTIONS to gunicorn.
    """
    # gunicorn converts this variable when it is imported: any other text than a number is a traceback there.
    os.putenv("WEB_CONCURRENCY", str(terminal.settings.web_concurrency))
    command = [sys.executable, "-m", "gunicorn", "-c", SETTINGS, *gunicorn_options]
    if bind is not None:
        command += ["--bind", _address(bind, port, terminal.settings.port)]
    elif port is not None:
        command += ["--bind", every_interface(port)]
    command += ["bridge.wsgi:app"]
    os.execv(command[0], command)  # noqa: S606 - no shell, and its own arguments


def _address(bind: str, port: int | None, usual: int) -> str:
    """Return gunicorn's form of an address. Raises BadParameter if it holds a port beside `port`."""
    host = bind.strip("[]")
    try:
        host = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        if re.search(r":\d+$|^(unix|fd):", bind):
            if port is not None:
                message = f"{bind} has a port or names a socket: remove --port"
                raise click.BadParameter(message, param_hint="--bind") from None
            return bind
    return f"{host}:{usual if port is None else port}"
