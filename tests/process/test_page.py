"""The page and the API of two web processes on PostgreSQL, beside a worker."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from itertools import cycle, islice
from urllib.parse import quote

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from bridge.web.page.change_views import PART
from bridge.web.page.sign_in import FREE_TRIES
from tests.store.page.conftest import PASSWORD
from tests.store.page.test_changes import hidden
from tests.support.intake import JSON_HEADERS
from tests.support.page import PageClient, token_of
from tests.support.postgresql import StorePool
from tests.support.pushes import (
    DEPLOY,
    RELEASE,
    VARIABLES,
    Client,
    push,
    stand_in,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import PATIENCE, STATUS, Server, Worker
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault, StandIn

API_TOKEN = "a-token-that-writes"
ROUTE = "github * deploy"
#: Jobs that one change retries, in three parts.
REFUSED = 2 * PART + 5

#: Every screen, and every filter of each.
TIMES = ("last=1h", "last=30d", "from=2026-01-01T00:00&to=2036-01-01T00:00")
STATES = tuple(f"state={state}" for state in JobState)
PLACES = ("before=2", "upto=1", "before=999999")
FILTERS = {
    "/": ("",),
    "/events": (
        "", *TIMES, *STATES, *PLACES, "source=github", "event=push", f"route={ROUTE}", "tab=jobs", "tab=none",
        "tab=failed", "q=delivery-of-main", "q=delivery:x", "q=payload.ref:refs/heads/*", "q=event:push",
        'q=headers["X-GitHub-Event"]:push',
        f"source=github&event=push&route={ROUTE}&state=accepted&tab=jobs&q=payload.after:main&last=7d",
    ),
    "/events/newer": ("upto=1", "upto=0&source=github&tab=none"),
    "/events/1": ("",),
    "/jobs": (
        "", *TIMES, *STATES, *PLACES, "source=github", f"route={ROUTE}", f"task={DEPLOY}",
        f"route={ROUTE}&state=dead", f"route={ROUTE}&task={DEPLOY}&source=github&state=unknown&last=7d",
    ),
    "/jobs/newer": ("upto=1", f"upto=0&state=accepted&route={ROUTE}"),
    "/jobs/1": ("", "show=arguments"),
    "/routes": ("", "q=deploy", "after=1"),
    "/refused": ("", "source=github", "unknown=1"),
    "/audit": ("",),
    "/table": ("",),
    "/try": ("", "event_id=1"),
    "/build/1": ("",),
    "/change": ("order=replay&tab=none", "order=replay&id=1", "order=retry", "order=sent"),
}  # fmt: skip
API = {
    **{path: tuple(each for each in FILTERS[path] if "upto" not in each) for path in ("/events", "/jobs")},
    "/status": ("",), "/events/1": ("",), "/events/1/explanation": ("",), "/jobs/1": ("",),
    "/routes": ("", "limit=1", "after=1"), "/refused": ("", "source=github"), "/audit": ("", "before=9"),
}  # fmt: skip


@dataclass
class System:
    server: Server
    theeye: StandIn
    #: One person, with a connection to each of the web processes.
    one: PageClient
    other: PageClient


def connected_to(server: Server, worker: int) -> HTTPConnection:
    """A connection that this process of the server has accepted: the others sleep meanwhile."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    others = [pid for pid in server.workers if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    return connection


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, postgresql_stores: StorePool) -> Iterator[System]:
    folder, url = tmp_path_factory.mktemp("page"), postgresql_stores.acquire()
    web = {
        **VARIABLES, "WEB_CONCURRENCY": "2", "BRIDGE_DELIVER": "false", "BRIDGE_ADMIN_PASSWORD": PASSWORD,
        "BRIDGE_API_TOKENS": f"bot:write:{API_TOKEN}",
    }  # fmt: skip
    with stand_in() as theeye, ExitStack() as running:
        config = write_table(folder, theeye.url)
        server = running.enter_context(Server(config, url, web))
        running.enter_context(Worker(config, url, VARIABLES))
        cookies = SimpleCookie()
        one, other = (PageClient(connected_to(server, worker), cookies) for worker in server.workers)
        with closing(one), closing(other):
            yield System(server, theeye, one, other)
    postgresql_stores.release(url)


@pytest.fixture
def both(system: System) -> Iterator[PageClient]:
    """The connections in turn; the person is signed in."""
    if not system.one.cookies:
        assert system.one.sign_in(PASSWORD).status == 303
    return cycle((system.one, system.other))


def test_a_session_and_a_form_of_one_process_are_good_at_the_other(system: System) -> None:
    cookies = SimpleCookie()
    one, other = (replace(each, cookies=cookies) for each in (system.one, system.other))
    form = {"csrf_token": token_of(one.text("/sign-in")), "password": PASSWORD}
    assert other.post("/sign-in", form).location == "/"
    pause = {"kind": "route", "name": ROUTE}
    for order, first, second, shown in (("pause", one, other, "Resume"), ("resume", other, one, "Pause")):
        form = {"csrf_token": token_of(first.text("/routes")), "order": order}
        assert second.post("/pause", {**pause, **form}).status == 303
        assert f">{shown}</button>" in first.text("/routes")
    assert one.post("/sign-out", {"csrf_token": token_of(other.text("/try"))}).status == 303
    assert other.get("/jobs").location == "/sign-in?next=/jobs"


def shows(client: PageClient, text: str, path: str) -> bool:
    return text in client.text(path)


def test_a_webhook_is_shown_by_each_process(system: System, both: Iterator[PageClient]) -> None:
    """As in the demo: one that runs a task, and one that does not."""
    assert push(system.server.port, "main").status == 202
    assert push(system.server.port, "dev", "dev").status == 200
    system.theeye.wait_for(1)
    for client in islice(both, 2):
        wait_until(partial(shows, client, ">main</span>", "/jobs?state=accepted"), "the accepted job")
        assert f"{ROUTE} → main" in client.text("/events?tab=jobs")
        text = client.text("/events?q=delivery-of-dev")
        assert f"nearest: <b>{ROUTE}</b>" in text and "refs/heads/dev" in text
        assert "1 process delivers" in client.text("/")


def test_every_screen_and_every_filter_is_there(system: System, both: Iterator[PageClient]) -> None:
    assert push(system.server.port, "filtered").status == 202
    for path, queries in FILTERS.items():
        for query in queries:
            next(both).text(f"{path}?{quote(query, safe='=&')}")
    for path, queries in API.items():
        for query in queries:
            asked = f"/api/v1{path}?{quote(query, safe='=&')}"
            reply = next(both).get(asked, {"Authorization": f"Bearer {API_TOKEN}"})
            assert (reply.status, type(orjson.loads(reply.text))) == (200, dict), asked


def test_a_change_of_many_jobs_goes_on_at_either_process(system: System, both: Iterator[PageClient]) -> None:
    with closing(Outbox(system.server.database_url, beside_a_server=True)) as outbox:
        wait_until_none_waits(outbox, PATIENCE)  # those of other tests would be refused too
        system.theeye.fault(Fault(answer=Answer(400), method="POST"))
        with closing(Client(system.server.port)) as sender:
            for number in range(REFUSED):
                assert sender.push(f"refused-{number}").status == 202
        wait_until_none_waits(outbox, PATIENCE)
        system.theeye.clear()
        confirm = next(both).text("/change?order=retry&state=dead")
        assert f"{REFUSED} jobs" in confirm
        form = {**hidden(confirm), "csrf_token": token_of(confirm), "reason": "TheEye was repaired"}
        place, done = next(both).post("/change", form).location, []
        form = {"csrf_token": token_of(confirm)}
        for client in islice(both, 3):
            text = client.post(place, form).text
            done += re.findall(r"(\d+) of \d+ done; (\d+) changed", text)
        assert done == [("50", "50"), ("100", "100"), ("105", "105")]
        assert "Continue" not in text
        wait_until_none_waits(outbox, PATIENCE)
        assert outbox.counts().get(JobState.DEAD) is None
        (entry,) = outbox.audit.entries(limit=1)
        assert (entry.action.selected, entry.changed, entry.action.actor) == (REFUSED, REFUSED, "mona")


def counters(client: PageClient) -> Counter[tuple[str, ...]]:
    """The counters of the metrics, by their labels."""
    reply = client.get("/metrics", STATUS)
    assert reply.status == 200
    families = text_string_to_metric_families(reply.text)
    samples = (each for family in families if family.type == "counter" for each in family.samples)
    return Counter({
        (each.name, *(each.labels[name] for name in sorted(each.labels))): int(each.value)
        for each in samples
    })  # fmt: skip


def has_counted(client: PageClient, before: Counter[tuple[str, ...]], more: int) -> bool:
    return (counters(client) - before).total() >= more


def test_each_process_shows_what_all_have_counted(system: System) -> None:
    before = counters(system.one)
    system.theeye.fault(Fault(answer=Answer(500), task_id=RELEASE))
    system.theeye.fault(Fault(answer=Answer(400), task_id=DEPLOY, times=1))
    for commit, branch in (("c1", "main"), ("c2", "main"), ("c3", "release"), ("c4", "dev"), ("c2", "main")):
        push(system.server.port, commit, branch)
    for client in (system.one, system.other, system.other):
        client.ask("POST", "/hooks/github", "{}", JSON_HEADERS)
        client.ask("POST", "/hooks/github", "{}")
        client.ask("POST", "/hooks/elsewhere", "{}")
        client.get("/hooks/github")
    release = "github * release"
    expected = {
        ("bridge_events_total", "push", "github", "matched"): 3,
        ("bridge_events_total", "push", "github", "unmatched"): 1,
        ("bridge_events_total", "push", "github", "duplicate"): 1,
        ("bridge_jobs_created_total", ROUTE, "deploy"): 2,
        ("bridge_jobs_created_total", release, "release"): 1,
        ("bridge_jobs_ended_total", ROUTE, "accepted", "deploy"): 1,
        ("bridge_jobs_ended_total", ROUTE, "dead", "deploy"): 1,
        ("bridge_jobs_ended_total", release, "unknown", "release"): 1,
        ("bridge_attempts_total", "accepted", "deploy"): 1,
        ("bridge_attempts_total", "refused", "deploy"): 1,
        ("bridge_attempts_total", "unknown", "release"): 1,
        ("bridge_refused_requests_total", "not_authentic", "github"): 3,
        ("bridge_refused_requests_total", "unsupported", "github"): 3,
        ("bridge_refused_requests_total", "unknown_source", "unknown"): 3,
        ("bridge_refused_requests_total", "wrong_method", "github"): 3,
    }
    for client in (system.one, system.other):
        wait_until(partial(has_counted, client, before, sum(expected.values())), "all counts")
        assert counters(client) - before == expected
    system.theeye.clear()


def test_headers_of_a_proxy_count_only_if_it_is_trusted(system: System) -> None:
    connection = HTTPConnection("127.0.0.1", system.server.port, source_address=("127.0.0.2", 0))
    with closing(PageClient(connection)) as stranger:
        cookie = stranger.get("/sign-in", {"X-Forwarded-Proto": "https"}).headers["Set-Cookie"]
        assert "Secure" not in cookie
        forged = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(FREE_TRIES + 2)]
        statuses = [stranger.sign_in("wrong", each).status for each in forged]
        assert statuses == [403] * (FREE_TRIES + 1) + [429]
