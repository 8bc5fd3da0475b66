"""Who may see the page: sign-in, its cookie, forms of other sites, and the headers of every answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from flask import Flask

from bridge.web.page.sign_in import FREE_TRIES, IDLE_SECONDS, SESSION_SECONDS
from tests.store.page.conftest import PASSWORD, Browser
from tests.support.intake import Intake
from tests.support.page import HTML

#: Every screen without a number in its URL.
SCREENS = ("/", "/events", "/jobs", "/routes", "/refused", "/audit", "/table", "/try", "/events/newer")


class TestClosed:
    def test_without_a_password_only_an_explanation_is_there(self, intake: Intake) -> None:
        client = intake.app().test_client()
        answer = client.get("/", headers=HTML)
        assert answer.status_code == 200
        assert "BRIDGE_ADMIN_PASSWORD" in answer.text
        for path in SCREENS[1:]:
            assert client.get(path, headers=HTML).status_code == 404
        assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize("environ", [{}, {"BRIDGE_ADMIN_PASSWORD": PASSWORD}])
    def test_a_load_balancer_gets_200(self, intake: Intake, environ: dict[str, str]) -> None:
        answer = intake.app(environ).test_client().get("/")
        assert (answer.status_code, answer.mimetype) == (200, "text/plain")


class TestSignIn:
    @pytest.mark.parametrize("path", SCREENS)
    def test_every_screen_needs_it(self, visitor: Browser, path: str) -> None:
        answer = visitor.get(path)
        assert answer.status_code == 303
        assert answer.location.startswith("/sign-in")

    def test_no_url_but_the_form_and_the_files_is_open(self, app: Flask, visitor: Browser) -> None:
        for rule in app.url_map.iter_rules():
            if not rule.endpoint.startswith("page.") or rule.endpoint in ("page.sign_in_form", "page.static"):
                continue
            path = re.sub("<id:[a-z_]+>", "1", rule.rule)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                answer = visitor.client.open(path, method=method, headers=HTML)
                # Without a session there is no token of a form either.
                is_refused = answer.status_code == 303 and answer.location.startswith("/sign-in")
                assert is_refused or (method == "POST" and answer.status_code == 400), (method, path)

    def test_the_password_opens_the_page_that_was_asked(self, visitor: Browser) -> None:
        wanted = visitor.get("/jobs?state=dead").location
        assert visitor.sign_in(path=wanted).location == "/jobs?state=dead"
        assert visitor.get("/jobs").status_code == 200

    @pytest.mark.parametrize(
        "target",
        ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx", ""],
    )
    def test_it_never_leads_to_another_host(self, visitor: Browser, target: str) -> None:
        data = {"csrf_token": visitor.token("/sign-in"), "password": PASSWORD}
        answer = visitor.client.post("/sign-in", query_string={"next": target}, data=data)
        assert answer.location == "/"

    def test_a_wrong_password_opens_nothing(self, visitor: Browser) -> None:
        answer = visitor.sign_in("wrong")
        assert answer.status_code == 403
        assert "The password is wrong" in answer.text
        assert visitor.get("/jobs").status_code == 303

    def test_many_wrong_ones_slow_down_that_client_alone(self, app: Flask, visitor: Browser) -> None:
        for _ in range(FREE_TRIES + 1):
            assert visitor.sign_in("wrong").status_code == 403
        answer = visitor.sign_in()
        assert answer.status_code == 429
        assert "Try again in" in answer.text
        other = Browser(app, app.test_client())
        other.client.environ_base["REMOTE_ADDR"] = "192.0.2.7"
        assert other.sign_in().status_code == 303

    def test_the_cookie_is_of_no_use_to_scripts_and_other_sites(self, visitor: Browser) -> None:
        cookie = visitor.sign_in().headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert PASSWORD not in cookie

    @pytest.mark.parametrize(
        ("environ", "headers", "is_secure"),
        [
            ({}, {}, False),
            ({"BRIDGE_PUBLIC_URL": "https://bridge.example.org"}, {}, True),
            ({"BRIDGE_TRUSTED_PROXIES": "1"}, {"X-Forwarded-Proto": "https"}, True),
            ({}, {"X-Forwarded-Proto": "https"}, False),
        ],
    )
    def test_the_cookie_is_secure_behind_tls(
        self, intake: Intake, environ: dict[str, str], headers: dict[str, str], is_secure: bool
    ) -> None:
        app = intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD, **environ})
        answer = app.test_client().get("/sign-in", headers={**HTML, **headers})
        assert ("Secure" in answer.headers["Set-Cookie"]) is is_secure

    @pytest.fixture
    def ahead(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Move the clock to some seconds after now."""
        now = time.time()
        return lambda by: monkeypatch.setattr("bridge.web.page.blueprint.time.time", lambda: now + by)

    def test_a_session_ends(self, browser: Browser, ahead: Callable[[float], None]) -> None:
        for by in range(0, SESSION_SECONDS, IDLE_SECONDS - 100):
            ahead(by)
            assert browser.get("/jobs").status_code == 200
        ahead(SESSION_SECONDS + 1)
        assert browser.get("/jobs").status_code == 303

    def test_a_session_without_a_request_ends(self, browser: Browser, ahead: Callable[[float], None]) -> None:
        ahead(IDLE_SECONDS - 100)
        with browser.get("/sign-in"):  # needs no session
            pass
        ahead(IDLE_SECONDS + 1)
        assert browser.get("/jobs").status_code == 303

    def test_a_copy_of_a_cookie_ends_soon_after_the_sign_out(
        self, app: Flask, browser: Browser, ahead: Callable[[float], None]
    ) -> None:
        cookie = browser.client.get_cookie("bridge")
        assert cookie is not None
        copied = Browser(app, app.test_client())
        copied.client.set_cookie("bridge", cookie.value)
        browser.post("/sign-out", {})
        ahead(IDLE_SECONDS + 1)
        assert copied.get("/jobs").status_code == 303

    def test_not_every_answer_sets_a_cookie(self, browser: Browser, ahead: Callable[[float], None]) -> None:
        browser.get("/jobs")
        ahead(30)
        assert "Set-Cookie" not in browser.get("/jobs").headers
        ahead(90)
        assert "Set-Cookie" in browser.get("/jobs").headers

    def test_another_password_ends_all_sessions(self, intake: Intake, browser: Browser) -> None:
        cookie = browser.client.get_cookie("bridge")
        assert cookie is not None
        other = intake.app({"BRIDGE_ADMIN_PASSWORD": "another-horse-battery"}).test_client()
        other.set_cookie("bridge", cookie.value)
        assert other.get("/jobs", headers=HTML).status_code == 303

    def test_signing_out(self, browser: Browser) -> None:
        assert browser.post("/sign-out", {}).status_code == 303
        assert browser.get("/jobs").status_code == 303

    def test_a_part_of_a_page_is_not_swapped_for_the_form(self, visitor: Browser) -> None:
        answer = visitor.client.get("/events", headers={"HX-Request": "true"})
        assert (answer.status_code, answer.headers["HX-Refresh"]) == (401, "true")


class TestForms:
    def test_a_stranger_sends_no_large_one(self, visitor: Browser) -> None:
        many = "&".join(f"{number}=1" for number in range(20_000))
        answer = visitor.client.post("/sign-in", data=many, content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 413

    @pytest.mark.parametrize("path", ["/change", "/change/1", "/pause", "/sign-out", "/try", "/build/1"])
    def test_one_of_another_site_changes_nothing(self, browser: Browser, path: str) -> None:
        answer = browser.client.post(
            path, data={"order": "pause", "kind": "route", "name": "x"}, headers=HTML
        )
        assert answer.status_code == 400
        assert "The form has expired" in answer.text

    def test_webhooks_need_no_token(self, browser: Browser) -> None:
        assert browser.client.post("/hooks/github", json={}).status_code == 401


@pytest.mark.parametrize("path", [*SCREENS, "/sign-in", "/events/7"])
def test_every_answer_forbids_scripts_of_others(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_files_may_be_stored_by_the_browser(visitor: Browser) -> None:
    text = visitor.get("/sign-in").text
    url = text.split('<script src="')[1].split('"')[0]
    assert "v=" in url
    with visitor.get(url) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
    assert visitor.get("/static/of-the-next-release.js").headers["Cache-Control"] == "no-store"
