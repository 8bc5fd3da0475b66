"""The command ``send``: sign a webhook and post it to the bridge."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO
from urllib.parse import SplitResult, urlencode, urlunsplit

import click

from bridge.cli.sender import Sent, find_source, hook_url, sent_webhook
from bridge.cli.terminal import Terminal
from bridge.core.errors import AnswerLost, NotSent, SettingsError
from bridge.core.event import Headers, Request
from bridge.core.hosts import is_loopback
from bridge.core.problem import Problem
from bridge.http.client import HttpAnswer, HttpClient
from bridge.process.watchdog import Watchdog
from bridge.report.lines import one_line

#: Seconds until an answer: a request may take 20 s to arrive, and wait 5 s for memory.
PATIENCE = 30.0


@click.command()
@click.option("--source", required=True, help="Sign as the sender of this source.")
@sent_webhook
@click.option("--url", help="Post to this URL.  [default: http://127.0.0.1:$PORT]")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def send(terminal: Terminal, source: str, sent: Sent, url: str | None, file: IO[bytes]) -> None:
    """Sign a webhook as its sender would, and post it.

    FILE holds the body (- for standard input). The command adds the headers that the sender adds. --url is
    the address of the bridge, or the whole URL of the webhook. The exit status is 0 if the answer is 2xx,
    else 1.
    """
    target = hook_url(url or f"http://127.0.0.1:{terminal.settings.port}", source)
    loaded = terminal.load()
    sender = find_source(loaded.table, source)
    request = sent.request(sender, file.read(), terminal)
    try:
        request = sender.sign(request)
    except SettingsError as error:
        raise SettingsError("\n".join([f"source {source}: {error}", *_unset(loaded.problems)])) from None
    for given, made in ((Headers(sent.headers), request.headers), (sent.query, request.query)):
        if replaced := [name for name, value in given.items() if made[name] != value]:
            raise click.UsageError(f"the command sets {', '.join(replaced)} itself: remove the option")
    if target.scheme == "http" and not is_loopback(target.hostname or ""):
        seen = " and ".join([*(one.proof.header for one in sender.required), "the body"])
        terminal.warn(f"warning: {seen} can be read by others on the network to {target.hostname}; use https")
    shown = urlunsplit(target)
    where = urlunsplit(target._replace(query=_query(target, request)))
    hint = f"start the bridge, or {'correct' if url else 'add'} --url"
    answer = _post(shown, where, request, hint=hint)
    terminal.say([f"{answer.status} from {shown}"])
    terminal.say(map(one_line, answer.body.decode("utf-8", "replace").splitlines()))
    if answer.status == 401:
        terminal.warn(
            "hint: this shell's secret may differ from the server's: see events list --refused at the server"
        )
    if not 200 <= answer.status < 300:
        sys.exit(1)


def _unset(problems: Iterable[Problem]) -> list[str]:
    """Return the problems that name an unset variable."""
    return [str(problem) for problem in problems if problem.message.endswith("is not set")]


def _query(target: SplitResult, request: Request) -> str:
    """Return the query of the URL, with the proof of the request if it goes there."""
    return "&".join(filter(None, [target.query, urlencode(request.query)]))


def _post(shown: str, url: str, request: Request, hint: str) -> HttpAnswer:
    """Return the answer of the bridge. `shown` is the URL in messages, `hint` for a bridge that is down.

    Raises NotSent, AnswerLost.
    """
    watchdog = Watchdog()
    client = HttpClient(watchdog)
    try:
        return client.post(url, request.headers, request.body, PATIENCE)
    except NotSent as error:
        if "wrong version number" in str(error):
            hint = "the port answers without TLS: write http:// in --url"
        raise NotSent(f"cannot send to {shown}: {error}\n    hint: {hint}") from None
    except AnswerLost as error:
        hint = "the bridge may have stored the webhook: see events list"
        raise AnswerLost(f"no answer from {shown}: {error}\n    hint: {hint}") from None
    finally:
        client.close()
        watchdog.close()
