"""Debian's Chromium, driven by Playwright, in front of the real server and a stand-in TheEye."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bridge.demo.arguments import StandInTask
from tests.conftest import lacks
from tests.support.intake import sample
from tests.support.server import Server
from tests.support.tables import key_of, make_task, stand_in_task
from tests.support.theeye import StandIn

PASSWORD = "correct-horse-battery"
SECRET = "a-secret-of-the-hook"
DEPLOY, PAGE = make_task(1), make_task(2)

TABLE = f"""
theeye: {{customer: acme, url: THEEYE}}
sources:
  github: {{secret: "${{{{ env.GITHUB_SECRET }}}}"}}
tasks:
  deploy:
    id: {DEPLOY.id}
    secret_key: ${{{{ env.DEPLOY_KEY }}}}
    arguments: [repository, commit]
routes:
  - name: deploy main
    source: github
    event: push
    match: {{payload.ref: refs/heads/main}}
    task: deploy
    task_arguments:
      repository: ${{{{ payload.repository.FIELD }}}}
      commit: ${{{{ payload.after }}}}
"""

#: The sizes of a window: a desktop's and a phone's.
SIZES = {"desktop": (1280, 860), "phone": (400, 800)}


#: Three rounds of the page's own updates, milliseconds.
expect.set_options(timeout=15_000)


@dataclass
class Bridge:
    """A running bridge with its table."""

    server: Server
    config: Path
    theeye: StandIn

    @property
    def url(self) -> str:
        return self.server.url

    def use(self, field: str = "full_name") -> None:
        """Write the table, whose first argument is this field of the repository."""
        text = TABLE.replace("THEEYE", self.theeye.url).replace("FIELD", field)
        self.config.write_text(text)

    def push(self, event: str = "push", **fields: Any) -> int:
        """Send a push of GitHub with these fields; the number of its event."""
        body = orjson.dumps(orjson.loads(sample("github/push.json")) | fields)
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json", "X-GitHub-Event": event, "X-GitHub-Delivery": str(uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("POST", "/hooks/github", body, headers)
        answer = connection.getresponse()
        assert answer.status in (200, 202), answer.read()
        number: int = orjson.loads(answer.read())["event"]
        connection.close()
        return number


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    tasks: list[StandInTask] = [stand_in_task(DEPLOY, arguments=2), stand_in_task(PAGE, arguments=1)]
    with StandIn(["acme"], tasks) as theeye:
        environ = {
            "GITHUB_SECRET": SECRET, "DEPLOY_KEY": key_of(DEPLOY),
            "BRIDGE_ADMIN_PASSWORD": PASSWORD,
        }  # fmt: skip
        config = tmp_path / "table.yml"
        server = Server(config, tmp_path / "bridge.db", environ)
        running = Bridge(server, config, theeye)
        running.use()
        with server:
            yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        lacks("chromium")
    with sync_playwright() as playwright:
        # As root there is no sandbox.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def window(request: pytest.FixtureRequest, chromium: Browser, bridge: Bridge) -> Iterator[Page]:
    """A window in front of the bridge. What the page must never do fails the test at its end."""
    width, height = SIZES[request.param]
    context = chromium.new_context(
        viewport={"width": width, "height": height}, base_url=bridge.url, locale="en-GB"
    )
    page = context.new_page()
    faults: list[str] = []

    def note(fault: str, *, is_one: bool = True) -> None:
        if is_one:
            faults.append(fault)

    page.on("console", lambda said: note(said.text, is_one=said.type in ("error", "warning")))
    page.on("pageerror", lambda error: note(str(error)))
    page.on("request", lambda sent: note(sent.url, is_one=not sent.url.startswith(bridge.url)))
    page.on("response", lambda answer: note(f"{answer.status} {answer.url}", is_one=answer.status >= 500))
    page.set_default_timeout(15_000)
    yield page
    context.close()
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []


@pytest.fixture
def signed_in(window: Page) -> Page:
    sign_in(window)
    return window


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.goto("/")
    page.get_by_label("Password").fill(password)
    page.get_by_label("Your name").fill("mona")
    page.get_by_role("button", name="Sign in").click()
