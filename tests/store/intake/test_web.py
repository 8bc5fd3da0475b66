"""The Flask application: what it hands to the receiver, and what it answers."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, NoMoreData
from werkzeug.test import TestResponse

from bridge.core.errors import StoreUnavailable
from bridge.intake.answer import Answer
from bridge.intake.receive import Receiver
from tests.store.intake.test_receive import no_room_left
from tests.support.intake import BEARER, JSON_HEADERS, TASK, VARIABLES, Intake, github_headers, sample
from tests.support.server import STATUS, STATUS_TOKEN

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  open: {type: generic, allow_unsigned: true, dedupe: off}
  closed: {type: generic, bearer_token: "${{ env.TOKEN }}"}
routes:
  - {name: deploy, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: any, source: open, match: {payload.n: 1}, task: TASK, secret_key: KEY, task_arguments: []}
"""

PUSH = sample("github/push.json")

#: Bytes, of the application under test.
MAX_BODY = 4096


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


@pytest.fixture
def app(intake: Intake) -> Flask:
    return intake.app({"BRIDGE_MAX_BODY": str(MAX_BODY)})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Readable(Protocol):
    """What gunicorn's ``wsgi.input`` and io.BytesIO have in common."""

    def read(self, size: int = -1, /) -> bytes: ...


class Stream:
    """A body without end; it counts what was read of it."""

    def __init__(self, begin: bytes = b"", fill: bytes = b" ") -> None:
        self._begin = begin
        self._fill = fill
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0, "an endless body must not be read whole"
        piece = self._begin[self.given : self.given + size]
        piece += self._fill * (size - len(piece))
        self.given += size
        return piece


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The body of an error; its form is that of RFC 9457."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = orjson.loads(response.data)
    assert set(body) == {"type", "title", "status"}
    assert (body["type"], body["status"]) == ("about:blank", status)
    return body


class TestHook:
    """``POST /hooks/<source>``."""

    @pytest.mark.parametrize("path", ["/hooks/github", "/hooks/github/", "/hooks/github?environment=prod"])
    def test_with_jobs(self, client: FlaskClient, path: str) -> None:
        response = client.post(path, data=PUSH, headers=github_headers(PUSH))
        assert (response.status_code, response.content_type) == (202, "application/json")
        jobs = [{"id": 1, "route": "deploy", "task": TASK}]
        assert orjson.loads(response.data) == {"event": 1, "jobs": jobs, "duplicate": False}

    def test_without(self, client: FlaskClient) -> None:
        response = client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS)
        assert (response.status_code, response.content_type) == (200, "application/json")
        assert orjson.loads(response.data) == {"event": 1, "jobs": [], "duplicate": False}

    def test_the_last_value_of_a_query_parameter_and_no_token(
        self, client: FlaskClient, intake: Intake
    ) -> None:
        environ = {"QUERY_STRING": "a=1&a=2&token=t&token=u&b=&=c&d&%FF=%00"}
        client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS, environ_overrides=environ)
        query = intake.outbox.event(1).query
        assert query == {"a": "2", "b": "", "": "c", "d": "", "%FF": "\x00"}

    def test_headers_are_found_in_any_case(self, client: FlaskClient, intake: Intake) -> None:
        client.post("/hooks/open", data=b"{}", headers={**JSON_HEADERS, "x-FOO": "bar", "X-Latin": "\xe9"})
        headers = intake.outbox.event(1).headers
        assert headers["X-Foo"] == "bar"
        assert headers["x-latin"] == "\xe9"
        assert "authorization" not in headers

    def test_the_body_is_handed_on_as_it_came(self, client: FlaskClient, intake: Intake) -> None:
        body = b' {"a" : 1.0, "b":"\\u00e9"} \r\n'
        client.post("/hooks/open", data=body, headers=JSON_HEADERS)
        assert intake.outbox.event(1).body == body

    def test_a_form_is_handed_on_as_it_came(self, client: FlaskClient, intake: Intake) -> None:
        """Flask would read it into `form`, and leave nothing to verify a signature over."""
        raw = b"payload=%7B%22ref%22%3A%22r%22,%22before%22%3A1%2C%22after%22%3A2%7D"
        headers = {**github_headers(raw), "Content-Type": "application/x-www-form-urlencoded"}
        assert client.post("/hooks/github", data=raw, headers=headers).status_code == 202
        assert intake.outbox.event(1).body == b'{"ref":"r","before":1,"after":2}'


class TestMethods:
    """POST alone."""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
    @pytest.mark.parametrize("path", ["/hooks/github", "/hooks/github/", "/hooks/nowhere"])
    def test_others_are_not_allowed(
        self, client: FlaskClient, intake: Intake, method: str, path: str
    ) -> None:
        response = client.open(path, method=method, data=PUSH, headers=github_headers(PUSH))
        assert response.status_code == 405
        assert set(response.allow) == {"POST", "OPTIONS"}
        if method == "HEAD":
            assert response.data == b""
        else:
            problem(response, 405)
        assert intake.rows() == (0, 0)

    def test_a_browser_is_told_of_no_other_origin(self, client: FlaskClient, intake: Intake) -> None:
        headers = {
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        response = client.options("/hooks/open", headers=headers)
        assert set(response.allow) == {"POST", "OPTIONS"}
        assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
    def test_health_is_read_only(self, client: FlaskClient, path: str) -> None:
        problem(client.post(path), 405)
        assert client.head(path).status_code == 200


class TestPaths:
    """Anything but the URLs there are is 404, never a redirect that a sender would follow."""

    @pytest.mark.parametrize(
        "path",
        [
            "/hooks", "/hooks/", "/hooks//", "/hooks//open", "//hooks//open", "/hooks/open/x",
            "/hooks/open//", "/HOOKS/open", "/hooks/../hooks/open", "/hooks/./open", "/hook/open",
            "/hooks/open%2Fx", "/x/hooks/open", "/healthz/", "/metrics/", "/static/x", "/\ufffd",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["POST", "GET"])
    def test_no_such_url(self, client: FlaskClient, intake: Intake, path: str, method: str) -> None:
        # With its host, as otherwise the client takes the one in //hooks//open for it.
        url = f"http://localhost{path}"
        response = client.open(url, method=method, data=b"{}", headers=JSON_HEADERS)
        assert problem(response, 404)["title"] == "Not Found"
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize(
        "path",
        ["/hooks/Open", "/hooks/op%00en", "/hooks/%FF", "/hooks/%0A", "/hooks/" + "a" * 4000, "/hooks/..;"],
    )
    def test_no_such_source(self, client: FlaskClient, intake: Intake, path: str) -> None:
        response = client.post(path, data=b"{}", headers=JSON_HEADERS)
        assert problem(response, 404)["title"] == "There is no such source"
        assert intake.rows() == (0, 0)


class TestProblems:
    """Each refusal's status and title, and nothing more."""

    @pytest.mark.parametrize(
        ("path", "body", "headers", "status", "title"),
        [
            ("/hooks/open", b"{", JSON_HEADERS, 400, "The request cannot be read"),
            ("/hooks/github", PUSH, JSON_HEADERS, 401, "The request is not authentic"),
            ("/hooks/closed", b"{}", JSON_HEADERS, 401, "The request is not authentic"),
            (
                "/hooks/closed",
                b"{",
                {**JSON_HEADERS, "Authorization": "Bearer x"},
                401,
                "The request is not authentic",
            ),
            ("/hooks/nowhere", b"{}", JSON_HEADERS, 404, "There is no such source"),
            ("/hooks/open", b"{}", {}, 415, "The content type or encoding is not supported"),
            (
                "/hooks/open",
                b"{}",
                {**JSON_HEADERS, "Content-Encoding": "gzip"},
                415,
                "The content type or encoding is not supported",
            ),
        ],
    )
    def test_each(
        self,
        client: FlaskClient,
        intake: Intake,
        caplog: pytest.LogCaptureFixture,
        path: str,
        body: bytes,
        headers: dict[str, str],
        status: int,
        title: str,
    ) -> None:
        response = client.post(path, data=body, headers=headers)
        assert problem(response, status)["title"] == title
        assert "Retry-After" not in response.headers
        assert intake.rows() == (0, 0)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(f"refused with {status}: ")

    def test_what_cannot_be_stored_is_to_be_sent_again(self, client: FlaskClient, intake: Intake) -> None:
        body = b'{"n":1,"note":"' + b"x" * 3000 + b'"}'
        with no_room_left(intake.database):
            response = client.post("/hooks/open", data=body, headers=JSON_HEADERS)
            problem(response, 503)
            assert int(response.headers["Retry-After"]) > 0
        assert intake.rows() == (0, 0)
        assert client.post("/hooks/open", data=body, headers=JSON_HEADERS).status_code == 202

    def test_a_defect_of_the_bridge_says_nothing_of_itself(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> Answer:
            raise RuntimeError("the inside")

        monkeypatch.setattr(Receiver, "receive", broken)
        response = client.post("/hooks/open", data=b"{}", headers=JSON_HEADERS)
        assert problem(response, 500)["title"] == "Internal Server Error"
        assert b"inside" not in response.data
        (record,) = caplog.records
        assert record.exc_info is not None
        assert "the inside" in str(record.exc_info[1])


class TestBody:
    """Read whole, within the limit, and only where the request may be authentic."""

    def sent(
        self,
        client: FlaskClient,
        stream: Readable,
        length: int | None,
        path: str = "/hooks/open",
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> TestResponse:
        """As gunicorn hands a body over: of the length that the sender says, or in chunks where None."""
        environ: dict[str, Any] = {"wsgi.input": stream, "wsgi.input_terminated": True}
        framing = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
        return client.post(path, headers=headers, environ_overrides={**environ, **framing})

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/hooks/nowhere", JSON_HEADERS, 404),
            ("/hooks/open", {}, 415),
            ("/hooks/github", {"Content-Type": "text/plain"}, 415),
            ("/hooks/closed", JSON_HEADERS, 401),
            ("/hooks/closed", {**JSON_HEADERS, "Authorization": "Bearer x"}, 401),
            ("/hooks/open/x", JSON_HEADERS, 404),
        ],
    )
    def test_what_is_refused_before(
        self, client: FlaskClient, path: str, headers: dict[str, str], status: int
    ) -> None:
        for length in (1000, None):
            stream = Stream()
            problem(self.sent(client, stream, length, path, headers), status)
            assert stream.given == 0

    def test_up_to_the_limit(self, client: FlaskClient, intake: Intake) -> None:
        body = b"{}" + b" " * (MAX_BODY - 2)
        for length in (MAX_BODY, None):
            response = self.sent(client, io.BytesIO(body), length)
            assert response.status_code == 200
            assert intake.outbox.event(orjson.loads(response.data)["event"]).body == body

    def test_beyond_it_nothing_is_read(self, client: FlaskClient, intake: Intake) -> None:
        for length in (MAX_BODY + 1, 10**30):
            stream = Stream(b"{}")
            problem(self.sent(client, stream, length), 413)
            assert stream.given == 0
        assert intake.rows() == (0, 0)

    def test_of_unknown_length_no_more_than_that(self, client: FlaskClient, intake: Intake) -> None:
        """What fits must not be taken for all of it: it may be JSON, followed by blanks."""
        for stream in (Stream(b'{"n":1}'), Stream(b'{"n":1}' + b" " * MAX_BODY, fill=b"x")):
            problem(self.sent(client, stream, None), 413)
            assert stream.given <= MAX_BODY + 1
        problem(self.sent(client, io.BytesIO(b"{}" + b" " * (MAX_BODY - 1)), None), 413)
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("length", [3, 100])
    def test_a_body_that_ends_too_soon(self, client: FlaskClient, intake: Intake, length: int) -> None:
        problem(self.sent(client, io.BytesIO(b"{}"), length), 400)
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionResetError("reset by peer"),
            NoMoreData(),
            InvalidChunkSize(b"zz"),
            ChunkMissingTerminator(b""),
        ],
        ids=["reset", "cut", "a chunk's size", "a chunk's end"],
    )
    @pytest.mark.parametrize("length", [100, None])
    def test_a_connection_that_breaks(
        self, client: FlaskClient, intake: Intake, error: Exception, length: int | None
    ) -> None:
        class Broken:
            def read(self, size: int = -1, /) -> bytes:
                raise error

        problem(self.sent(client, Broken(), length), 400)
        assert intake.rows() == (0, 0)

    def test_an_empty_one(self, client: FlaskClient) -> None:
        problem(client.post("/hooks/open", headers=JSON_HEADERS), 400)
        problem(client.post("/hooks/open", data=b"", headers={**JSON_HEADERS, "Content-Length": "0"}), 400)


class TestHealth:
    """For those who watch the process."""

    def test_alive(self, client: FlaskClient) -> None:
        response = client.get("/healthz")
        assert (response.status_code, orjson.loads(response.data)) == (200, {"alive": True})

    def test_ready_and_what_else_is_wrong(self, client: FlaskClient) -> None:
        response = client.get("/readyz", headers=STATUS)
        assert response.status_code == 200
        # Delivery is not started here: it is told, and does not stop intake.
        assert orjson.loads(response.data) == {
            "ready": True,
            "database": "answers",
            "delivering": False,
            "trouble": ["a delivery thread of this process has stopped: restart the bridge"],
        }

    def test_not_ready_where_the_store_does_not_answer(
        self, client: FlaskClient, intake: Intake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable() -> None:
            raise StoreUnavailable(f"no answer from db:{VARIABLES['TOKEN']}")

        monkeypatch.setattr(intake.outbox, "ping", unreachable)
        response = client.get("/readyz", headers=STATUS)
        assert (response.status_code, response.content_type) == (503, "application/json")
        assert orjson.loads(response.data) == {"ready": False, "database": "no answer from db:<secret>"}
        assert client.get("/healthz").status_code == 200

    def test_credentials_are_for_hooks_alone(self, client: FlaskClient) -> None:
        assert client.get("/readyz", headers=BEARER).status_code == 200

    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            f"Bearer {STATUS_TOKEN}x",
            f"Bearer {STATUS_TOKEN[:-1]}",
            f"Basic {STATUS_TOKEN}",
            STATUS_TOKEN,
            "Bearer \xff",
        ],
    )
    def test_strangers_see_no_details(self, client: FlaskClient, authorization: str | None) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = client.get("/readyz", headers=headers)
        how = "send BRIDGE_STATUS_TOKEN as Authorization: Bearer"
        assert response.status_code == 200
        assert orjson.loads(response.data) == {"ready": True, "trouble": 1, "details": how}

    def test_without_a_token_nobody_sees_details(
        self, intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def unreachable() -> None:
            raise StoreUnavailable(f"no answer from db:{VARIABLES['TOKEN']}")

        client = intake.app({"BRIDGE_STATUS_TOKEN": ""}).test_client()
        how = "set BRIDGE_STATUS_TOKEN"
        for headers in ({}, STATUS, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            assert orjson.loads(client.get("/readyz", headers=headers).data) == {
                "ready": True, "trouble": 1, "details": how,
            }  # fmt: skip
        monkeypatch.setattr(intake.outbox, "ping", unreachable)
        for _ in range(3):
            response = client.get("/readyz", headers=STATUS)
            assert response.status_code == 503
            assert orjson.loads(response.data) == {"ready": False, "details": how}
        # The log has each once, however often somebody asks.
        assert caplog.text.count("a delivery thread of this process has stopped: restart the bridge") == 1
        assert caplog.text.count("no answer from db:<secret>") == 1
