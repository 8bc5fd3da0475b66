"""The screens: what they show of a store, and that an event can do no harm there."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import unquote_plus
from uuid import uuid4

import orjson
import pytest

from bridge.config.reload import Reloader
from bridge.core.attempt_result import AttemptResult
from bridge.core.job import JobState, Outcome
from bridge.core.problem import Place, Problem, Severity
from bridge.core.retry import Decision
from bridge.intake.answer import Answer
from tests.store.page.conftest import PASSWORD, TABLE, Browser, Tags
from tests.support.intake import VARIABLES, Intake, github_headers, sample
from tests.support.page import HTML
from tests.support.tables import NOW, attempt_of, claim_jobs, make_event, make_webhook, wait_until

#: Texts that try to become more than text.
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{ 7 * 7 }}",
    "\u202egnirts a\u202c", "\x1b[2Jx\x07", "\x00", "' or 1=1 --",
)  # fmt: skip


def push(intake: Intake, event: str = "push", **fields: Any) -> Answer:
    payload = orjson.loads(sample("github/push.json")) | fields
    body = orjson.dumps(payload)
    return intake.post("github", body, github_headers(body, event, str(uuid4())))


class TestOverview:
    def test_nothing_needs_a_person(self, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "a delivery thread of this process has stopped" in browser.text("/")
        monkeypatch.setattr("bridge.web.page.overview.troubles", lambda _: [])
        assert "Nothing needs a person." in browser.text("/")

    def test_dead_jobs_and_refused_requests_do(self, intake: Intake, browser: Browser) -> None:
        push(intake, repository={"name": "x"}, ref="refs/heads/main")
        browser.client.post("/hooks/github", data=b"{}", headers={"X-GitHub-Event": "push"})
        text = browser.text("/")
        assert "1 dead" in text
        assert "payload.repository.full_name is missing" in text
        assert 'href="/jobs?state=dead&amp;route=deploy+main&amp;last=30d"' in text

    def test_an_outage_leads_to_the_jobs_that_wait(
        self, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = ["TheEye has been unreachable since 2026-11-30T10:38:23Z", "the log has no space"]
        monkeypatch.setattr("bridge.web.page.overview.troubles", lambda _: texts)
        links = re.findall(r'<a href="([^"]+)"><span class="state', browser.text("/"))
        assert links == ["/jobs?state=waiting&amp;last=30d", "/table"]


class TestEvents:
    def test_a_row_says_what_came_of_the_event(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main", after="c0ffee")
        push(intake, ref="refs/heads/dev")
        push(intake, "create", ref_type="tag", pusher_type="user", master_branch="main", description=None)
        text = browser.text("/events")
        assert "deploy main → c0ffee, " in text
        assert "nearest: <b>deploy main</b>" in text
        assert "refs/heads/dev" in text
        assert "no route wants create from github" in text

    def test_a_table_that_is_mended_says_so(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/dev")
        assert "nearest:" in browser.text("/events")

    def test_filters_are_the_url(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        push(intake, ref="refs/heads/dev")
        assert len(re.findall('class="row-link"', browser.text("/events"))) == 2
        for query in ("tab=none", "q=payload.ref:refs/heads/dev", "last=1h&tab=none&event=push"):
            text = browser.text(f"/events?{query}")
            assert len(re.findall('class="row-link"', text)) == 1, query
            assert "refs/heads/dev" in text

    def test_a_mistake_in_the_url_is_named(self, browser: Browser) -> None:
        answer = browser.get("/events?last=soon")
        assert answer.status_code == 400
        assert "last must be a duration" in answer.text

    @pytest.mark.parametrize("key", ["source", "event", "route", "task", "state", "q", "from", "last", "x"])
    @pytest.mark.parametrize("path", ["/events", "/jobs", "/refused", "/routes", "/change", "/try"])
    def test_nul_is_refused_in_words(self, browser: Browser, path: str, key: str) -> None:
        answer = browser.get(f"{path}?order=retry&{key}=a%00b")
        assert answer.status_code == 400
        assert "must be text without NUL" in answer.text

    @pytest.mark.parametrize("query", ["before=" + "9" * 19, "upto=" + "9" * 18, "id=" + "9" * 18])
    @pytest.mark.parametrize("path", ["/events", "/jobs", "/events/newer", "/change", "/routes"])
    def test_a_number_beyond_the_database_is_no_defect(self, browser: Browser, path: str, query: str) -> None:
        answer = browser.get(f"{path}?order=retry&after={query[-18:]}&{query}", follow_redirects=True)
        assert answer.status_code in (200, 400, 404)

    def test_a_delivery_of_a_source_that_has_left_the_table(self, intake: Intake, browser: Browser) -> None:
        push(intake)
        delivery = intake.outbox.summary(1).delivery_id
        intake.use(
            TABLE.replace("github: {", "other: {type: github, ").replace("source: github", "source: other")
        )
        other = Browser(app := intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD}), app.test_client())
        other.sign_in()
        for text in (browser.text(f"/events?q={delivery}"), other.text(f"/events?q={delivery}")):
            assert text.count('class="row-link"') == 1

    def test_newer_events_are_counted_and_move_no_row(self, intake: Intake, browser: Browser) -> None:
        push(intake)
        shown = browser.text("/events?upto=1")
        push(intake)
        assert "1 new" in browser.text("/events/newer?upto=1")
        assert browser.text("/events/newer?upto=2").strip() == ""
        assert len(re.findall('class="row-link"', browser.text("/events?upto=1"))) == 1
        assert "row-link" in shown

    def test_an_empty_list_says_how_to_send_one(self, browser: Browser) -> None:
        text = browser.text("/events")
        assert "theeye-bridge send --source github" in text
        assert "http://localhost/hooks/github" in text

    @pytest.mark.parametrize(
        "path", [f"/{name}/{number}" for name in ("events", "jobs", "build") for number in (7, 2**63 - 1)]
    )
    def test_what_is_not_there(self, browser: Browser, path: str) -> None:
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "There is no such" in answer.text


def test_a_mistyped_address_leads_back(browser: Browser) -> None:
    answer = browser.get("/event/7")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text and 'href="/"' in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    head = browser.client.head("/event/7", headers=HTML).headers
    assert (head["Content-Type"], head["Cache-Control"]) == (answer.content_type, "no-store")
    for other in (browser.client.get("/event/7"), browser.get("/api/v1/event/7")):
        assert other.content_type == "application/problem+json"


def test_commands_have_the_public_url(intake: Intake) -> None:
    app = intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD, "BRIDGE_PUBLIC_URL": "http://hooks.example.com/x"})
    browser = Browser(app, app.test_client())
    browser.sign_in()
    before = browser.text("/events")
    push(intake)
    for text in (before, browser.text("/events/1")):
        assert "http://hooks.example.com/x/hooks/github" in text
        assert "http://localhost" not in text


def test_a_payload_that_is_not_utf8_is_shown(intake: Intake, browser: Browser) -> None:
    body = sample("github/push.json").replace(b'"ref"', b'"x": "\xe9", "ref"', 1)
    intake.post("github", body, github_headers(body))
    for path in ("/events/1", "/try?event_id=1", "/build/1"):
        browser.text(path)


@pytest.mark.parametrize("time", ["0001-01-01T00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_has_no_year_is_named(browser: Browser, time: str) -> None:
    assert browser.get(f"/change?order=replay&from={time}").status_code == 400


@pytest.mark.parametrize("path", ["/events/", "/jobs/", "/change/"])
def test_a_number_that_no_database_has(browser: Browser, path: str) -> None:
    assert browser.get(f"{path}{2**63}").status_code == 404
    assert browser.get(f"{path}{'9' * 400}").status_code == 404


class TestEvent:
    def test_it_shows_each_condition_with_expected_and_actual(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/dev")
        text = browser.text("/events/1")
        assert "Why it ran nothing" in text
        assert "expected <code>&#34;refs/heads/main&#34;</code>" in text
        assert "is <code>&#34;refs/heads/dev&#34;</code>" in text
        assert "theeye-bridge send --source github" in text
        assert "tests:" in text

    def test_exact_numbers(self, intake: Intake, browser: Browser) -> None:
        body = sample("github/push.json").replace(b'"ref"', b'"big": 12345678901234567890123, "ref"', 1)
        intake.post("github", body, github_headers(body))
        assert "12345678901234567890123" in browser.text("/events/1")

    def test_a_secret_in_a_payload_is_masked(self, intake: Intake, browser: Browser) -> None:
        secret = VARIABLES["GITHUB_SECRET"]
        push(intake, ref="refs/heads/main", after=secret, repository={"full_name": secret, secret: secret})
        push(intake, ref=secret)
        for path in ("/events", "/events/1", "/events/2", "/jobs", "/jobs/1", "/build/1", "/try?event_id=1"):
            text = browser.text(path)
            assert secret not in text, path
            assert "&lt;secret&gt;" in text, path
            assert "<secret>" not in text, path

    def test_no_part_of_a_secret_is_left_where_text_is_cut(self, intake: Intake, browser: Browser) -> None:
        secret = VARIABLES["GITHUB_SECRET"]
        # Half of a secret at each place where a cell, a tree or a message may end.
        texts = ["x" * (at - 12) + secret for at in (24, *range(40, 2101, 20), 20_000)]
        named = {text: text for text in texts}
        for text in texts[:20]:
            push(intake, ref="refs/heads/main", after=text, repository={"full_name": text}, **named)
            push(intake, ref=text)
        push(intake, ref="refs/heads/main", repository=named)
        paths = [
            "/events",
            "/jobs",
            *(f"/events/{number}" for number in range(1, 42)),
            "/build/1",
            "/build/2",
        ]
        for path in (*paths, *(f"/jobs/{number}" for number in range(1, 22))):
            text = unescape(browser.text(path))
            assert "<secret>" in text, path
            assert "It" not in text.replace("Items", "").replace("Its jobs", ""), path

    def test_a_secret_is_masked_before_it_is_quoted(self, intake: Intake, browser: Browser) -> None:
        secret = VARIABLES["GITHUB_SECRET"]
        given = make_event({"ref": secret}, headers={"user-agent": secret}, delivery_id=f"a/{secret} +")
        intake.outbox.store(make_webhook(event=given))
        for path in ("/events?from=2020-01-01", "/events/1"):
            assert "Everybody" not in unescape(unquote_plus(browser.text(path)))
        assert "-H 'user-agent: <secret>'" in unescape(browser.text("/events/1"))


@pytest.mark.parametrize("detail", ["503 slow down", "slow down"])
def test_the_status_of_an_attempt_is_shown_once(intake: Intake, browser: Browser, detail: str) -> None:
    push(intake, ref="refs/heads/main")
    token, (job,) = claim_jobs(intake.outbox, 1)
    result = AttemptResult(0.1, Outcome.UNAVAILABLE, 503, detail, None)
    decision = Decision(JobState.WAITING, NOW + 5, None)
    assert intake.outbox.record(job, token, attempt_of(intake.outbox, job), result, decision)
    attempts = browser.text("/jobs/1").partition("Attempts")[2]
    assert attempts.count("503") == 1


class TestHostile:
    @pytest.fixture
    def sent(self, intake: Intake) -> None:
        for text in HOSTILE:
            more: dict[str, Any] = {text: [text]}
            push(
                intake, ref="refs/heads/main", after=text, repository={"full_name": text, text: text}, **more
            )
        for text in HOSTILE:
            push(intake, ref=text)

    def test_its_text_is_text(self, sent: None, browser: Browser) -> None:
        paths = ["/", "/events", "/jobs", "/routes", "/refused", "/audit"]
        paths += [f"/events/{number}" for number in range(1, 2 * len(HOSTILE) + 1)]
        paths += [f"/jobs/{number}" for number in range(1, len(HOSTILE) + 1)]
        paths += [f"/{view}/{number}" for view in ("build",) for number in (1, 2)]
        paths += ["/try?event_id=1", "/events?q=%3Cscript%3E", '/events?source="><script>', "/jobs?route=<b>"]
        for path in paths:
            text = browser.text(path)
            tags = Tags(text).found
            scripts = [attributes for tag, attributes in tags if tag == "script"]
            assert len(scripts) == 2 and all(str(each["src"]).startswith("/static/") for each in scripts), (
                path
            )
            assert not [tag for tag, _ in tags if tag == "b" and "&lt;b&gt;" not in text and "route=" in path]
            for tag, attributes in tags:
                assert not [name for name in attributes if name.startswith("on") or name == "style"], (
                    path,
                    tag,
                )
                for name in ("href", "src", "action", "hx-get", "hx-post"):
                    target = attributes.get(name)
                    assert target is None or target.startswith(("/", "#", "http://localhost")), (path, target)
            # An attribute is not shown: what is copied has the characters that came.
            shown = re.sub(
                r' data-[a-z]+="[^"]*"| value="[^"]*"|<textarea.*?</textarea>', "", text, flags=re.DOTALL
            )
            assert not {"\u202e", "\x1b", "\x00"} & set(shown), path

    @pytest.mark.parametrize(
        "payload",
        [
            {"text": "x" * 5_000_000},
            {f"key{number}": number for number in range(10_000)},
            {"list": [{"a": [{}]} for _ in range(20_000)]},
        ],
        ids=["text", "keys", "nodes"],
    )
    def test_a_huge_payload_takes_a_bounded_page(
        self, intake: Intake, browser: Browser, payload: dict[str, Any]
    ) -> None:
        push(intake, **payload)
        for path in ("/events/1", "/build/1", "/events"):
            text = browser.text(path)
            assert len(text.encode()) < 2_000_000, path
            assert text.count("<") < 50_000, path


class TestTable:
    def test_routes(self, intake: Intake, browser: Browser) -> None:
        text = browser.text("/routes")
        assert "never matched" in text and "table.yml:" in text
        push(intake, ref="refs/heads/main")
        assert "never matched" not in browser.text("/routes")
        assert "No route has this name, event, source or task" in browser.text("/routes?q=other")

    def test_a_route_is_known_by_its_event(self, browser: Browser) -> None:
        text = unescape(browser.text("/routes?q=push"))
        assert "deploy main" in text
        assert "event: push<" in text and 'payload.ref: "refs/heads/main"<' in text

    def test_a_job_is_known_by_its_number(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        answer = browser.get("/jobs?id=1&state=dead")
        assert (answer.status_code, answer.location) == (302, "/jobs/1")

    def test_a_mistake_of_the_table_has_its_hint_on_a_line(
        self, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = Problem(Place("table.yml", 1, 1), Severity.ERROR, "x is missing", "add x")
        monkeypatch.setattr(Reloader, "rejected", property(lambda _: (problem,)), raising=False)
        assert "x is missing\n    hint: add x" in browser.text("/table")

    def test_refused_with_what_to_do(self, intake: Intake, browser: Browser) -> None:
        body = sample("github/push.json")
        answer = browser.client.post("/hooks/github", data=body, headers=github_headers(body + b" "))
        assert answer.status_code == 401
        wait_until(intake.outbox.refused)
        text = browser.text("/refused")
        assert "Compare the secret" in text
        assert "127.0.0.1" in text


class TestTry:
    def test_a_payload_and_its_routes(self, browser: Browser) -> None:
        data = {"source": "github", "event": "push", "payload": sample("github/push.json").decode()}
        answer = browser.post("/try", data)
        assert answer.status_code == 200
        assert "deploy main" in answer.text
        assert "expected <code>" in answer.text
        assert "No events" in browser.text("/events")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"source": "github", "event": "push", "payload": "{"}, "not valid JSON"),
            ({"source": "other", "payload": "{}"}, "choose a source"),
            ({"source": "github", "event": "psuh", "payload": "{}"}, "did you mean push"),
        ],
    )
    def test_a_mistake_is_named(self, browser: Browser, data: dict[str, str], message: str) -> None:
        assert message in browser.post("/try", data).text
