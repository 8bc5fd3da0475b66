"""The page over a real store, for a client without a browser's JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.intake import Intake
from tests.support.page import HTML, token_of

PASSWORD = "correct-horse-battery"

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - name: deploy main
    source: github
    event: push
    match: {payload.ref: refs/heads/main}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}", "${{ payload.repository.full_name }}"]
"""


class Tags(HTMLParser):
    """The tags of a document, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


@dataclass
class Browser:
    """A client that is signed in."""

    app: Flask
    client: FlaskClient

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, headers=HTML, **more)

    def text(self, path: str) -> str:
        """The page at a path, which must exist."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def token(self, path: str = "/try") -> str:
        return token_of(self.get(path).text)

    def post(self, path: str, data: Mapping[str, Any], **more: Any) -> TestResponse:
        return self.client.post(path, data={"csrf_token": self.token(), **data}, headers=HTML, **more)

    def sign_in(self, password: str = PASSWORD, name: str = "mona", path: str = "/sign-in") -> TestResponse:
        data = {"csrf_token": self.token("/sign-in"), "password": password, "name": name}
        return self.client.post(path, data=data, headers=HTML)


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


@pytest.fixture
def app(intake: Intake) -> Flask:
    return intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD})


@pytest.fixture
def visitor(app: Flask) -> Browser:
    """Not signed in."""
    return Browser(app, app.test_client())


@pytest.fixture
def browser(visitor: Browser) -> Browser:
    assert visitor.sign_in().status_code == 303
    return visitor
