"""The command that stands in for a sender: send."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO
from urllib.parse import SplitResult, urlencode, urlunsplit

import click

from bridge.cli.sender import find_source, hook_url, named_event, sender_request
from bridge.cli.terminal import Terminal
from bridge.config.readers import is_loopback
from bridge.core.errors import AnswerLost, NotSent, SettingsError
from bridge.core.event import Request
from bridge.core.problem import Problem
from bridge.http.client import HttpAnswer, HttpClient
from bridge.process.watchdog import Watchdog
from bridge.report import rows

#: Seconds that the bridge may take: it lets a request wait 20 s, and 5 s more for room.
PATIENCE = 30.0


@click.command()
@click.option("--source", required=True, help="Send as this source's sender, as the table names it.")
@named_event
@click.option("--url", help="The bridge's address, or the webhook's own.  [default: http://127.0.0.1:$PORT]")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def send(terminal: Terminal, source: str, event: str | None, url: str | None, file: IO[bytes]) -> None:
    """Sign the body in FILE (- for standard input) as its sender would, and post it to the bridge.

    Exits with 0 where the answer is 2xx, else with 1.
    """
    target = hook_url(url or f"http://127.0.0.1:{terminal.settings.port}", source)
    loaded = terminal.load()
    sender = find_source(loaded.table, source)
    request = sender_request(sender, event, file.read())
    try:
        request = sender.sign(request)
    except SettingsError as error:
        raise SettingsError("\n".join([f"source {source}: {error}", *_unset(loaded.problems)])) from None
    if target.scheme == "http" and not is_loopback(target.hostname or ""):
        seen = " and ".join([*(one.proof.header for one in sender.required), "the body"])
        terminal.warn(f"warning: {seen} can be read on the way to {target.hostname}; use https")
    shown = urlunsplit(target)
    answer = _post(shown, urlunsplit(target._replace(query=_query(target, request))), request)
    terminal.say(rows.answer_lines(shown, answer))
    if not 200 <= answer.status < 300:
        sys.exit(1)


def _unset(problems: Iterable[Problem]) -> list[str]:
    """Which variables of the table are not set, each with its place."""
    return [str(problem) for problem in problems if problem.message.endswith("is not set")]


def _query(target: SplitResult, request: Request) -> str:
    """The query of the URL as it was given, with what proves the request."""
    return "&".join(filter(None, [target.query, urlencode(request.query)]))


def _post(shown: str, url: str, request: Request) -> HttpAnswer:
    """The bridge's answer. `shown` is the URL for people. Raises NotSent, AnswerLost."""
    watchdog = Watchdog()
    client = HttpClient(watchdog)
    try:
        return client.post(url, request.headers, request.body, PATIENCE)
    except NotSent as error:
        hint = "start the bridge, or say --url"
        raise NotSent(f"nothing was sent to {shown}: {error}\n    hint: {hint}") from None
    except AnswerLost as error:
        hint = "the bridge may have taken it: see events list"
        raise AnswerLost(f"no answer from {shown}: {error}\n    hint: {hint}") from None
    finally:
        client.close()
        watchdog.close()
