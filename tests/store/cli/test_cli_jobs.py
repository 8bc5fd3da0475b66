"""The commands for many: jobs retry, cancel and resolve, events replay, pause and resume; and their lists."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.selection import Selection
from bridge.core.event import JSON
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Task
from bridge.outbox.pauses import Pausable
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.store import Outbox
from bridge.routing import routing_table as table
from bridge.routing.route import item_key
from tests.support.tables import dead_job, make_event, make_job, make_task, make_webhook
from tests.support.terminal import PUSH, Terminal

DEPLOY, PAGE = make_task(1, name="deploy"), make_task(2, name="page")

TABLE = f"""
theeye: {{customer: acme}}
sources:
  github: {{secret: "${{{{ env.HOOK_SECRET }}}}"}}
  sentry: {{secret: "${{{{ env.HOOK_SECRET }}}}"}}
tasks:
  deploy: {{id: {DEPLOY.id}, secret_key: "${{{{ env.TASK_KEY }}}}"}}
  page: {{id: {PAGE.id}, secret_key: "${{{{ env.TASK_KEY }}}}"}}
routes:
  - name: deploy main
    source: github
    event: push
    match: {{payload.ref: refs/heads/main}}
    task: deploy
    task_arguments: ["${{{{ payload.after }}}}"]
  - name: page
    source: github
    event: push
    loop: payload.pages
    task: page
    task_arguments: ["${{{{ item.text }}}}"]
  - name: any of Sentry's
    source: sentry
    task: page
    task_arguments: []
"""

HOUR = 3600.0

UNKNOWN = Decision(JobState.UNKNOWN, None, "no answer")

_names = count()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, TABLE)


def job(task: Task = DEPLOY, route: str = "deploy main", **more: Any) -> NewJob:
    return make_job("abc", task=task, route=route, **more)


def dead(route: str = "deploy main", **more: Any) -> NewJob:
    return dead_job("argument 1: payload.after is missing", route=route, **more)


def store(
    terminal: Terminal, *jobs: NewJob, ago: float = 0.0, payload: JSON = PUSH, **of_event: Any
) -> list[int]:
    """The ids of new jobs of one event, which came so many seconds ago."""
    with closing(Outbox(terminal.database_url, clock=lambda: time.time() - ago)) as outbox:
        came = {"delivery_id": f"delivery {next(_names)}", "received_at": time.time() - ago}
        event = make_event(payload, **came, **of_event)
        return [made.id for made in outbox.store(make_webhook(*jobs, event=event)).jobs]


def store_unknown(terminal: Terminal, number: int, **more: Any) -> list[int]:
    """The ids of so many jobs whose answers were lost."""
    made = []
    for _ in range(number):
        made += store(terminal, job(**more))
        terminal.attempt(UNKNOWN, Outcome.UNKNOWN)
    return made


def states(terminal: Terminal, job_ids: list[int]) -> list[JobState]:
    return [terminal.job(job_id).state for job_id in job_ids]


def assert_matches(pattern: str, found: str) -> None:
    assert re.search(pattern, found), found


WAITING, DEAD, CANCELED = JobState.WAITING, JobState.DEAD, JobState.CANCELED


class TestWhich:
    """By their numbers, or by a filter that says how many and asks."""

    def test_one_by_its_number(self, terminal: Terminal) -> None:
        (made,) = store(terminal, job())
        result = terminal.run("jobs", "cancel", str(made))

        assert (result.exit_code, result.output) == (0, f"job {made} is canceled\n")
        assert states(terminal, [made]) == [CANCELED]

    def test_several_in_the_order_in_which_they_are_named(self, terminal: Terminal) -> None:
        made = store_unknown(terminal, 3)
        result = terminal.run("jobs", "resolve", "3", "1", "2", "--again")

        assert result.exit_code == 0
        assert result.output.splitlines()[:3] == [
            f"job {number} is waiting to be sent" for number in (3, 1, 2)
        ]
        assert states(terminal, made) == [WAITING] * 3

    @pytest.mark.parametrize("which", [("1", "2", "3"), ("--state", "waiting", "--yes")])
    def test_to_cancel_them_lets_none_of_them_go_that_another_held_back(
        self, terminal: Terminal, which: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = [store(terminal, job(group="g"))[0] for _ in range(3)]
        free: list[list[int]] = []
        cancel = Outbox.cancel

        def watched(outbox: Outbox, job_id: int, *states: tuple[JobState, ...], entry: int) -> None:
            cancel(outbox, job_id, *states, entry=entry)
            free.append(
                [one for one in made if not outbox.job(one).blocked and outbox.job(one).state is WAITING]
            )

        monkeypatch.setattr(Outbox, "cancel", watched)
        assert terminal.run("jobs", "cancel", *which).exit_code == 0
        assert free == [[made[0]], [made[0]], []]

    @pytest.mark.parametrize("state", ["unknown", "waiting"])
    def test_what_is_in_another_state_by_the_deed_is_left_alone(
        self, terminal: Terminal, state: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the person reads the question."""
        made = store_unknown(terminal, 1) if state == "unknown" else store(terminal, job())

        def meanwhile(*_: object) -> None:
            if state == "unknown":
                terminal.run("jobs", "resolve", "1", "--again")
            else:
                terminal.attempt(UNKNOWN, Outcome.UNKNOWN)

        monkeypatch.setattr(Selection, "confirm", meanwhile)
        result = terminal.run("jobs", "cancel", "--state", state)
        now = WAITING if state == "unknown" else JobState.UNKNOWN
        assert (result.exit_code, result.output) == (1, f"job 1 is {now}, expected {state}\n")
        assert states(terminal, made) == [now]

    def test_one_that_is_named_twice_is_one(self, terminal: Terminal) -> None:
        store(terminal, job())
        result = terminal.run("jobs", "cancel", "1", "1")

        assert (result.exit_code, result.output) == (0, "job 1 is canceled\n")

    def test_all_in_a_state(self, terminal: Terminal) -> None:
        made = [*store(terminal, dead()), *store(terminal, job()), *store(terminal, dead())]
        result = terminal.run("jobs", "cancel", "--state", "dead", stdin="y\n")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "2 dead jobs: cancel? [y/N]: y", "job 3 is canceled", "job 1 is canceled", "is canceled: 2",
        ]  # fmt: skip
        assert states(terminal, made) == [CANCELED, WAITING, CANCELED]

    @pytest.mark.parametrize("stdin", ["n\n", "\n", ""])
    def test_without_a_yes_nothing_is_done(self, terminal: Terminal, stdin: str) -> None:
        made = store(terminal, dead())
        result = terminal.run("jobs", "cancel", "--state", "dead", stdin=stdin)

        assert result.exit_code == 1
        assert result.stdout.startswith("1 dead job: cancel? [y/N]: ")
        assert "Aborted!" in result.stderr
        assert states(terminal, made) == [DEAD]

    def test_with_yes_nothing_is_asked(self, terminal: Terminal) -> None:
        made = store(terminal, dead())
        result = terminal.run("jobs", "cancel", "--state", "dead", "--yes")

        assert (result.exit_code, result.output) == (0, "1 dead job\njob 1 is canceled\n")
        assert states(terminal, made) == [CANCELED]

    def test_of_a_route_those_that_wait_where_no_state_is_said(self, terminal: Terminal) -> None:
        made = store(terminal, job(), dead("page"), job(PAGE, "page", item_key="1"))
        result = terminal.run("jobs", "cancel", "--route", "page", "--yes")

        assert result.output.startswith("1 waiting job\n")
        assert states(terminal, made) == [WAITING, DEAD, CANCELED]

    def test_that_came_within_a_time(self, terminal: Terminal) -> None:
        made = [store(terminal, job(), ago=ago)[0] for ago in (3 * HOUR, 1 * HOUR, 0.0)]
        result = terminal.run("jobs", "cancel", "--since", "2h", "--yes")

        assert result.output.startswith("2 waiting jobs\n")
        assert states(terminal, made) == [WAITING, CANCELED, CANCELED]

    def test_dead_ones_by_when_they_died(self, terminal: Terminal) -> None:
        """One that came long ago and was tried for hours died only now."""
        (made,) = store(terminal, job(), ago=30 * HOUR)
        terminal.attempt(Decision(DEAD, None, "gave up after 86400 s: 503"), Outcome.UNAVAILABLE)
        store(terminal, dead(), ago=3 * HOUR)

        assert terminal.run("jobs", "retry", "--since", "2h", "--yes").output.startswith("1 dead job\n")
        assert states(terminal, [made]) == [WAITING]

    def test_that_all_of_the_filters_let_through(self, terminal: Terminal) -> None:
        made = [
            *store(terminal, dead(), ago=3 * HOUR),
            *store(terminal, dead(), dead("page"), job(item_key="1")),
        ]
        filters = ("--state", "dead", "--route", "deploy main", "--since", "2h")
        result = terminal.run("jobs", "cancel", *filters, "--yes")

        assert result.output == "1 dead job\njob 2 is canceled\n"
        assert states(terminal, made) == [DEAD, CANCELED, DEAD, WAITING]

    @pytest.mark.parametrize(
        "filters", [("--state", "unknown"), ("--route", "page"), ("--since", "1s", "--yes")]
    )
    def test_none_is_said_and_not_asked_about(self, terminal: Terminal, filters: tuple[str, ...]) -> None:
        made = store(terminal, job(), ago=HOUR)
        result = terminal.run("jobs", "cancel", *filters)

        state = "unknown" if "--state" in filters else "waiting"
        assert (result.exit_code, result.output) == (0, f"0 {state} jobs\n")
        assert states(terminal, made) == [WAITING]

    @pytest.mark.parametrize(
        "command",
        [("cancel", "--yes"), ("retry", "--yes"), ("resolve", "--sent"), ("list",), ("list", "--json")],
    )
    def test_a_route_that_is_nowhere_is_said(self, terminal: Terminal, command: tuple[str, ...]) -> None:
        """None dead of it would read as all well."""
        store(terminal, job(route="an old one"))
        result = terminal.run("jobs", *command, "--route", "deploy mian")

        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            "no route is named 'deploy mian'; known: an old one, any of Sentry's, deploy main, page; "
            "did you mean deploy main?" in " ".join(result.stderr.split())
        )

    @pytest.mark.parametrize("broken", [False, True])
    def test_one_of_old_jobs_alone_is_somewhere(self, terminal: Terminal, broken: bool) -> None:
        store(terminal, job(route="an old one"))
        if broken:
            terminal.config.write_text("routes: [")
        result = terminal.run("jobs", "cancel", "--state", "dead", "--route", "an old one")

        assert (result.exit_code, result.output) == (0, "0 dead jobs\n")

    def test_that_of_on_dead_is_one_where_the_table_has_it(self, terminal: Terminal) -> None:
        assert terminal.run("jobs", "list", "--route", "on_dead").exit_code == 2
        with terminal.config.open("a") as config:
            config.write("on_dead: {task: page, task_arguments: []}\n")
        assert terminal.run("jobs", "list", "--route", "on_dead").stdout == "no jobs\n"

    @pytest.mark.parametrize(
        "which",
        [
            (),
            ("--yes",),
            ("1", "--since", "2h"),
            ("1", "--route", "page"),
            ("1", "2", "--since", "2h", "--yes"),
        ],
    )
    @pytest.mark.parametrize(
        "command",
        [("jobs", "cancel"), ("jobs", "retry"), ("jobs", "resolve", "--sent"), ("events", "replay")],
    )
    def test_numbers_and_filters_exclude_each_other_and_one_is_needed(
        self, terminal: Terminal, command: tuple[str, ...], which: tuple[str, ...]
    ) -> None:
        if command[0] == "events":
            which = tuple({"--route": "--source", "page": "github"}.get(each, each) for each in which)
        made = store(terminal, job())
        result = terminal.run(*command, *which)

        assert result.exit_code == 2
        assert "; a filter is an option such as --since 2h" in result.output
        assert states(terminal, made) == [WAITING]

    @pytest.mark.parametrize("since", ["2", "2w", "-1h", "", "0h", "yesterday"])
    @pytest.mark.parametrize(
        "command", [("jobs", "cancel"), ("events", "replay"), ("jobs", "list"), ("events", "list")]
    )
    def test_what_is_no_time_is_refused(
        self, terminal: Terminal, command: tuple[str, ...], since: str
    ) -> None:
        result = terminal.run(*command, f"--since={since}")

        assert result.exit_code == 2
        number = "a number above 0" if since == "0h" else "a number"
        form = f"a duration is {number} and s, m, h or d, such as 30s, 10m, 24h, 7d"
        assert f"Invalid value for '--since': {since!r}: {form}" in result.output

    @pytest.mark.parametrize(
        ("command", "states"),
        [
            (("cancel",), "'waiting', 'dead', 'unknown'"),
            (("retry",), "'dead'"),
            (("resolve", "--sent"), "'unknown'"),
        ],
    )
    def test_a_state_that_it_does_not_take_is_refused(
        self, terminal: Terminal, command: tuple[str, ...], states: str
    ) -> None:
        result = terminal.run("jobs", *command, "--state", "accepted")

        assert result.exit_code == 2
        assert f"'accepted' is not {'one of ' if ',' in states else ''}{states}" in result.output


class TestWhatCameOfThem:
    def test_what_is_refused_is_said_and_the_rest_is_done(self, terminal: Terminal) -> None:
        made = [store(terminal, new)[0] for new in (job(), job(), dead())]
        terminal.attempt(Decision(JobState.ACCEPTED, None, None), Outcome.ACCEPTED)
        result = terminal.run("jobs", "cancel", "1", "2", "99", "3")

        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            "job 3 is canceled", "job 2 is canceled", "not changed: 2, is canceled: 2",
        ]  # fmt: skip
        assert result.stderr.splitlines() == [
            "there is no job 99", "job 1 is accepted, expected waiting or dead or unknown",
        ]  # fmt: skip
        assert states(terminal, made) == [JobState.ACCEPTED, CANCELED, CANCELED]

    def test_of_one_alone_there_is_nothing_to_count(self, terminal: Terminal) -> None:
        result = terminal.run("jobs", "cancel", "7")
        assert (result.exit_code, result.output) == (1, "there is no job 7\n")


class TestRetry:
    def test_the_dead_ones_of_a_route(self, terminal: Terminal) -> None:
        made = [*store(terminal, dead(), ago=HOUR), *store(terminal, dead()), *store(terminal, dead("page"))]
        result = terminal.run("jobs", "retry", "--route", "deploy main", stdin="y\n")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "2 dead jobs: retry? [y/N]: y",
            "job 1 is waiting to be sent", "job 2 is waiting to be sent", "is waiting to be sent: 2",
        ]  # fmt: skip
        assert states(terminal, made) == [WAITING, WAITING, DEAD]
        assert terminal.job(made[0]).arguments == ("abc",)

    def test_what_cannot_be_built_today_stays_dead(self, terminal: Terminal) -> None:
        pages = {**PUSH, "pages": [{}]}
        made = [
            *store(terminal, dead()),
            *store(terminal, dead("a route that is gone")),
            *store(terminal, dead("page", item_key=item_key({}), item_index=0), payload=pages),
        ]
        result = terminal.run("jobs", "retry", "--since", "2h", "--yes")

        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            "3 dead jobs", "job 1 is waiting to be sent", "is waiting to be sent: 1, stays dead: 2",
        ]  # fmt: skip
        gone, missing = result.stderr.splitlines()
        assert gone == (
            "job 2 stays dead: argument 1: payload.after is missing; "
            "not retried: its route was removed or no longer matches"
        )
        assert missing.startswith("job 3 stays dead: argument 1: item.text is missing")
        assert states(terminal, made) == [WAITING, DEAD, DEAD]

    def test_an_event_of_which_the_table_makes_too_much_stops_no_other(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table, "MAX_JOBS", 2)
        too_many = {**PUSH, "pages": [{"text": "a"}, {"text": "b"}]}
        page = dead("page", item_key=item_key({"text": "a"}), item_index=0)
        made = [*store(terminal, page, payload=too_many), *store(terminal, dead())]
        result = terminal.run("jobs", "retry", "--since", "2h", "--yes")

        assert result.exit_code == 1
        assert result.stderr == "job 1 stays dead: the event creates more than 2 jobs\n"
        assert result.stdout.splitlines()[1:] == [
            "job 2 is waiting to be sent",
            "stays dead: 1, is waiting to be sent: 1",
        ]
        assert states(terminal, made) == [DEAD, WAITING]

    def test_the_one_of_a_whole_route_gives_way_to_those_of_its_items(self, terminal: Terminal) -> None:
        pages = {**PUSH, "pages": [{"text": "a"}, {"text": "b"}]}
        there = make_job("a", task=PAGE, route="page", item_key=item_key({"text": "a"}), item_index=0)
        made = store(terminal, dead("page"), there, payload=pages)
        result = terminal.run("jobs", "retry", str(made[0]))

        reason = "replaced: the route now created one job for each item"
        assert (result.exit_code, result.output) == (0, f"job 1 is skipped: {reason}\n")
        jobs = [terminal.job(number) for number in (1, 2, 3)]
        assert [(job.state, job.arguments) for job in jobs] == [
            (JobState.SKIPPED, None), (WAITING, ("a",)), (WAITING, ("b",)),
        ]  # fmt: skip

    def test_the_one_of_a_whole_route_that_is_over_its_budget_again(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table, "MAX_STEPS", 10)
        pages = {**PUSH, "pages": [{"text": "a"}]}
        store(terminal, dead("page"), payload=pages)
        result = terminal.run("jobs", "retry", "1")

        assert result.exit_code == 1
        assert result.stderr.startswith("job 1 stays dead: the routes need more than 10 steps")

    def test_one_that_a_newer_has_replaced_says_so(self, terminal: Terminal) -> None:
        text = TABLE.replace(
            "    task: deploy\n", "    task: deploy\n    concurrency: {group: g, latest: true}\n"
        )
        terminal.config.write_text(text)
        store(terminal, dead(), ago=HOUR)
        store(terminal, job(group="g", latest=True))
        result = terminal.run("jobs", "retry", "1")

        assert (result.exit_code, result.output) == (1, "job 1 is skipped: superseded by job 2\n")


class TestResolve:
    def test_that_theeye_has_them(self, terminal: Terminal) -> None:
        made = store_unknown(terminal, 2)
        result = terminal.run("jobs", "resolve", "--sent", "--state", "unknown", stdin="y\n")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "2 unknown jobs: mark as accepted? [y/N]: y",
            "job 1 is accepted", "job 2 is accepted", "is accepted: 2",
        ]  # fmt: skip
        assert states(terminal, made) == [JobState.ACCEPTED, JobState.ACCEPTED]

    def test_that_they_are_to_be_sent_again(self, terminal: Terminal) -> None:
        made = store_unknown(terminal, 1)
        result = terminal.run("jobs", "resolve", "--again", "--route", "deploy main", stdin="y\n")

        assert result.output == "1 unknown job: send again? [y/N]: y\njob 1 is waiting to be sent\n"
        assert states(terminal, made) == [WAITING]

    def test_one_that_a_newer_replaces_is_not_sent_again_and_says_so(self, terminal: Terminal) -> None:
        made = store_unknown(terminal, 1, group="g", latest=True)
        made += store(terminal, job(group="g", latest=True))
        result = terminal.run("jobs", "resolve", "--again", "1")

        assert (result.exit_code, result.output) == (1, "job 1 is skipped: superseded by job 2\n")
        assert states(terminal, made) == [JobState.SKIPPED, WAITING]

    def test_one_of_both_must_be_said(self, terminal: Terminal) -> None:
        made = store_unknown(terminal, 1)
        result = terminal.run("jobs", "resolve", "1")

        assert result.exit_code == 2
        assert "add --sent if TheEye has the jobs, or --again if it does not" in result.output
        assert states(terminal, made) == [JobState.UNKNOWN]


class TestReplay:
    def test_makes_the_jobs_again(self, terminal: Terminal) -> None:
        store(terminal, job())
        result = terminal.run("events", "replay", "1")

        assert (result.exit_code, result.stdout) == (0, "event 1: jobs 2 (deploy main: waiting)\n")
        again = terminal.job(2)
        assert (again.event_id, again.route, again.arguments) == (1, "deploy main", ("abc",))

    def test_by_todays_table(self, terminal: Terminal) -> None:
        payload = {**PUSH, "pages": [{"text": "a"}, {"txt": "b"}]}
        store(terminal, job(), payload=payload)
        text = terminal.config.read_text()
        terminal.config.write_text(text.replace("payload.ref: refs/heads/main", "payload.ref: other"))
        result = terminal.run("events", "replay", "1")

        assert result.stdout == "event 1: jobs 2 (page: waiting), 3 (page: dead)\n"
        assert result.exit_code == 0

    def test_one_that_makes_none(self, terminal: Terminal) -> None:
        store(terminal, payload={**PUSH, "ref": "refs/heads/dev", "pages": []})
        result = terminal.run("events", "replay", "1")

        assert (result.exit_code, result.output) == (0, "event 1: no jobs\n")

    def test_what_went_wrong_in_a_loop_is_said_beside(self, terminal: Terminal) -> None:
        store(terminal, payload={**PUSH, "pages": "none"})
        result = terminal.run("events", "replay", "1")

        assert (result.exit_code, result.stdout) == (0, "event 1: jobs 1 (deploy main: waiting)\n")
        assert result.stderr == "event 1: route 'page': loop: payload.pages is text, expected a list\n"

    @pytest.mark.parametrize(
        ("source", "event", "action"), [("github", "ping", None), ("sentry", "installation", "created")]
    )
    def test_a_handshake_makes_none(
        self, terminal: Terminal, source: str, event: str, action: str | None
    ) -> None:
        """No route is asked about it when it comes, so none is asked now."""
        store(terminal, source=source, event=event, action=action)
        result = terminal.run("events", "replay", "1")

        name = event if action is None else f"{event}.{action}"
        said = f"event 1: {name} is a test or confirmation of the sender: no jobs\n"
        assert (result.exit_code, result.output) == (0, said)
        assert terminal.run("jobs", "list").stdout == "no jobs\n"

    def test_those_of_a_source_within_a_time(self, terminal: Terminal) -> None:
        store(terminal, ago=3 * HOUR)
        store(terminal, payload={**PUSH, "pages": []})
        store(terminal, source="sentry", event="issue")
        store(terminal, payload={**PUSH, "pages": []})
        result = terminal.run("events", "replay", "--source", "github", "--since", "2h", stdin="y\n")

        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "2 events: replay? [y/N]: y",
            "event 2: jobs 1 (deploy main: waiting)",
            "event 4: jobs 2 (deploy main: waiting)",
        ]

    def test_without_a_yes_none_is_replayed(self, terminal: Terminal) -> None:
        store(terminal)
        result = terminal.run("events", "replay", "--source", "github", stdin="n\n")

        assert result.exit_code == 1
        assert "1 event: replay? [y/N]: n\n" in result.output
        assert terminal.run("jobs", "list").stdout == "no jobs\n"

    def test_with_yes_nothing_is_asked(self, terminal: Terminal) -> None:
        assert terminal.run("events", "replay", "--since", "2h", "--yes").output == "0 events\n"

    def test_what_cannot_be_stops_no_other(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(table, "MAX_JOBS", 1)
        store(terminal, source="gone")
        store(terminal, payload={**PUSH, "pages": [{"text": "a"}, {"text": "b"}]})
        store(terminal, payload={**PUSH, "pages": []})
        result = terminal.run("events", "replay", "1", "99", "2", "3")

        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            "event 1: the table has no source 'gone'",
            "event 99: there is no event 99",
            "event 2: route 'page': job 2 is dead: the event creates more than 1 jobs "
            f"({terminal.config}:16:5)",
        ]
        assert result.stdout.splitlines() == [
            "event 2: jobs 1 (deploy main: waiting), 2 (page: dead)",
            "event 3: jobs 3 (deploy main: waiting)",
        ]


SINCE = r"has been paused since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: its jobs wait for `resume`"


class TestPause:
    @staticmethod
    def paused(terminal: Terminal) -> list[tuple[str, str]]:
        with closing(Outbox(terminal.database_url)) as outbox:
            return [(each.kind, each.name) for each in outbox.paused()]

    @staticmethod
    def pause(terminal: Terminal, kind: Pausable, name: str) -> None:
        with closing(Outbox(terminal.database_url)) as outbox:
            outbox.pause(kind, name)

    @pytest.mark.parametrize(
        ("named", "said", "kind", "name"),
        [
            (("deploy",), "task deploy", "task", DEPLOY.id),
            ((DEPLOY.id,), f"task {DEPLOY.id}", "task", DEPLOY.id),
            (("deploy main",), "route deploy main", "route", "deploy main"),
            (("page", "--task"), "task page", "task", PAGE.id),
            (("--route", "page"), "route page", "route", "page"),
            ((PAGE.id,), f"task {PAGE.id}", "task", PAGE.id),
        ],
    )
    def test_a_task_by_its_name_or_id_or_a_route(
        self, terminal: Terminal, named: tuple[str, ...], said: str, kind: str, name: str
    ) -> None:
        result = terminal.run("pause", *named)
        assert result.exit_code == 0
        assert result.output.startswith(f"{said} is paused: its jobs wait")
        assert self.paused(terminal) == [(kind, name)]

        assert terminal.run("resume", *named).output == f"{said} is resumed\n"
        assert self.paused(terminal) == []

    def test_twice_is_said(self, terminal: Terminal) -> None:
        terminal.run("pause", "deploy")
        result = terminal.run("pause", DEPLOY.id)

        assert (result.exit_code, result.output) == (0, f"task {DEPLOY.id} was paused already\n")

    def test_what_is_not_paused_cannot_be_resumed(self, terminal: Terminal) -> None:
        result = terminal.run("resume", "deploy")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "task deploy is not paused\n"

    @pytest.mark.parametrize("command", ["pause", "resume"])
    def test_a_name_of_both_asks_which(self, terminal: Terminal, command: str) -> None:
        result = terminal.run(command, "page")

        assert result.exit_code == 2
        assert "both a task and a route are named page; add --task or --route" in result.output
        assert self.paused(terminal) == []

    @pytest.mark.parametrize("command", ["pause", "resume"])
    @pytest.mark.parametrize(
        ("named", "message"),
        [
            (
                ("deplyo",),
                "no task or route is named 'deplyo'; known: any of Sentry's, deploy, deploy main, page; "
                "did you mean deploy?",
            ),
            (("deploy main", "--task"), "no task is named 'deploy main'; known: deploy, page"),
            (
                ("deploy", "--route"),
                "no route is named 'deploy'; known: any of Sentry's, deploy main, page",
            ),
        ],
    )
    def test_a_name_of_nothing_says_what_there_is(
        self, terminal: Terminal, command: str, named: tuple[str, ...], message: str
    ) -> None:
        result = terminal.run(command, *named)

        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
        assert self.paused(terminal) == []

    def test_resume_needs_a_name(self, terminal: Terminal) -> None:
        assert terminal.run("resume").exit_code == 2

    @pytest.mark.parametrize(("kind", "name"), [(Pausable.TASK, "a" * 24), (Pausable.ROUTE, "an old one")])
    def test_what_the_table_no_longer_has_can_be_resumed(
        self, terminal: Terminal, kind: Pausable, name: str
    ) -> None:
        self.pause(terminal, kind, name)
        result = terminal.run("resume", name)

        assert (result.exit_code, result.output) == (0, f"{kind} {name} is resumed\n")
        assert self.paused(terminal) == []

    def test_what_only_stored_jobs_have_can_be_paused(self, terminal: Terminal) -> None:
        """Its route has another name by now."""
        store(terminal, job(make_task(3, name="old deploy"), "an old one"))
        result = terminal.run("pause", "an old one")

        assert (result.exit_code, result.stderr) == (
            0,
            "the table has no route 'an old one'; using the route 'an old one' of the stored jobs\n",
        )
        assert self.paused(terminal) == [("route", "an old one")]
        assert terminal.run("resume", "an old one").exit_code == 0

    def test_a_task_of_the_table_is_meant_before_one_that_had_its_name(self, terminal: Terminal) -> None:
        store(terminal, job(make_task(3, name="deploy"), "an old one"))
        assert terminal.run("pause", "deploy").exit_code == 0
        assert self.paused(terminal) == [("task", DEPLOY.id)]

    def test_alone_it_says_what_is_paused(self, terminal: Terminal) -> None:
        assert terminal.run("pause").stdout == "nothing is paused\n"
        self.pause(terminal, Pausable.TASK, DEPLOY.id)
        self.pause(terminal, Pausable.TASK, "a" * 24)
        self.pause(terminal, Pausable.ROUTE, "page")

        result = terminal.run("pause")
        assert result.exit_code == 0
        assert [line.partition(" has been paused since")[0] for line in result.stdout.splitlines()] == [
            "route page", f"task deploy ({DEPLOY.id})", f"task {'a' * 24}",
        ]  # fmt: skip
        assert_matches(SINCE, result.stdout)

    def test_also_where_the_table_has_mistakes(self, terminal: Terminal) -> None:
        self.pause(terminal, Pausable.TASK, DEPLOY.id)
        terminal.config.write_text("routes: [")

        result = terminal.run("pause")
        assert result.exit_code == 0
        assert result.stdout.startswith(f"task {DEPLOY.id} has been paused since 20")

    BROKEN = "warning: there is no valid table (see `check`), so only names of stored jobs are known\n"

    @pytest.mark.parametrize(
        ("named", "kind", "key"),
        [
            (("deploy",), "task", DEPLOY.id),
            ((DEPLOY.id,), "task", DEPLOY.id),
            (("deploy main",), "route", "deploy main"),
            (("page", "--route"), "route", "page"),
            (("page", "--task"), "task", PAGE.id),
        ],
    )
    def test_where_the_table_has_mistakes_what_the_jobs_name_is_meant(
        self, terminal: Terminal, named: tuple[str, ...], kind: str, key: str
    ) -> None:
        """A bad edit is just when one wants a freeze: the server runs on its last good table."""
        store(terminal, job(), job(PAGE, "page"))
        terminal.config.write_text("routes: [")

        result = terminal.run("pause", *named)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"{kind} {named[0]} is paused")
        used = f"the table has no {kind} {named[0]!r}; using the {kind} {key!r} of the stored jobs"
        assert result.stderr == f"{self.BROKEN}{used}\n"
        assert self.paused(terminal) == [(kind, key)]

        result = terminal.run("resume", *named)
        assert (result.exit_code, result.stdout) == (0, f"{kind} {named[0]} is resumed\n")
        assert self.paused(terminal) == []

    def test_then_a_name_of_no_job_is_refused(self, terminal: Terminal) -> None:
        store(terminal, job())
        terminal.config.write_text("routes: [")

        result = terminal.run("pause", "deply")
        assert result.exit_code == 2
        assert result.stderr.startswith(self.BROKEN)
        said = " ".join(result.stderr.split())
        assert "no task or route is named 'deply'; known: deploy, deploy main; did you mean deploy?" in said
        assert self.paused(terminal) == []

    def test_then_of_a_name_that_two_tasks_had_the_id_is_asked_for(self, terminal: Terminal) -> None:
        store(terminal, job(), job(make_task(3, name="deploy"), "old"))
        terminal.config.write_text("routes: [")

        result = terminal.run("pause", "deploy")
        assert result.exit_code == 2
        said = " ".join(result.stderr.split())
        ids = f"{DEPLOY.id}, {make_task(3).id}"
        assert f"several tasks were named deploy; use one of their ids: {ids}" in said

    @pytest.mark.parametrize(("kind", "name"), [(Pausable.TASK, "a" * 24), (Pausable.ROUTE, "an old one")])
    def test_then_what_is_paused_can_be_resumed(self, terminal: Terminal, kind: Pausable, name: str) -> None:
        """Also where no job is of it."""
        self.pause(terminal, kind, name)
        terminal.config.write_text("routes: [")
        result = terminal.run("resume", name)

        assert (result.exit_code, result.stdout) == (0, f"{kind} {name} is resumed\n")
        assert self.paused(terminal) == []

    def test_a_list_of_jobs_says_it_beside(self, terminal: Terminal) -> None:
        store(terminal, job())
        terminal.run("pause", "deploy")

        result = terminal.run("jobs", "list")
        assert result.stdout.count("\n") == 2
        _, paused = result.stderr.splitlines()
        assert_matches(rf"^task deploy \({DEPLOY.id}\) {SINCE}$", paused)
        assert len(json.loads(terminal.run("jobs", "list", "--json").stdout)) == 1

    def test_a_job_that_waits_for_that_says_so(self, terminal: Terminal) -> None:
        store(terminal, job())
        store(terminal, job(PAGE, "page"))
        terminal.run("pause", "deploy")
        terminal.run("pause", "deploy main")

        assert terminal.run("jobs", "show", "2").stderr == ""
        route, task = terminal.run("jobs", "show", "1").stderr.splitlines()
        assert_matches(f"^route deploy main {SINCE}$", route)
        assert_matches(rf"^task deploy \({DEPLOY.id}\) {SINCE}$", task)


class TestLists:
    def test_the_jobs_of_a_route_a_state_and_a_time(self, terminal: Terminal) -> None:
        once = job(once_key="k", once_within=600.0)
        store(terminal, once, ago=3 * HOUR)
        store(terminal, job(), dead("page"), ago=HOUR)
        store(terminal, once)

        def listed(*options: str) -> list[int]:
            return [
                each["id"] for each in json.loads(terminal.run("jobs", "list", "--json", *options).stdout)
            ]

        assert listed() == [4, 3, 2, 1]
        assert listed("--route", "deploy main") == [4, 2, 1]
        assert listed("--since", "2h") == [4, 3, 2]
        terminal.run("jobs", "cancel", "1")
        assert listed("--since", "2h") == [4, 3, 2, 1]
        assert listed("--state", "skipped") == [4]
        assert listed("--state", "dead", "--route", "deploy main") == []
        assert listed("--since", "2h", "--route", "deploy main", "--limit", "1") == [4]
        skipped = terminal.run("jobs", "list", "--state", "skipped").stdout
        assert "once_within: job 1 of the same key is waiting" in skipped

    def test_the_events_and_the_refused_requests_of_a_time(self, terminal: Terminal) -> None:
        store(terminal, ago=3 * HOUR)
        store(terminal)
        with closing(Outbox(terminal.database_url)) as outbox:
            outbox.store_refused(
                RefusedRequest("github", time.time() - ago, 401, f"{ago:.0f} s ago", None, None)
                for ago in (3 * HOUR, 0.0)
            )

        events = json.loads(terminal.run("events", "list", "--since", "2h", "--json").stdout)
        assert [event["id"] for event in events] == [2]
        refused = terminal.run("events", "list", "--refused", "--since", "2h").stdout
        _, request, advice = refused.splitlines()
        assert request.endswith(" 401 0 s ago")
        assert advice.startswith("401: ")

    def test_one_behind_another_of_its_group(self, terminal: Terminal) -> None:
        store(terminal, job(group="g"))
        store(terminal, job(group="g"))
        _, second, first = terminal.run("jobs", "list").stdout.splitlines()

        assert "waits for another job of its group" in second
        assert "behind" not in first


class TestShow:
    def test_the_group_and_the_key(self, terminal: Terminal) -> None:
        store(terminal, job(group="acme/api", once_key="fp 1", once_within=600.0))
        store(terminal, job(group="acme/api"))

        first = terminal.run("jobs", "show", "1").output
        assert "\n  in group 'acme/api'\n  once_key 'fp 1'\n  due 20" in first
        second = terminal.run("jobs", "show", "2").output
        assert "\n  in group 'acme/api', waits for an earlier job of the group\n" in second
        assert "once_key" not in second
        assert "ended" not in second

        shown = [json.loads(terminal.run("jobs", "show", "--json", number).stdout) for number in "12"]
        assert [(each["group"], each["once_key"], each["blocked"], each["ended_at"]) for each in shown] == [
            ("acme/api", "fp 1", False, None),
            ("acme/api", None, True, None),
        ]

    def test_of_neither_nothing_is_said(self, terminal: Terminal) -> None:
        store(terminal, job())
        output = terminal.run("jobs", "show", "1").output
        assert "group" not in output
        assert "once_key" not in output
        shown = json.loads(terminal.run("jobs", "show", "--json", "1").stdout)
        assert (shown["group"], shown["once_key"], shown["blocked"]) == (None, None, False)

    def test_when_it_ended(self, terminal: Terminal) -> None:
        store(terminal, job())
        terminal.run("jobs", "cancel", "1")

        output = terminal.run("jobs", "show", "1").output
        assert output.startswith("job 1: canceled, canceled by a person\n")
        assert_matches(r"\n  ended 20\d\d-\d\d-\d\dT[\d:.]+Z\n", output)
        assert json.loads(terminal.run("jobs", "show", "--json", "1").stdout)["ended_at"].startswith("20")

    def test_what_a_terminal_would_act_on_is_not_shown(self, terminal: Terminal) -> None:
        acts = "a\x1b[2J\x9b2J\u202e\r\n\x07é"
        store(terminal, job(group=acts, once_key=acts, once_within=600.0))
        store(terminal, job(group=acts))

        for command in (("jobs", "show", "1"), ("jobs", "list"), ("jobs", "show", "1", "--json")):
            output = terminal.run(*command).output
            assert not [each for each in output if not each.isprintable() and each != "\n"]


class TestSecrets:
    LINK = "https://x/?token=abcdef0123"

    @pytest.fixture
    def terminal(self, terminal: Terminal) -> Terminal:
        store(terminal, job(group=self.LINK, once_key=self.LINK, once_within=600.0))
        store(terminal, dead_job(self.LINK, route="gone"), source="gone", action=self.LINK)
        return terminal

    @pytest.mark.parametrize(
        "command",
        [
            ("jobs", "show", "1"),
            ("jobs", "show", "--json", "1"),
            ("jobs", "list"),
            ("jobs", "list", "--json"),
            ("events", "show", "2"),
            ("jobs", "retry", "2"),
        ],
    )
    def test_are_masked(self, terminal: Terminal, command: tuple[str, ...]) -> None:
        output = terminal.run(*command).output
        assert "abcdef0123" not in output
        assert "token=<secret>" in output

    def test_the_keys_of_the_table_too(self, terminal: Terminal) -> None:
        """Where a sender's payload holds one."""
        key = "k1" * 32
        store(terminal, dead_job(f"argument 1: {key} is odd", route="gone"))
        result = terminal.run("jobs", "retry", "3", TASK_KEY=key)

        assert key not in result.output
        assert "<secret> is odd" in result.output
