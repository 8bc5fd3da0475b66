"""The command ``fake-theeye``: run a stand-in TheEye for the routing table."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import click

from bridge.cli.terminal import PORT, Terminal
from bridge.core.event import JSON
from bridge.demo.arguments import Verdict
from bridge.demo.fake_theeye import fake_theeye as stand_in
from bridge.demo.fake_theeye import order_lines


@click.command("fake-theeye")
@click.option("--port", type=PORT, metavar="N", default=8001, help="Listen on this port.  [default: 8001]")
@click.pass_obj
def fake_theeye(terminal: Terminal, port: int) -> None:
    """Run a stand-in TheEye for the routing table.

    The stand-in answers as TheEye does: it accepts the tasks and keys of the table, and refuses others. For
    each job it prints the arguments that the task's script receives. It runs no script. The command
    prints its address: set theeye.url in the table to it. Restart the command after you edit the tasks.
    """
    table = terminal.load(require_env=True).table

    def on_order(task_id: JSON, verdict: Verdict) -> None:
        terminal.say(["\n".join(order_lines(table, task_id, verdict))])

    theeye = stand_in(table, port, on_order)
    try:
        theeye.start()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"cannot listen on port {port}: {reason}; choose another with --port"
        raise click.ClickException(message) from None
    names = ", ".join(task.name for task in table.tasks.values())
    terminal.say([f"A stand-in TheEye listens on {theeye.url}. Its tasks: {names}."])
    if table.theeye.url != theeye.url:
        terminal.say([f"The table's theeye.url is {table.theeye.url}: set it to {theeye.url}."])
    with suppress(KeyboardInterrupt):
        signal.pause()
    theeye.stop()
