"""The page for a client on one connection, without a browser's JavaScript."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from http.cookies import SimpleCookie
from urllib.parse import urlencode

HTML = {"Accept": "text/html"}


def token_of(text: str) -> str:
    """The token of the forms of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', text)
    assert found is not None, text
    return found[1]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: HTTPMessage
    text: str

    @property
    def location(self) -> str:
        return self.headers["Location"] or ""


@dataclass
class PageClient:
    """A person at the page: all requests go to the process that accepted the connection."""

    connection: HTTPConnection
    #: Those of the page; several clients may share them, as the tabs of a browser do.
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    def __post_init__(self) -> None:
        if self.connection.sock is None:
            self.connection.connect()
        # One that ends would be replaced without a word, perhaps at another process.
        self.connection.auto_open = 0

    def ask(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        cookies = "; ".join(f"{each.key}={each.value}" for each in self.cookies.values())
        self.connection.request(method, path, body, {**HTML, "Cookie": cookies, **(headers or {})})
        response = self.connection.getresponse()
        text = response.read().decode()
        for each in response.headers.get_all("Set-Cookie", ()):
            self.cookies.load(each)
        return Reply(response.status, response.headers, text)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def text(self, path: str) -> str:
        """The page at a path, which must be there."""
        reply = self.get(path)
        assert reply.status == 200, f"{path}: {reply.status}\n{reply.text}"
        return reply.text

    def post(self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Reply:
        """Send a form, which has its token."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.ask("POST", path, urlencode(form), sent)

    def sign_in(self, password: str, headers: Mapping[str, str] | None = None) -> Reply:
        form = {"csrf_token": token_of(self.get("/sign-in", headers).text), "password": password}
        return self.post("/sign-in", {**form, "name": "mona"}, headers)

    def close(self) -> None:
        self.connection.close()
