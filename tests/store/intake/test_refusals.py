"""Refused requests are kept, the last ones of each source: what is written, when, and what never is."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, text

from bridge.app import Bridge, table_watcher, wire
from bridge.config.load import load
from bridge.core.errors import Refusal, StoreUnavailable
from bridge.core.event import Request
from bridge.core.secrets import Mask
from bridge.intake.receive import Receiver
from bridge.intake.refusals import WRITE_INTERVAL_SECONDS, Refusals
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.refused_requests import LIMIT_PER_SOURCE, RefusedRequest, store_refused
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredWebhook
from bridge.process.settings import Settings
from bridge.process.watchdog import Guard
from bridge.report.events import refused_json
from bridge.sources.base.discovery import discover
from bridge.sources.base.source import MAX_NAME, Source
from bridge.web.application import create_app
from bridge.web.request_deadline import request_guard
from tests.support.intake import (
    BEARER,
    JSON_HEADERS,
    VARIABLES,
    github_headers,
    sample,
    signature,
    table,
)
from tests.support.tables import NOW, PATIENCE, Clock, in_threads, wait_until

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  closed: {type: generic, bearer_token: "${{ env.TOKEN }}"}
  open: {type: generic, allow_unsigned: true}
routes:
  - {name: any, source: open, task: TASK, secret_key: KEY, task_arguments: []}
"""

PUSH = sample("github/push.json")

#: Bytes, of the application under test.
MAX_BODY = 20_000


@dataclass
class Web:
    """One process's application on a store."""

    bridge: Bridge
    client: FlaskClient

    def kept(self) -> list[RefusedRequest]:
        """What was refused so far, the newest first; nothing is kept any more."""
        self.bridge.refusals.close()
        return self.bridge.outbox.refused(limit=1000)


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    outbox = Outbox(url)
    yield outbox
    outbox.close()


@pytest.fixture
def refusals(outbox: Outbox) -> Iterator[Refusals]:
    refusals = Refusals(outbox)
    yield refusals
    refusals.close()


@pytest.fixture
def web(outbox: Outbox, refusals: Refusals, tmp_path: Path) -> Web:
    path = tmp_path / "table.yml"
    path.write_text(table(TABLE), "utf-8")
    loaded = load(path, VARIABLES, discover())
    mask = Mask(loaded.secrets)
    settings = Settings.from_environ({"BRIDGE_MAX_BODY": str(MAX_BODY)})
    receiver = Receiver(loaded.table, outbox, refusals, mask, Clock())
    bridge = wire(settings, table_watcher(settings), loaded, outbox, mask)
    bridge = replace(bridge, receiver=receiver, refusals=refusals)
    return Web(bridge, create_app(bridge).test_client())


def refused(number: int = 0, **more: Any) -> RefusedRequest:
    """A refused request; `number` tells it from others."""
    one = RefusedRequest("github", NOW + number, 401, f"reason {number}", "push", number)
    return replace(one, **more)


def numbered(numbers: Iterable[int], **more: Any) -> list[RefusedRequest]:
    return [refused(number, **more) for number in numbers]


# What is kept


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        (
            "/hooks/github",
            PUSH,
            {**JSON_HEADERS, "X-GitHub-Event": "push"},
            ("github", 401, "source github: the request has no X-Hub-Signature-256", "push"),
        ),
        (
            "/hooks/github/",
            PUSH,
            {**github_headers(PUSH), "X-Hub-Signature-256": signature(PUSH, "a wrong secret")},
            ("github", 401, "source github: X-Hub-Signature-256 does not match", "push"),
        ),
        (
            "/hooks/closed",
            b"{}",
            JSON_HEADERS,
            ("closed", 401, "source closed: the request has no Authorization", None),
        ),
        (
            "/hooks/closed",
            b"{}",
            {**JSON_HEADERS, "Authorization": "Bearer another"},
            ("closed", 401, "source closed: Authorization does not match", None),
        ),
        (
            "/hooks/github",
            b"{",
            github_headers(b"{"),
            ("github", 400, "the body is not valid JSON", "push"),
        ),
        (
            "/hooks/github",
            PUSH,
            {**github_headers(PUSH), "Content-Type": "text/plain"},
            ("github", 415, "content type 'text/plain'; expected ", "push"),
        ),
        (
            "/hooks/open",
            b"{}",
            {**JSON_HEADERS, "Content-Encoding": "gzip", "X-GitHub-Event": "push"},
            ("open", 415, "Content-Encoding 'gzip'; expected none", None),
        ),
        (
            "/hooks/open",
            b" " * (MAX_BODY + 1),
            JSON_HEADERS,
            ("open", 413, "the body has 20,001 bytes; expected at most 20,000", None),
        ),
    ],
    ids=["no signature", "another signature", "no token", "another token", "unreadable", "another type",
         "an encoding", "too large"],
)  # fmt: skip
@pytest.mark.slow_unless(url="sqlite")
def test_a_refused_request_is_kept(
    web: Web, path: str, body: bytes, headers: dict[str, str], expected: tuple[str, int, str, str | None]
) -> None:
    response = web.client.post(path, data=body, headers=headers)

    source, status, reason, event = expected
    assert response.status_code == status
    (kept,) = web.kept()
    assert kept.reason.startswith(reason)
    assert kept == RefusedRequest(source, NOW, status, kept.reason, event, len(body), "127.0.0.1")
    assert web.bridge.outbox.events() == []


def test_of_a_body_in_chunks_no_size_is_known(web: Web) -> None:
    stream = io.BytesIO(b" " * (MAX_BODY + 1))
    chunked = {"wsgi.input": stream, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    response = web.client.post("/hooks/open", headers=JSON_HEADERS, environ_overrides=chunked)

    assert response.status_code == 413
    assert [(kept.status, kept.size) for kept in web.kept()] == [(413, None)]


def test_a_request_that_does_not_come_whole_in_time_is_kept(web: Web) -> None:
    class Late(Guard):
        """Of a request whose time ended while its body was read."""

        fired = True
        early = False

        def __init__(self) -> None:
            """Guards no socket."""

        def release(self) -> None:
            """Nothing is watched."""

    token = request_guard.set(Late())
    try:
        response = web.client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS)
    finally:
        request_guard.reset(token)

    assert response.status_code == 408
    assert [(kept.status, kept.reason) for kept in web.kept()] == [
        (408, "the request was not complete within 20 s")
    ]


def test_every_class_of_refusal_is_kept_but_one(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every class of refusal is stored, except those with 503: after these, the sender sends again."""

    def leaves(kind: type[Refusal]) -> list[type[Refusal]]:
        below = kind.__subclasses__()
        return [leaf for each in below for leaf in leaves(each)] if below else [kind]

    for kind in leaves(Refusal):

        def refuse(self: Source, head: Request, kind: type[Refusal] = kind) -> None:
            raise kind(f"as {kind.__name__}")

        monkeypatch.setattr(Source, "verify_head", refuse)
        assert web.client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS).status_code == kind.status

    assert {(kept.status, kept.reason) for kept in web.kept()} == {
        (400, "as Unreadable"),
        (401, "as NotAuthentic"),
        (404, "as UnknownSource"),
        (405, "as WrongMethod"),
        (408, "as RequestTimeout"),
        (413, "as TooLarge"),
        (415, "as UnsupportedContent"),
    }


WRONG_PATH = ": a webhook's path is /hooks/<source>"


@pytest.mark.parametrize(
    ("method", "path", "status", "source", "reason"),
    [
        ("POST", "/hooks/opem", 404, "", "POST to 'opem': no source has this name; did you mean open?"),
        ("GET", "/hooks/x", 405, "", "GET to 'x': no source has this name; known: github, closed, open; a"),
        ("POST", "/hooks/" + "a" * 4000, 404, "", "POST to a text of 4000 characters: no source has this"),
        ("GET", "/hooks/open", 405, "open", "GET to 'open'; a webhook is a POST: set this method at"),
        ("PUT", "/hooks/open/", 405, "open", "PUT to 'open'; a webhook is a POST: set this method at"),
        ("HEAD", "/hooks/open", 405, "open", "HEAD to 'open'; a webhook is a POST: set this method at"),
        ("POST", "/open", 404, "", f"POST to '/open'{WRONG_PATH}; did you mean /hooks/open?"),
        ("POST", "/hook/opem/", 404, "", f"POST to '/hook/opem/'{WRONG_PATH}; did you mean /hooks/open?"),
        ("POST", "/hooks/open/x", 404, "", f"POST to '/hooks/open/x'{WRONG_PATH}; client"),
        ("POST", "/" + "a" * 4000, 404, "", f"POST to a text of 4001 characters{WRONG_PATH}; client"),
        ("POST", "/", 405, "", f"POST to '/'{WRONG_PATH}; client"),
    ],
)
@pytest.mark.slow_unless(url="sqlite")
def test_a_wrong_name_or_method_is_kept_and_logged(
    web: Web, caplog: pytest.LogCaptureFixture, method: str, path: str, status: int, source: str, reason: str
) -> None:
    response = web.client.open(path, method=method, data=b"{}", headers=JSON_HEADERS)

    assert response.status_code == status
    if path != "/":
        assert response.headers.get("Allow") == ("POST, OPTIONS" if status == 405 else None)
    (kept,) = web.kept()
    assert kept.reason.startswith(reason.removesuffix("; client"))
    assert (kept.source, kept.status) == (source, status)
    assert refused_json(kept)["source"] == (source or None)
    assert f"refused with {status}: {reason}" in caplog.text


def test_only_the_last_ones_of_all_unknown_names_are_kept(web: Web) -> None:
    """Who asks for sources that there are not would fill the store without end."""
    for number in range(LIMIT_PER_SOURCE + 5):
        web.client.post(f"/hooks/nowhere-{number}", data=b"{}", headers=JSON_HEADERS)
        web.client.post(f"/nowhere-{number}", data=b"{}", headers=JSON_HEADERS)
    assert len(web.kept()) == LIMIT_PER_SOURCE


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/elsewhere", {}, 404),
        ("GET", "/", {}, 200),
        ("OPTIONS", "/hooks/open", JSON_HEADERS, 200),
        ("POST", "/hooks/open", JSON_HEADERS, 202),
        ("POST", "/hooks/closed", {**JSON_HEADERS, **BEARER}, 200),
    ],
)
@pytest.mark.slow_unless(url="sqlite")
def test_what_is_no_refusal_of_a_source_is_not_kept(
    web: Web, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = web.client.open(path, method=method, data=b"{}", headers=headers)

    assert response.status_code == status
    assert web.kept() == []


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        (
            "/hooks/github",
            github_headers(PUSH),
            "begins like JSON, but its Content-Type says a form: set",
        ),
        ("/hooks/open", {}, "expected application/json: set it at the sender"),
    ],
)
def test_json_sent_as_a_form_says_what_to_do(
    web: Web, path: str, headers: dict[str, str], reason: str
) -> None:
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    web.client.post(path, data=PUSH, headers=form)
    assert reason in web.kept()[0].reason


def test_what_could_not_be_stored_is_not_kept(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_stored(*_: object) -> StoredWebhook:
        raise StoreUnavailable("the database cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "store", not_stored)
        assert web.client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS).status_code == 503

    assert web.kept() == []


# What never is


def test_no_credential_of_a_request_is_kept(web: Web, tmp_path: Path) -> None:
    """Neither a wrong one, which may be right elsewhere, nor a right one in a wrong place."""
    right, wrong = VARIABLES["TOKEN"], "wr0ng-7Qz"
    places = [right, wrong]
    for credential in places:
        headers = {**JSON_HEADERS, "X-Token": credential, "Cookie": credential}
        web.client.post(f"/hooks/closed?token={credential}&x={credential}", data=b"{}", headers=headers)
        authorization = {**headers, "Authorization": f"Bearer {credential}, Bearer {credential}"}
        web.client.post(f"/hooks/closed?token={credential}", data=credential.encode(), headers=authorization)
        signed = {**headers, "X-Hub-Signature-256": f"sha256={credential}", "X-GitHub-Event": "push"}
        web.client.post("/hooks/github", data=f'{{"a": "{credential}"}}'.encode(), headers=signed)
    secret = VARIABLES["GITHUB_SECRET"]
    web.client.post("/hooks/github", data=b"{}", headers={**JSON_HEADERS, "X-GitHub-Event": secret})

    kept = web.kept()
    assert len(kept) == 3 * len(places) + 1
    stored = "\n".join(map(repr, kept))
    for credential in (*places, secret):
        assert credential not in stored
    assert kept[0].event == "<secret>"


@pytest.mark.parametrize("header", ["Content-Type", "Content-Encoding"])
@pytest.mark.parametrize(("before", "shown"), [(60, "<secret>"), (95, "a text of 111 characters")])
@pytest.mark.slow_unless(url="sqlite")
def test_what_a_request_said_is_shown_whole_or_not_at_all(
    web: Web, header: str, before: int, shown: str
) -> None:
    """No mask finds a part of a secret."""
    value = "x" * before + VARIABLES["TOKEN"]
    web.client.post("/hooks/open", data=b"{}", headers={**JSON_HEADERS, header: value})

    (kept,) = web.kept()
    assert shown in kept.reason
    assert VARIABLES["TOKEN"][:5] not in kept.reason


# Odd ones


@pytest.mark.parametrize(
    ("header", "event"),
    [
        ("x" * 10_000, "x" * MAX_NAME),
        ("a\x00b", "a\\u0000b"),
        ("\x00" * 1000, "\\u0000" * MAX_NAME),
        ("\xe9\xff\x80", "\xe9\xff\x80"),
        ("\x1b[2J\x9b", "\x1b[2J\x9b"),
        ("", ""),
        ("'; DROP TABLE refusals; --", "'; DROP TABLE refusals; --"),
    ],
    ids=["long", "nul", "many nul", "latin-1", "control", "empty", "sql"],
)
def test_an_odd_event_can_be_stored(web: Web, header: str, event: str) -> None:
    web.client.post("/hooks/github", data=b"{}", headers=JSON_HEADERS,
                    environ_overrides={"HTTP_X_GITHUB_EVENT": header})  # fmt: skip

    assert [kept.event for kept in web.kept()] == [event]


@pytest.mark.parametrize("length", ["9223372036854775808", "9" * 400])
def test_a_size_that_no_database_holds_is_cut(web: Web, length: str) -> None:
    """As large as the sender says: what it says costs nobody else's refusal its place."""
    web.client.post("/hooks/closed", headers=JSON_HEADERS, environ_overrides={"CONTENT_LENGTH": length})
    web.client.post("/hooks/closed", data=b"{}", headers=JSON_HEADERS)

    assert [kept.size for kept in web.kept()] == [2, 2**63 - 1]


# How many


def test_the_last_of_each_source_stay(outbox: Outbox) -> None:
    outbox.store_refused(numbered(range(3), source="alerts"))
    outbox.store_refused(numbered(range(15)))
    outbox.store_refused(numbered(range(15, 25)))
    outbox.store_refused(numbered(range(3, 5), source="alerts"))

    of_github = outbox.refused(source="github", limit=1000)
    assert of_github == numbered(range(24, 4, -1))
    assert len(of_github) == LIMIT_PER_SOURCE
    assert outbox.refused(source="alerts") == numbered(range(4, -1, -1), source="alerts")
    assert outbox.refused(source="nowhere") == []
    assert len(outbox.refused(limit=7)) == 7


def test_more_than_are_kept_at_once(outbox: Outbox) -> None:
    outbox.store_refused(numbered(range(100)) + numbered(range(2), source="alerts"))

    assert outbox.refused(source="github", limit=1000) == numbered(range(99, 79, -1))
    assert len(outbox.refused(source="alerts")) == 2


def test_from_many_processes_at_once(outbox: Outbox, url: str) -> None:
    others = [Outbox(url, beside_a_server=True) for _ in range(3)]

    def keep(store: Outbox) -> None:
        for number in range(0, 60, 3):
            store.store_refused(numbered(range(number, number + 3)))

    in_threads([lambda store=store: keep(store) for store in (outbox, *others)])  # type: ignore[misc]

    for other in others:
        other.close()
    assert len(outbox.refused(limit=1000)) == LIMIT_PER_SOURCE


def test_one_that_writes_waits_for_another(postgresql_url: str) -> None:
    """Neither would see what the other adds, and both together would leave too many."""
    Outbox(postgresql_url).close()
    database = PostgreSQL(postgresql_url)
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")
    second = threading.Thread(
        target=database.write, args=(lambda connection: store_refused(connection, numbered(range(20, 40))),)
    )

    def first(connection: Connection) -> None:
        store_refused(connection, numbered(range(20)))
        second.start()
        wait_until(lambda: not second.is_alive() or connection.execute(waits).scalar_one(), "its wait")

    database.write(first)
    second.join(PATIENCE)

    count = text("SELECT count(*) FROM refused_requests")
    assert database.read(lambda connection: connection.execute(count).scalar_one()) == LIMIT_PER_SOURCE
    database.close()


def test_those_that_gather_are_bounded_too(
    outbox: Outbox, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[RefusedRequest]] = []
    monkeypatch.setattr(outbox, "store_refused", lambda refused, _: written.append(refused))

    for number in range(1000):
        refusals.record(refused(number))
        refusals.record(refused(number, source="alerts"))
    refusals.close()

    assert max(map(len, written)) <= 2 * LIMIT_PER_SOURCE
    assert written[-1][-1].at == NOW + 999


# When


def test_it_is_written_soon(outbox: Outbox, refusals: Refusals) -> None:
    refusals.record(refused(1))

    assert wait_until(outbox.refused, "a refused request") == [refused(1)]


def test_a_count_is_logged_once_its_time_is_over(
    refusals: Refusals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where no request follows that could set it off, and where the thread had nothing to wait for."""
    monkeypatch.setattr("bridge.intake.refusal_log.COUNT_PERIOD_SECONDS", 0.2)
    for number in (2, 3):
        caplog.clear()
        for _ in range(number):
            refusals.log(404, None, "203.0.113.9", "no source is named 'x'")
        counted = f"refused with 404: {number - 1} more"
        wait_until(lambda counted=counted: counted in caplog.text, "the count")  # type: ignore[misc]
        assert caplog.text.count("refused with 404") == 2


def test_it_is_written_at_the_end(outbox: Outbox, refusals: Refusals) -> None:
    began = time.monotonic()
    refusals.record(refused(1))
    refusals.close()

    assert outbox.refused() == [refused(1)]
    assert time.monotonic() - began < WRITE_INTERVAL_SECONDS + PATIENCE
    refusals.record(refused(2))
    refusals.close()
    assert outbox.refused() == [refused(1)]


def test_many_cost_few_commits(
    web: Web, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send what is refused, as fast as they like."""
    caplog.set_level(logging.CRITICAL)
    # However slow the machine is, they all come within it.
    monkeypatch.setattr("bridge.intake.refusals.WRITE_INTERVAL_SECONDS", 1e6)
    commits = count_commits(monkeypatch, outbox)
    for _ in range(1000):
        assert web.client.post("/hooks/closed", data=b"{}", headers=JSON_HEADERS).status_code == 401

    assert len(web.kept()) == LIMIT_PER_SOURCE
    assert commits == [LIMIT_PER_SOURCE]


def count_commits(monkeypatch: pytest.MonkeyPatch, outbox: Outbox) -> list[int]:
    """How many refused requests each commit from now on holds."""
    commits: list[int] = []
    keep = outbox.store_refused

    def counting(refused: Iterable[RefusedRequest], counts: Mapping[tuple[str, str], int]) -> None:
        refused = list(refused)
        commits.append(len(refused))
        keep(refused, counts)

    monkeypatch.setattr(outbox, "store_refused", counting)
    return commits


# What goes wrong


def test_the_answer_does_not_wait_for_the_store(
    web: Web, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def hangs(*_: object) -> None:
        asked.set()
        assert answers.wait(PATIENCE)

    monkeypatch.setattr(outbox, "store_refused", hangs)
    web.client.post("/hooks/closed", data=b"{}", headers=JSON_HEADERS)
    assert asked.wait(PATIENCE)

    for _ in range(3):
        assert web.client.post("/hooks/closed", data=b"{}", headers=JSON_HEADERS).status_code == 401

    answers.set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            StoreUnavailable("the database cannot be written: gone"),
            "1 refused requests are not stored: the database",
        ),
        (RuntimeError("a defect"), "refused requests are not stored"),
    ],
    ids=["the store is down", "a defect"],
)
def test_what_cannot_be_written_ends_nothing(
    outbox: Outbox,
    refusals: Refusals,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: str,
) -> None:
    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "store_refused", fails)
        refusals.record(refused(1))
        wait_until(lambda: said in caplog.text, "the warning")

    refusals.record(refused(2))
    refusals.close()
    assert outbox.refused() == [refused(2)]


def test_nothing_runs_where_nothing_was_refused(outbox: Outbox, refusals: Refusals) -> None:
    assert "refusals" not in [thread.name for thread in threading.enumerate()]
    refusals.close()
