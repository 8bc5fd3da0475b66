"""The API: every operation on a real application, each answer held against the OpenAPI file."""

from __future__ import annotations

import argparse
import io
import re
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from flask import Flask
from gunicorn.http.errors import InvalidChunkSize, NoMoreData
from sqlalchemy import text

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import StoreUnavailable
from bridge.core.event import JSON
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.web.api.problem import CODES
from bridge.web.page.change_views import REASON_CHARACTERS
from tests.support.api import READ, ROOT, SPECIFICATION, TOKENS, WRITE, Api, operation_of
from tests.support.documents import ROOT as CHECKOUT
from tests.support.documents import code_blocks
from tests.support.intake import JSON_HEADERS, TASK, VARIABLES, Intake, beside
from tests.support.tables import attempt_of, claim_jobs

TABLE = """
sources:
  open: {type: generic, allow_unsigned: true, dedupe: off}
  other: {type: generic, allow_unsigned: true, dedupe: off}
tasks:
  deploy: {id: TASK, secret_key: KEY, arguments: [n]}
routes:
  - {name: deploy, source: open, match: {payload.n: 1}, task: deploy, task_arguments: {n: a}}
  - {name: each/one, source: open, loop: payload.list, match: {item: x}, task: deploy, task_arguments: {n: b}}
  - {name: broken, source: open, match: {payload.n: 3}, task: deploy, task_arguments: {n: "${{ payload.x }}"}}
"""


REFERENCE = (CHECKOUT / "docs" / "reference" / "api.md").read_text("utf-8")
ONE_TEXT = "must be one text of 1 to 1,000 characters, without NUL and lone surrogates"
ONE_REASON = "must be one text of 1 to 500 characters, without NUL and lone surrogates"


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


@pytest.fixture
def app(intake: Intake) -> Flask:
    return intake.app({"BRIDGE_API_TOKENS": TOKENS, "BRIDGE_ADMIN_PASSWORD": "a-password-of-the-page"})


@pytest.fixture
def api(app: Flask) -> Api:
    return Api(app.test_client())


@pytest.fixture
def reader(app: Flask) -> Api:
    return Api(app.test_client(), READ)


def store(intake: Intake, payload: Any, source: str = "open") -> int:
    """The number of a new event."""
    body = intake.post(source, orjson.dumps(payload), JSON_HEADERS).body
    event: int = body["event"]
    return event


def attempt(intake: Intake, state: JobState, outcome: Outcome) -> int:
    """The number of the job that an attempt with this outcome left in this state."""
    token, (job,) = claim_jobs(intake.outbox)
    result = AttemptResult(0.25, outcome, 500, "oh", None)
    intake.outbox.record(job, token, attempt_of(intake.outbox, job), result, Decision(state, None, "oh"))
    return job.id


class TestReading:
    """``GET``, with a token that may only read."""

    def test_the_status(self, intake: Intake, reader: Api) -> None:
        store(intake, {"n": 1})
        status = reader.get("/status")
        assert (status["routes"], status["table_hash"]) == (3, intake.loaded.version.hash)
        assert status["jobs"] == {**{str(state): 0 for state in JobState}, "waiting": 1}
        assert status["backlog"] == {"jobs": 1, "oldest_created_at": "2027-01-15T08:00:00.000000Z"}
        assert any("delivery thread" in trouble for trouble in status["troubles"])

    def test_a_list_of_events_in_pages(self, intake: Intake, reader: Api) -> None:
        events = [store(intake, {"n": number}) for number in range(5)]
        first = reader.get("/events", limit=2, source="open")
        assert [each["id"] for each in first["events"]] == events[:2:-1]
        assert first["next"] == f"{ROOT}/events?limit=2&source=open&before={events[3]}"
        second = reader.get("/events", limit=3, source="open", before=events[3])
        assert [each["id"] for each in second["events"]] == events[2::-1]
        assert (second["next"], second["partial"]) == (None, False)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"tab": "none"}, [4, 2]),
            ({"state": "dead"}, [3]),
            ({"route": "deploy"}, [1]),
            ({"q": "payload.n:3"}, [3]),
            ({"source": "other"}, [4]),
            ({"to": "2027-01-15T00:00Z"}, []),
            ({"last": "1h", "tab": "jobs"}, [3, 1]),
        ],
    )
    def test_the_filters_of_events_are_those_of_the_page(
        self, intake: Intake, reader: Api, query: dict[str, str], expected: list[int]
    ) -> None:
        for number in (1, 2, 3):
            store(intake, {"n": number})
        store(intake, {}, "other")
        assert [each["id"] for each in reader.get("/events", **query)["events"]] == expected

    def test_an_event_with_its_payload_and_jobs(self, intake: Intake, reader: Api) -> None:
        body = b'{"n": 1, "list": ["x", "y"], "long": 12345678901234567890123}'
        event = intake.post("open", body, JSON_HEADERS).body["event"]
        found = reader.get(f"/events/{event}")
        assert [job["route"] for job in found["jobs"]] == ["deploy", "each/one"]
        assert b'"long":12345678901234567890123' in reader.send("GET", f"/events/{event}").data

    def test_an_explanation(self, intake: Intake, reader: Api) -> None:
        event = store(intake, {"n": 3, "list": ["x", "y"]})
        routes = reader.get(f"/events/{event}/explanation")["routes"]
        assert [(each["route"], each["matched"]) for each in routes] == [
            ("deploy", False), ("each/one", True), ("broken", True),
        ]  # fmt: skip
        assert [item["matched"] for item in routes[1]["items"]] == [True, False]
        assert routes[2]["jobs"][0]["reason"].startswith("n: payload.x is missing")

    def test_an_event_whose_body_or_source_is_gone_has_no_explanation(self, intake: Intake) -> None:
        event, other = store(intake, {"n": 1}), store(intake, {}, "other")
        intake.use(TABLE.replace("  other:", "  another:"))
        reader = Api(intake.app({"BRIDGE_API_TOKENS": TOKENS}).test_client(), READ)
        with beside(f"sqlite:///{intake.database}") as connection:
            connection.execute(text("UPDATE events SET body = x'' WHERE id = :id"), {"id": event})
        status, code, detail = reader.problem("GET", f"/events/{event}/explanation")
        assert (status, code) == (410, "body_gone")
        assert detail.startswith(f"the body of event {event} is not stored")
        assert reader.get(f"/events/{event}")["body_stored"] is False
        missing = (404, "not_found", "the table has no source 'other'")
        assert reader.problem("GET", f"/events/{other}/explanation") == missing

    def test_jobs_and_attempts(self, intake: Intake, reader: Api) -> None:
        store(intake, {"n": 1})
        store(intake, {"list": ["x"]})
        job = attempt(intake, JobState.DEAD, Outcome.REFUSED)
        listed = reader.get("/jobs", state="dead", route="deploy", task=TASK, source="open")
        assert [each["id"] for each in listed["jobs"]] == [job]
        assert listed["partial"]
        assert reader.get("/jobs", limit=1)["next"] == f"{ROOT}/jobs?limit=1&before=2"
        (found,) = reader.get(f"/jobs/{job}")["attempts"]
        assert (found["outcome"], found["status"], found["duration_seconds"]) == ("refused", 500, 0.25)

    def test_the_routes(self, intake: Intake, api: Api, reader: Api) -> None:
        store(intake, {"n": 1})
        api.change("POST", "/pauses", kind="route", name="each/one")
        first = reader.get("/routes", limit=2)
        assert first["routes"][0] == {
            "name": "deploy", "source": "open", "task": "deploy", "task_id": TASK, "line": 9,
            "file": str(intake.database.with_name("table.yml")), "jobs_in_24h": 1,
            "last_job": {"id": 1, "state": "waiting"}, "paused": False,
        }  # fmt: skip
        assert (first["routes"][1]["paused"], first["routes"][1]["last_job"]) == (True, None)
        assert first["next"] == f"{ROOT}/routes?limit=2&after=2"
        second = reader.get("/routes", limit=2, after=2)
        assert ([each["name"] for each in second["routes"]], second["next"]) == (["broken"], None)
        api.change("POST", "/pauses", kind="task", name="deploy")
        assert all(each["paused"] for each in reader.get("/routes")["routes"])

    def test_refused_requests(self, intake: Intake, app: Flask, reader: Api) -> None:
        client = app.test_client()
        client.post("/hooks/open", data=b"{", headers=JSON_HEADERS)
        client.post("/hooks/nowhere", data=b"{}", headers=JSON_HEADERS)
        intake.refusals.close()
        assert {(each["source"], each["status"]) for each in reader.get("/refused")["refused"]} == {
            ("open", 400), (None, 404),
        }  # fmt: skip
        assert [each["source"] for each in reader.get("/refused", source="open")["refused"]] == ["open"]
        assert len(reader.get("/refused", limit=1)["refused"]) == 1

    def test_the_audit_in_pages(self, intake: Intake, api: Api, reader: Api) -> None:
        for name in ("deploy", "broken", "each/one"):
            api.change("POST", "/pauses", kind="route", name=name, reason=f"why {name}")
        first = reader.get("/audit", limit=2)
        assert [each["reason"] for each in first["audit"]] == ["why each/one", "why broken"]
        assert first["next"] == f"{ROOT}/audit?limit=2&before={first['audit'][-1]['id']}"
        second = reader.get("/audit", limit=2, before=first["audit"][-1]["id"])
        assert ([each["target"] for each in second["audit"]], second["next"]) == ([{"route": "deploy"}], None)


class TestChanging:
    """The methods that change, with a token that may."""

    def audited(self, api: Api) -> tuple[Any, ...]:
        entry = api.get("/audit", limit=1)["audit"][0]
        assert entry["ended_at"] is not None
        keys = ("id", "operator", "account", "action", "target", "selected", "changed", "reason")
        return tuple(entry[key] for key in keys)

    def test_retry(self, intake: Intake, api: Api) -> None:
        store(intake, {"n": 1})
        job = attempt(intake, JobState.DEAD, Outcome.REFUSED)
        changed = api.change("POST", f"/jobs/{job}/retry", reason="the key was wrong")
        assert (changed["done"], changed["result"]) == (True, f"job {job} is waiting to be sent")
        assert changed["jobs"] == [{"id": job, "route": "deploy", "task": "deploy", "state": "waiting"}]
        audited = (changed["audit"], "bot", None, "jobs retry", {"jobs": [job]}, 1, 1, "the key was wrong")
        assert self.audited(api) == audited

    def test_a_retry_that_leaves_the_job_dead(self, intake: Intake, api: Api) -> None:
        store(intake, {"n": 3})
        changed = api.change("POST", "/jobs/1/retry")
        assert changed["done"] is False
        assert changed["result"].startswith("job 1 stays dead: n: payload.x is missing")
        assert self.audited(api)[-2:] == (0, None)

    def test_cancel(self, intake: Intake, api: Api) -> None:
        store(intake, {"n": 1})
        changed = api.change("POST", "/jobs/1/cancel")
        assert (changed["jobs"][0]["state"], changed["result"]) == ("canceled", "job 1 is canceled")
        again = (409, "wrong_state", "job 1 is canceled, expected waiting or dead or unknown")
        assert api.problem("POST", "/jobs/1/cancel") == again
        # Only the first has changed the job.
        (entry,) = api.get("/audit")["audit"]
        assert (entry["action"], entry["target"], entry["changed"]) == ("jobs cancel", {"jobs": [1]}, 1)

    @pytest.mark.parametrize(("answer", "state"), [("sent", "accepted"), ("again", "waiting")])
    def test_resolve(self, intake: Intake, api: Api, answer: str, state: str) -> None:
        store(intake, {"n": 1})
        job = attempt(intake, JobState.UNKNOWN, Outcome.UNKNOWN)
        (changed,) = api.change("POST", f"/jobs/{job}/resolve", answer=answer)["jobs"]
        assert (changed["id"], changed["state"]) == (job, state)
        assert self.audited(api)[3] == f"jobs resolve --{answer}"

    def test_replay(self, intake: Intake, api: Api) -> None:
        event = store(intake, {"n": 3, "list": ["x"]})
        changed = api.change("POST", f"/events/{event}/replay", reason="after the fix")
        assert [(job["id"], job["route"], job["state"]) for job in changed["jobs"]] == [
            (3, "each/one", "waiting"), (4, "broken", "dead"),
        ]  # fmt: skip
        assert changed["result"] == f"event {event}: jobs 3 (each/one: waiting), 4 (broken: dead)"
        assert len(changed["warnings"]) == 1
        assert self.audited(api)[3:] == ("events replay", {"events": [event]}, 1, 1, "after the fix")

    def test_what_has_no_body_cannot_be_replayed_or_retried(self, intake: Intake, api: Api) -> None:
        event = store(intake, {"n": 3})
        with beside(f"sqlite:///{intake.database}") as connection:
            connection.execute(text("UPDATE events SET body = x''"))
        assert api.problem("POST", f"/events/{event}/replay")[:2] == (410, "body_gone")
        assert api.problem("POST", "/jobs/1/retry")[:2] == (410, "body_gone")

    @pytest.mark.parametrize("name", ["deploy", TASK])
    def test_pause_and_resume_a_task(self, intake: Intake, api: Api, name: str) -> None:
        paused = api.change("POST", "/pauses", kind="task", name=name, reason="upgrade")
        assert (paused["done"], paused["result"]) == (True, f"task {name} is paused")
        assert self.audited(api)[1:] == ("bot", None, "pause", {"task": TASK}, 1, 1, "upgrade")
        again = api.change("POST", "/pauses", kind="task", name=name)
        assert (again["done"], again["result"]) == (True, f"task {name} was already paused")
        response = api.send("DELETE", f"/pauses/task/{name}", query={"reason": "done"})
        assert orjson.loads(response.data)["result"] == f"task {name} is resumed"
        assert self.audited(api)[1:] == ("bot", None, "resume", {"task": TASK}, 1, 1, "done")
        assert intake.outbox.paused() == []
        again = api.change("DELETE", f"/pauses/task/{name}", reason="again")
        assert again["result"] == f"task {name} was already resumed"
        assert self.audited(api)[-2:] == (0, "again")

    def test_a_route_with_a_slash_that_the_table_no_longer_has(self, intake: Intake, api: Api) -> None:
        api.change("POST", "/pauses", kind="route", name="each/one")
        intake.use(TABLE.replace("name: each/one,", "name: each/two,"))
        api = Api(intake.app({"BRIDGE_API_TOKENS": TOKENS}).test_client())
        assert api.send("DELETE", "/pauses/route/each/one").status_code == 200
        assert intake.outbox.paused() == []
        for kind, hint in (("route", "; did you mean each/two?"), ("task", "")):
            unknown = (404, "not_found", f"there is no {kind} 'each/one'{hint}")
            assert api.problem("POST", "/pauses", {"kind": kind, "name": "each/one"}) == unknown
            assert api.problem("DELETE", f"/pauses/{kind}/each/one") == unknown

    @pytest.mark.parametrize(
        "path", ["/jobs/9/retry", "/jobs/9/cancel", "/jobs/9/resolve", "/events/9/replay"]
    )
    def test_what_does_not_exist_is_not_in_the_audit(self, intake: Intake, api: Api, path: str) -> None:
        body = {"answer": "sent"} if path.endswith("resolve") else None
        status, code, detail = api.problem("POST", path, body)
        assert (status, code) == (404, "not_found")
        assert re.fullmatch("there is no (event|job) 9", detail)
        assert api.get("/audit")["audit"] == []
        intake.refusals.close()
        # It is not a webhook with a wrong path.
        assert api.get("/refused")["refused"] == []


class TestTokens:
    """Who may do what."""

    @pytest.mark.parametrize(
        "authorization",
        [
            None, "", "Bearer", "Bearer ", f"Basic {READ}", READ, f"Bearer {READ}x", f"Bearer {READ[:-1]}",
            f"Bearer {READ.upper()}", "Bearer \xe9", "Bearer a=b", "Digest a=b",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/nothing", "/api/", "/api/v1/jobs/1/retry"])
    def test_a_request_without_a_token(self, app: Flask, authorization: str | None, path: str) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        method = "POST" if path.endswith("retry") else "GET"
        response = app.test_client().open(path, method=method, headers=headers)
        assert response.content_type == "application/problem+json"
        assert orjson.loads(response.data) == {
            "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "unauthenticated",
            "detail": "send a token of BRIDGE_API_TOKENS as Authorization: Bearer",
        }  # fmt: skip
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="theeye-bridge"'

    def test_without_the_variable_the_api_is_closed(self, intake: Intake) -> None:
        client = intake.app().test_client()
        status, code, detail = Api(client).problem("GET", "/status")
        assert (status, code) == (401, "unauthenticated")
        assert detail.startswith("the API is closed; set BRIDGE_API_TOKENS to name:right:token")
        assert client.get(f"{ROOT}/openapi.json").status_code == 200

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            (method.upper(), path)
            for path, operations in SPECIFICATION["paths"].items()
            for method in operations
            if method != "get"
        ],
    )
    def test_a_token_that_reads_changes_nothing(
        self, intake: Intake, reader: Api, method: str, path: str
    ) -> None:
        store(intake, {"n": 1})
        real = path.replace("{job_id}", "1").replace("{event_id}", "1").replace("{kind}", "task")
        problem = reader.problem(method, real.replace("{name}", "deploy"))
        assert problem == (403, "forbidden", "the token grafana may only read")
        assert (intake.jobs()[0].state, len(intake.jobs())) == (JobState.WAITING, 1)
        assert intake.outbox.audit.entries() == []

    def test_no_cookie_is_set_and_the_session_of_the_page_does_not_count(self, app: Flask, api: Api) -> None:
        assert "Set-Cookie" not in api.send("GET", "/status").headers
        client = app.test_client()
        with client.session_transaction() as session:
            session["since"] = 9e9
        assert client.get(f"{ROOT}/status").status_code == 401


class TestMistakes:
    """Requests that are not valid."""

    @pytest.mark.parametrize(
        ("path", "query", "detail"),
        [
            ("/audit", {"befor": "5"}, "'befor' is unknown; expected limit, before; did you mean before?"),
            ("/status", {"x": "1"}, "'x' is unknown; expected none"),
            ("/events", {"tab": "some"}, "tab must be one of all, jobs, none, failed, got 'some'"),
            ("/jobs", {"state": "gone"}, f"state must be one of {', '.join(JobState)}, got 'gone'"),
            ("/jobs", {"state": ["dead", "unknown"]}, f"state {ONE_TEXT}"),
            ("/jobs", {"route": ""}, f"route {ONE_TEXT}"),
            ("/jobs", {"route": "a\x00"}, f"route {ONE_TEXT}"),
            ("/jobs", {"route": "x" * 1001}, f"route {ONE_TEXT}"),
            ("/jobs", {"limit": "201"}, "limit must be a number from 1 to 200, got '201'"),
            ("/jobs", {"limit": "0"}, "limit must be a number from 1 to 200, got '0'"),
            ("/audit", {"before": "x"}, "before must be a number from 0 to 999999999999999999, got 'x'"),
            ("/audit", {"before": "-1"}, "before must be a number from 0 to 999999999999999999, got '-1'"),
            ("/events", {"last": "1y"}, "last must be a duration such as 24h: "),
            ("/events", {"from": "yesterday"}, "expected a time such as 2026-11-29T11:00, got 'yesterday'"),
            ("/events", {"q": "payload[:x"}, "the search 'payload[:x' has no valid field: "),
        ],
    )  # fmt: skip
    def test_a_parameter(self, api: Api, path: str, query: dict[str, Any], detail: str) -> None:
        status, code, found = api.problem("GET", path, **query)
        assert (status, code) == (400, "invalid_parameter")
        assert found.startswith(detail)

    @pytest.mark.parametrize(
        ("path", "body", "detail"),
        [
            ("/jobs/1/retry", b"{", "the body is not valid JSON"),
            ("/jobs/1/retry", b"[]", "the body is not an object"),
            ("/jobs/1/retry", b'{"reasn": "x"}', "'reasn' is unknown; expected reason; did you mean reason?"),
            ("/jobs/1/retry", b'{"reason": 5}', f"reason {ONE_REASON}"),
            ("/jobs/1/retry", b'{"reason": "' + b"x" * 501 + b'"}', f"reason {ONE_REASON}"),
            ("/jobs/1/retry", b" " * 70_000, "The data value transmitted exceeds the capacity limit."),
            ("/jobs/1/resolve", b"", f"answer {ONE_TEXT}"),
            ("/jobs/1/resolve", b'{"answer": "yes"}', "answer must be one of sent, again, got 'yes'"),
            ("/pauses", b'{"kind": "source", "name": "x"}', "kind must be one of task, route, got 'source'"),
        ],
        ids=lambda value: value[:20].decode() if isinstance(value, bytes) else None,
    )  # fmt: skip
    def test_a_body(self, intake: Intake, app: Flask, path: str, body: bytes, detail: str) -> None:
        store(intake, {"n": 1})
        headers = {"Authorization": f"Bearer {WRITE}"}
        response = app.test_client().post(f"{ROOT}{path}", data=body, headers=headers)
        found = orjson.loads(response.data)
        assert (response.status_code, found["code"], found["detail"]) == (400, "invalid_parameter", detail)
        assert intake.outbox.audit.entries() == []

    def test_a_body_of_an_operation_that_has_none(self, api: Api) -> None:
        unknown = (400, "invalid_parameter", "'reason' is unknown; expected none")
        assert api.problem("GET", "/status", {"reason": "why"}) == unknown

    @pytest.mark.parametrize("error", [ConnectionResetError(), NoMoreData(), InvalidChunkSize(b"zz")])
    def test_a_body_that_does_not_arrive(self, intake: Intake, app: Flask, error: Exception) -> None:
        class Broken(io.RawIOBase):
            def readinto(self, _: Any) -> int:
                raise error

        response = app.test_client().post(
            f"{ROOT}/jobs/1/retry", headers={"Authorization": f"Bearer {WRITE}"},
            environ_overrides={"wsgi.input": Broken(), "wsgi.input_terminated": True},
        )  # fmt: skip
        assert (response.status_code, orjson.loads(response.data)["code"]) == (400, "invalid_parameter")

    @pytest.mark.parametrize(
        "path", ["nothing", "jobs/0x1", "jobs/-1", f"jobs/{2**63}", "jobs/1/", "pauses/source/x"]
    )
    def test_a_path(self, app: Flask, path: str) -> None:
        headers = {"Authorization": f"Bearer {WRITE}"}
        method = "DELETE" if "pauses" in path else "GET"
        response = app.test_client().open(f"{ROOT}/{path}", method=method, headers=headers)
        assert (response.status_code, orjson.loads(response.data)["code"]) == (404, "not_found")

    def test_a_method(self, app: Flask) -> None:
        headers = {"Authorization": f"Bearer {WRITE}"}
        response = app.test_client().put(f"{ROOT}/jobs/1/retry", headers=headers)
        assert (response.status_code, orjson.loads(response.data)["code"]) == (405, "method_not_allowed")
        assert response.allow.as_set() == {"post", "options"}


class TestFailures:
    """The bridge's own."""

    def test_the_store(self, intake: Intake, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise StoreUnavailable(f"disk full at {VARIABLES['TOKEN']}")

        monkeypatch.setattr(intake.outbox, "job", fail)
        response = api.send("GET", "/jobs/1")
        problem = orjson.loads(response.data)
        assert (response.status_code, problem["code"]) == (503, "store_unavailable")
        assert problem["detail"] == "disk full at <secret>"
        assert response.headers["Retry-After"] == "10"

    def test_a_defect_is_logged_and_not_shown(
        self, intake: Intake, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(intake.outbox, "job", fail)
        response = app.test_client().get(f"{ROOT}/jobs/1", headers={"Authorization": f"Bearer {READ}"})
        problem = orjson.loads(response.data)
        assert (response.status_code, problem["code"]) == (500, "internal")
        assert "a defect" not in str(problem)
        assert "a defect" in caplog.text


class TestMasking:
    """No secret leaves by the API."""

    def test_a_secret_in_a_payload_a_key_and_a_number(self, intake: Intake, reader: Api) -> None:
        secret = VARIABLES["TOKEN"]
        event = store(intake, {secret: f"see {secret}", "list": [secret]})
        response = reader.send("GET", f"/events/{event}")
        assert secret.encode() not in response.data
        payload = orjson.loads(response.data)["payload"]
        assert payload == {"<secret>": "see <secret>", "list": ["<secret>"]}

    def test_a_secret_of_digits_leaves_valid_json(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(TABLE)
        event = store(intake, {"n": 1234567890, "x": 12345678})
        intake._variables = {"PIN": "1234567890", "YES": "true"}
        reader = Api(intake.app({"BRIDGE_API_TOKENS": TOKENS}).test_client(), READ)
        response = reader.client.get(f"{ROOT}/events/{event}", headers={"Authorization": f"Bearer {READ}"})
        assert orjson.loads(response.data)["payload"] == {"n": "<secret>", "x": 12345678}


#: A good request of each operation, after job 1 has died, and job 2 is unknown.
REQUESTS: dict[str, tuple[str, str, JSON]] = {
    "status": ("GET", "/status", None),
    "events": ("GET", "/events", None),
    "event": ("GET", "/events/1", None),
    "explanation": ("GET", "/events/1/explanation", None),
    "jobs": ("GET", "/jobs", None),
    "job": ("GET", "/jobs/1", None),
    "routes": ("GET", "/routes", None),
    "refused": ("GET", "/refused", None),
    "audit": ("GET", "/audit", None),
    "replay": ("POST", "/events/1/replay", None),
    "retry": ("POST", "/jobs/1/retry", {"reason": "why"}),
    "cancel": ("POST", "/jobs/2/cancel", None),
    "resolve": ("POST", "/jobs/2/resolve", {"answer": "again"}),
    "pause": ("POST", "/pauses", {"kind": "task", "name": "deploy"}),
    "resume": ("DELETE", "/pauses/route/deploy", None),
}


class TestSpecification:
    """The OpenAPI file."""

    @pytest.mark.parametrize("operation", REQUESTS)
    def test_each_operation_answers_as_it_declares(self, intake: Intake, api: Api, operation: str) -> None:
        for number in range(2):
            store(intake, {"n": 1, "list": ["x"] * number})
        attempt(intake, JobState.DEAD, Outcome.REFUSED)
        attempt(intake, JobState.UNKNOWN, Outcome.UNKNOWN)
        api.change("POST", "/pauses", kind="route", name="deploy")
        method, path, body = REQUESTS[operation]
        assert operation_of(method, path)[1]["operationId"] == operation
        assert api.send(method, path, body).status_code == 200

    def test_each_operation_has_a_request(self) -> None:
        declared = [
            each["operationId"]
            for operations in SPECIFICATION["paths"].values()
            for each in operations.values()
        ]
        assert sorted(declared) == sorted(REQUESTS)

    def test_it_is_served_without_a_token(self, app: Flask) -> None:
        response = app.test_client().get(f"{ROOT}/openapi.json")
        assert (response.status_code, response.content_type) == (200, "application/json")
        assert orjson.loads(response.data) == SPECIFICATION

    def test_its_operations_are_those_of_the_application(self, app: Flask) -> None:
        served = {
            (method, re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule).removeprefix(ROOT))
            for rule in app.url_map.iter_rules()
            if rule.rule.startswith("/api/")
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        declared = {
            (method.upper(), path)
            for path, operations in SPECIFICATION["paths"].items()
            for method in operations
        }
        assert served - {("GET", "/openapi.json")} == declared

    def test_its_references_lead_somewhere_and_nothing_is_declared_in_vain(self) -> None:
        text = orjson.dumps(SPECIFICATION).decode()
        used = set(re.findall(r'"#/components/(\w+)/(\w+)"', text))
        declared = {
            (kind, name) for kind in ("responses", "schemas") for name in SPECIFICATION["components"][kind]
        }
        assert used == declared

    def test_its_words_are_those_of_the_code(self) -> None:
        schemas = SPECIFICATION["components"]["schemas"]
        assert schemas["JobState"]["enum"] == list(JobState)
        assert set(schemas["Problem"]["properties"]["code"]["enum"]) == {code for _, code in CODES.values()}
        reasons = re.findall(r'"maxLength":(\d+)', orjson.dumps(SPECIFICATION["paths"]).decode())
        assert set(reasons) == {str(REASON_CHARACTERS)}
        assert set(schemas["Attempt"]["properties"]["outcome"]["enum"]) == {*Outcome, None}

    def test_every_parameter_of_a_path_is_declared(self) -> None:
        for path, operations in SPECIFICATION["paths"].items():
            for operation in operations.values():
                declared = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
                assert declared == re.findall(r"{(\w+)}", path)


class TestReference:
    """docs/reference/api.md."""

    def test_its_operations_codes_and_parameters_are_those_of_the_file(self) -> None:
        operations = {
            f"{method.upper()} {path}"
            for path, of_path in SPECIFICATION["paths"].items()
            for method in of_path
        }
        documented = re.findall(r"^\| `((?:GET|POST|DELETE) [^`]*)` \|", REFERENCE, re.MULTILINE)
        assert set(documented) == operations
        codes = re.findall(r"^\| (\d+) \| `(\w+)` \|", REFERENCE, re.MULTILINE)
        assert {(int(status), code) for status, code in codes} == set(CODES.values())
        lists = REFERENCE.split("## Lists")[1].split("## Changes")[0]
        rows = "".join(re.findall(r"^\| (`[^|]*) \|", lists, re.MULTILINE))
        parameters = {
            each["name"]
            for of_path in SPECIFICATION["paths"].values()
            for operation in of_path.values()
            for each in operation["parameters"]
            if each["in"] == "query"
        }
        assert set(re.findall(r"`(\w+)`", rows)) == parameters - {"reason"}

    @pytest.mark.parametrize(
        ("heading", "schema"), [("Status", "Status"), ("Routes", "Route"), ("The answer has", "Change")]
    )
    def test_its_keys_are_those_of_the_file(self, heading: str, schema: str) -> None:
        table = re.split(rf"^(?:## )?{heading}", REFERENCE, flags=re.MULTILINE)[1].split("\n\n")[1]
        documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)))
        assert documented == list(SPECIFICATION["components"]["schemas"][schema]["properties"])

    def test_its_calls_work(self, intake: Intake, api: Api) -> None:
        states = {16: JobState.WAITING, 17: JobState.DEAD, 18: JobState.UNKNOWN}
        for number in range(1, 19):
            store(intake, {"n": 1, "number": number})
            if number in states:
                intake.set_state(number, states[number])
        lines = [
            shlex.split(line)
            for block in code_blocks("docs/reference/api.md", "sh")
            for line in block.splitlines()
            if line.startswith("curl ")
        ]
        assert len(lines) == 9
        parser = argparse.ArgumentParser()
        for option in ("-H", "-X", "-d"):
            parser.add_argument(option)
        parser.add_argument("url")
        for line in lines:
            given = parser.parse_args(line[1:])
            assert re.fullmatch(r"Authorization: Bearer \$(BOT|GRAFANA)_TOKEN", given.H)
            path, _, query = given.url.removeprefix(f"https://your-bridge{ROOT}").partition("?")
            method = given.X or ("POST" if given.d else "GET")
            body = None if given.d is None else orjson.loads(given.d)
            assert api.send(method, path, body, dict(parse_qsl(query))).status_code == 200, line
