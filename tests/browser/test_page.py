"""The page in a browser: as a person uses it, at the size of a desktop and of a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.browser.conftest import DEPLOY, SECRET, SIZES, Bridge, sign_in
from tests.conftest import lacks
from tests.support.tables import key_of, wait_until
from tests.support.terminal import Terminal

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"


def state_of(bridge: Bridge, job: int) -> JobState:
    outbox = Outbox(bridge.server.database_url, beside_a_server=True)
    try:
        return outbox.job(job).state
    finally:
        outbox.close()


def test_signing_in_and_out(window: Page) -> None:
    sign_in(window, "wrong")
    expect(window.get_by_role("alert")).to_have_text("The password is wrong.")
    sign_in(window)
    expect(window.get_by_role("heading", name="Overview")).to_be_visible()
    window.get_by_role("button", name="Sign out").click()
    expect(window.get_by_role("heading", name="Sign in")).to_be_visible()
    window.goto("/events")
    expect(window.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_event_arrives_without_a_reload(bridge: Bridge, signed_in: Page) -> None:
    expect(signed_in.get_by_text("Nothing needs a person.")).to_be_visible()
    card = signed_in.locator(".card", has_text="Events, last hour").locator(".n")
    expect(card).to_have_text("0")
    bridge.push(ref="refs/heads/main")
    expect(card).to_have_text("1")
    signed_in.goto("/events")
    bridge.push(ref="refs/heads/dev")
    # It is offered, and moves no row.
    new = signed_in.get_by_role("link", name="1 new")
    expect(new).to_be_visible()
    expect(signed_in.locator("tbody tr")).to_have_count(1)
    new.click()
    expect(signed_in.locator("tbody tr")).to_have_count(2)


def test_a_pause_stops_the_updates(bridge: Bridge, signed_in: Page) -> None:
    signed_in.get_by_role("button", name="Pause").click()
    bridge.push(ref="refs/heads/main")
    card = signed_in.locator(".card", has_text="Events, last hour").locator(".n")
    signed_in.wait_for_timeout(6000)
    expect(card).to_have_text("0")
    signed_in.get_by_role("button", name="Resume").click()
    expect(card).to_have_text("1")


def test_why_a_route_did_not_match(bridge: Bridge, signed_in: Page) -> None:
    bridge.push(ref="refs/heads/dev")
    signed_in.goto("/events")
    expect(signed_in.locator("tbody tr")).to_contain_text("refs/heads/dev")
    signed_in.get_by_role("link", name="push").click()
    failed = signed_in.locator("tr.failed")
    expect(failed).to_contain_text("payload.ref")
    expect(failed).to_contain_text('expected "refs/heads/main"')
    expect(failed).to_contain_text('is "refs/heads/dev"')


def test_a_route_is_built_by_clicking(bridge: Bridge, signed_in: Page, tmp_path: Path) -> None:
    bridge.push(ref="refs/heads/dev")
    number = bridge.push(ref="refs/heads/other")
    signed_in.goto(f"/events/{number}")
    signed_in.get_by_role("link", name="Build a route").click()
    signed_in.locator('[data-path="payload.ref"]').click()
    condition = signed_in.get_by_label("payload.ref", exact=True)
    expect(condition).to_have_value("refs/heads/other")
    expect(signed_in.locator("#verdict")).to_contain_text("1 match, 1 do not")
    condition.fill("refs/heads/*")
    condition.blur()
    expect(signed_in.locator("#verdict")).to_contain_text("2 match, 0 do not")
    signed_in.get_by_label("argument", exact=True).check()
    signed_in.locator('[data-path="payload.repository.full_name"]').click()
    expect(signed_in.get_by_label("1 repository")).to_have_value("payload.repository.full_name")
    signed_in.locator('[data-path="payload.after"]').click()
    expect(signed_in.get_by_label("2 commit")).to_have_value("payload.after")
    expect(signed_in.get_by_text("This event would send")).to_be_visible()
    written = signed_in.locator("#yaml").inner_text()
    # It passes `check` and matches, in the table that it was built for.
    table = bridge.config.read_text() + "\n" + written + "\n"
    (tmp_path / "terminal").mkdir()
    terminal = Terminal(tmp_path / "terminal")
    (tmp_path / "built.yml").write_text(table)
    environ = {"GITHUB_SECRET": SECRET, "DEPLOY_KEY": key_of(DEPLOY)}
    result = terminal.run("check", str(tmp_path / "built.yml"), "--env", **environ)
    assert result.exit_code == 0, result.output
    bridge.config.write_text(table)
    wait_until(lambda: "reload" in bridge.server.log, "the reload")
    signed_in.goto(f"/events/{number}")
    expect(signed_in.locator("details.route").first).to_contain_text("1 job")


def test_the_route_is_in_sight_of_the_fields(bridge: Bridge, signed_in: Page) -> None:
    signed_in.goto(f"/build/{bridge.push()}")
    last = signed_in.locator(".tree .field").last
    last.scroll_into_view_if_needed()
    last.click()
    expect(signed_in.locator("#builder li").first).to_be_in_viewport()


def test_every_screen_is_a_tap_away(signed_in: Page) -> None:
    for link in signed_in.get_by_role("navigation", name="Main").get_by_role("link").all():
        box = link.bounding_box()
        assert box is not None and box["height"] >= 24
        expect(link).to_be_in_viewport(ratio=1)


def test_a_dead_job_is_mended_replayed_and_accepted(bridge: Bridge, signed_in: Page) -> None:
    bridge.use("missing_field")
    wait_until(lambda: "reload" in bridge.server.log, "the reload")
    bridge.push(ref="refs/heads/main")
    signed_in.goto("/")
    signed_in.get_by_role("link", name=re.compile("1 dead")).click()
    signed_in.locator("a.row-link").click()
    expect(signed_in.get_by_text("payload.repository.missing_field is missing").first).to_be_visible()
    bridge.use()
    wait_until(lambda: bridge.server.log.count("the routing table is reloaded") == 2, "the second reload")
    signed_in.get_by_role("link", name="Retry").click()
    signed_in.get_by_label("Reason").fill("the field is full_name")
    signed_in.get_by_role("button", name="Retry").click()
    expect(signed_in.get_by_role("status")).to_contain_text("1 of 1 done; 1 changed")
    wait_until(lambda: state_of(bridge, 1) is JobState.ACCEPTED, "the delivery")
    signed_in.goto("/jobs/1")
    expect(signed_in.locator("h1 + .state")).to_contain_text("accepted")
    expect(signed_in.get_by_text("the field is full_name")).to_be_visible()


def test_many_jobs_are_retried_with_progress(bridge: Bridge, signed_in: Page) -> None:
    bridge.use("missing_field")
    wait_until(lambda: "reload" in bridge.server.log, "the reload")
    for _ in range(60):
        bridge.push(ref="refs/heads/main")
    bridge.use()
    wait_until(lambda: bridge.server.log.count("the routing table is reloaded") == 2, "the second reload")
    signed_in.goto("/jobs?state=dead")
    signed_in.get_by_role("link", name="Retry these").click()
    expect(signed_in.get_by_role("heading", name="Retry: 60 jobs")).to_be_visible()
    signed_in.get_by_label("Reason").fill("mended")
    signed_in.get_by_role("button", name="Retry").click()
    # More than one part: the browser asks for the next by itself.
    expect(signed_in.get_by_role("status")).to_have_text("60 of 60 done; 60 changed.")
    signed_in.goto("/audit")
    expect(signed_in.locator("tbody tr")).to_contain_text("60 of 60")
    expect(signed_in.locator("tbody tr")).to_contain_text("mona")


def test_keys(bridge: Bridge, signed_in: Page) -> None:
    for _ in range(3):
        bridge.push()
    signed_in.goto("/events")
    signed_in.keyboard.press("/")
    expect(signed_in.locator("#search")).to_be_focused()
    signed_in.locator("h1").click()
    signed_in.keyboard.press("j")
    signed_in.keyboard.press("j")
    expect(signed_in.locator("tr.cursor a.row-link")).to_be_focused()
    signed_in.keyboard.press("k")
    signed_in.keyboard.press("Enter")
    expect(signed_in).to_have_url(re.compile(r"/events/3$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_serious_fault_of_accessibility(size: str, scheme: str, chromium: Browser, bridge: Bridge) -> None:
    if not AXE.exists():
        lacks("axe")
    bridge.push(ref="refs/heads/main", text="<script>alert(1)</script>")
    bridge.push(ref="refs/heads/dev")
    width, height = SIZES[size]
    # The policy of the page forbids the script of the tool.
    context = chromium.new_context(
        viewport={"width": width, "height": height}, base_url=bridge.url, bypass_csp=True,
        color_scheme="dark" if scheme == "dark" else "light",
    )  # fmt: skip
    page = context.new_page()
    sign_in(page)
    paths = ["/", "/events", "/events/1", "/events/2", "/jobs", "/jobs/1", "/routes", "/refused", "/audit"]
    for path in [*paths, "/table", "/try?event_id=1", "/build/1", "/change?order=replay&id=1"]:
        page.goto(path)
        page.add_script_tag(path=AXE)
        result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]][:3])
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


def test_it_works_without_javascript(chromium: Browser, bridge: Bridge) -> None:
    bridge.push(ref="refs/heads/main")
    context = chromium.new_context(java_script_enabled=False, base_url=bridge.url)
    page = context.new_page()
    sign_in(page)
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_role("searchbox").fill("payload.ref:refs/heads/main")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="push").click()
    page.get_by_role("link", name="Replay").click()
    page.get_by_label("Reason").fill("again")
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("status")).to_contain_text("1 of 1 done; 1 changed")
    context.close()
