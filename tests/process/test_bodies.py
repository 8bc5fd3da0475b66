"""The shapes of body that a source accepts: each type's declaration, and signed JSON sent as a form."""

from __future__ import annotations

import http.client
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import orjson
import pytest

from bridge.core.errors import Refusal
from bridge.sources.base.bodies import FORM_TYPE, JSON_TYPE, FieldsForm, JsonBody, JsonForm
from bridge.sources.base.source_type import SourceType
from tests.support.intake import VARIABLES, changed, count_rows, github_headers, sample, table
from tests.support.server import Server
from tests.unit.sources.test_slack import signed as slack_headers
from tests.unit.sources.test_sources import (
    AWS,
    SECRET,
    a_request,
    a_sample,
    a_source,
    each_sample,
    each_type,
    with_header,
)

#: What stands before JSON without making it other JSON, for one parser or another.
BLANKS = (b"", b" ", b"\n\t", b"\xef\xbb\xbf", b"\x00", b"\xfe\xff")


def form_of(name: str, text: bytes) -> bytes:
    return f"{name}={quote_plus(text)}".encode()


def accepts(source_type: SourceType, content: str, body: bytes, path: Path | None = None) -> bool:
    """Whether a source of this type accepts the body, signed as its sender would sign it."""
    source = a_source(source_type)
    request = a_request(source, path or a_sample(source_type))
    request = with_header(request.with_body(body), "Content-Type", content)
    request = AWS.prove(request, SECRET) if source_type.name == "sns" else source.sign(request)
    try:
        source.verify_head(request.with_body(b""))
        source.verify(request)
        source.read(request)
    except Refusal:
        return False
    return True


def json_form(source_type: SourceType) -> str | None:
    """The field in which this type's form holds JSON."""
    return next((body.field for body in source_type.bodies if isinstance(body, JsonForm)), None)


@each_sample
class TestDeclaration:
    """A type accepts the shapes that it declares, and no other shape."""

    def test_json(self, source_type: SourceType, path: Path) -> None:
        body = path.read_bytes()
        types = {
            name
            for shape in source_type.bodies
            if isinstance(shape, JsonBody)
            for name in shape.content_types
        }
        assert JSON_TYPE in types
        for content in (JSON_TYPE, "text/plain", "text/html", "multipart/form-data"):
            assert accepts(source_type, content, body, path) is (content in types), content

    def test_a_form_with_json_in_one_field(self, source_type: SourceType, path: Path) -> None:
        field, body = json_form(source_type), path.read_bytes()
        for name in ("payload", "data", "json", "Payload", ""):
            form = form_of(name, body)
            assert accepts(source_type, FORM_TYPE, form, path) is (name == field), name
            assert not accepts(source_type, JSON_TYPE, form, path)
            for other in (b"a=1", b"", form, form_of("payload", b"{}")):
                assert not accepts(source_type, FORM_TYPE, form + b"&" + other, path)
                assert not accepts(source_type, FORM_TYPE, other + b"&" + form, path)

    def test_signed_json_is_no_form(self, source_type: SourceType, path: Path) -> None:
        whole, field = orjson.loads(path.read_bytes()), json_form(source_type) or "payload"
        inside = form_of(field, path.read_bytes()).decode()
        for text in ("", f"&{inside}&", f"&{inside}"):
            body = orjson.dumps({**whole, "text": text})
            for blanks in BLANKS:
                assert not accepts(source_type, FORM_TYPE, blanks + body, path)


@each_type
def test_a_form_with_fields_of_its_own(source_type: SourceType) -> None:
    """Every required field must be there, and JSON beside them is no form."""
    declared = [shape for shape in source_type.bodies if isinstance(shape, FieldsForm)]
    for shape in declared:
        fields = dict.fromkeys(shape.required, "x")
        assert accepts(source_type, FORM_TYPE, urlencode(fields).encode())
        assert accepts(source_type, FORM_TYPE, urlencode({**fields, "new": "y"}).encode())
        assert not accepts(source_type, JSON_TYPE, urlencode(fields).encode())
        json = orjson.dumps({"text": "&" + urlencode(fields) + "&"})
        assert not accepts(source_type, FORM_TYPE, json)
        for name in shape.required:
            others = {other: "x" for other in shape.required if other != name}
            assert not accepts(source_type, FORM_TYPE, urlencode(others).encode())
        more = {f"field_{number}": "x" for number in range(shape.max_fields)}
        assert not accepts(source_type, FORM_TYPE, urlencode({**fields, **more}).encode())
    if not declared:
        assert not accepts(source_type, FORM_TYPE, b"command=%2Fdeploy&team_id=T1&user_id=U1")


TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  slack: {secret: "${{ env.TOKEN }}"}
routes:
  - {source: github, event: push, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.after }}"]}
  - {source: slack, event: slash_command, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bodies")
    config = folder / "routes.yml"
    config.write_text(table(TABLE), "utf-8")
    with Server(config, folder / "bridge.db", VARIABLES) as running:
        yield running


def post(server: Server, source: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status that a running server answers."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("POST", f"/hooks/{source}", body, dict(headers))
        return connection.getresponse().status


def rows(server: Server) -> tuple[int, int]:
    with closing(sqlite3.connect(server.database)) as connection:
        return count_rows(connection)


class TestRunningServer:
    """Somebody who may open an issue, or write a message, has the sender sign what they like inside JSON."""

    def test_an_issues_title_is_no_push(self, server: Server) -> None:
        issue = orjson.loads(sample("github/issues.opened.json"))
        evil = form_of("payload", sample("github/push.json")).decode()
        issue["issue"]["title"] = f"Crash &{evil}& on start"
        body, before = orjson.dumps(issue), rows(server)
        assert post(server, "github", body, github_headers(body, "issues", "as-json")) == 200
        assert rows(server) == (before[0] + 1, before[1])
        headers = {**github_headers(body, "push", "as-form"), "Content-Type": FORM_TYPE}
        assert post(server, "github", body, headers) == 400
        assert rows(server) == (before[0] + 1, before[1])

    @pytest.mark.parametrize(
        "evil",
        [
            "&command=/deploy&text=evil&",
            "&command=/deploy&text=evil&team_id=T1&channel_id=C1&user_id=U1&response_url=x&",
            "&" + form_of("payload", orjson.dumps({"type": "block_actions"})).decode() + "&",
        ],
    )
    def test_a_message_is_no_command(self, server: Server, evil: str) -> None:
        mention = orjson.loads(sample("slack/app_mention.json"))
        body = changed(sample("slack/app_mention.json"), event={**mention["event"], "text": f"hello {evil}"})
        before = rows(server)
        assert post(server, "slack", body, slack_headers(body, time.time(), FORM_TYPE)) == 400
        assert rows(server) == before

    def test_what_each_sender_sends_is_accepted(self, server: Server) -> None:
        before = rows(server)
        push = form_of("payload", sample("github/push.json"))
        headers = {**github_headers(push, "push", "true-form"), "Content-Type": FORM_TYPE}
        assert post(server, "github", push, headers) == 202
        command = urlencode(orjson.loads(sample("slack/slash_command.deploy.json"))).encode()
        assert post(server, "slack", command, slack_headers(command, time.time(), FORM_TYPE)) == 200
        assert rows(server) == (before[0] + 2, before[1] + 2)
