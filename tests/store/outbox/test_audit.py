"""The audit: who did what to which jobs, events, tasks and routes, when, and to how many."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text

from bridge.cli import actor
from bridge.core.errors import NoSuchEvent, StoreUnavailable, WrongState
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.outbox.audit import Action, AuditEntry
from bridge.outbox.pauses import Pausable
from bridge.outbox.prune import AUDIT_RETENTION
from bridge.outbox.store import Outbox
from bridge.process.settings import Retention
from tests.support.intake import beside
from tests.support.sending import one, send, store
from tests.support.server import CHECKOUT
from tests.support.tables import NOW, PATIENCE, Clock, dead_job, engine_of, in_threads, make_job, make_webhook
from tests.support.terminal import Terminal

DAY = 86_400.0

RETRY = Action("maria", "deploy", "jobs retry", {"jobs": [1]}, 1)


def url_of(outbox: Outbox) -> str:
    return engine_of(outbox).url.render_as_string(hide_password=False)


def entry_of(outbox: Outbox) -> AuditEntry:
    """The newest one."""
    return outbox.audit.entries(limit=1)[0]


# At the store

Deed = Callable[[Outbox, int], object]

#: What a person may do to the one job, its event, its task and its route, by the state that the job is in.
DEEDS: dict[str, tuple[JobState, Deed]] = {
    "retry": (JobState.DEAD, lambda outbox, entry: outbox.retry(1, one(), entry=entry)),
    "resolve sent": (JobState.UNKNOWN, lambda outbox, entry: outbox.resolve(1, sent=True, entry=entry)),
    "resolve again": (JobState.UNKNOWN, lambda outbox, entry: outbox.resolve(1, sent=False, entry=entry)),
    "cancel": (JobState.DEAD, lambda outbox, entry: outbox.cancel(1, entry=entry)),
    "replay": (JobState.DEAD, lambda outbox, entry: outbox.replay(1, [one()], entry=entry)),
    "pause": (JobState.DEAD, lambda outbox, entry: outbox.pause(Pausable.ROUTE, "first", entry=entry)),
}


class TestTheStore:
    def test_an_entry_says_what_was_to_be_done(self, outbox: Outbox, clock: Clock) -> None:
        with outbox.audit.recording(RETRY) as entry:
            assert outbox.audit.entries() == [AuditEntry(entry, NOW, RETRY, 0, None)]
            clock.now += 5
        assert outbox.audit.entries() == [AuditEntry(entry, NOW, RETRY, 0, NOW + 5)]

    @pytest.mark.parametrize("what", DEEDS)
    def test_what_changes_is_counted(self, outbox: Outbox, what: str) -> None:
        state, do = DEEDS[what]
        store(outbox, one())
        send(outbox, state)
        with outbox.audit.recording(RETRY) as entry:
            do(outbox, entry)
        assert entry_of(outbox).changed == 1

    def test_resume_and_prune_too(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, one(None), one(None))
        send(outbox)
        outbox.store(make_webhook(delivery_id="unmatched"))
        outbox.pause(Pausable.ROUTE, "first")
        with outbox.audit.recording(RETRY) as entry:
            assert outbox.resume(Pausable.ROUTE, "first", entry=entry)
        assert entry_of(outbox).changed == 1
        clock.now += 10 * DAY
        with outbox.audit.recording(RETRY) as entry:
            # One event, and the bodies of two.
            outbox.prune(Retention(30 * DAY, 7 * DAY), lambda: False, entry=entry)
        assert entry_of(outbox).changed == 3

    def test_what_changes_nothing_is_not(self, outbox: Outbox) -> None:
        store(outbox, one(None), one(None))
        send(outbox, JobState.DEAD)
        outbox.pause(Pausable.ROUTE, "first")
        with outbox.audit.recording(RETRY) as entry:
            assert outbox.retry(1, None, entry=entry) is JobState.DEAD
            assert outbox.retry(2, dead_job(), entry=entry) is JobState.DEAD
            with pytest.raises(WrongState):
                outbox.resolve(1, sent=True, entry=entry)
            with pytest.raises(NoSuchEvent):
                outbox.replay(7, [], entry=entry)
            assert not outbox.pause(Pausable.ROUTE, "first", entry=entry)
            assert not outbox.resume(Pausable.TASK, "first", entry=entry)
        assert entry_of(outbox).changed == 0

    @pytest.mark.parametrize("what", DEEDS)
    def test_a_change_that_cannot_be_counted_is_not_made(
        self, outbox: Outbox, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both are one transaction."""
        state, do = DEEDS[what]
        store(outbox, one())
        send(outbox, state)
        before = (outbox.jobs(), outbox.paused())

        def fail(*_arguments: object) -> None:
            raise RuntimeError("the power went")

        with outbox.audit.recording(RETRY) as entry, monkeypatch.context() as patched:
            patched.setattr("bridge.outbox.audit.count", fail)
            with pytest.raises(RuntimeError, match="the power went"):
                do(outbox, entry)
        assert (outbox.jobs(), outbox.paused()) == before

    def test_without_an_entry_nothing_is_done(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_arguments: object) -> None:
            raise StoreUnavailable("the disk is full")

        done: list[int] = []
        with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
            patched.setattr(outbox._database, "_write", fail)
            with outbox.audit.recording(RETRY):
                done.append(1)
        assert done == []

    def test_what_fails_in_the_middle_has_no_end(self, outbox: Outbox) -> None:
        made = store(outbox, one(), one())
        with pytest.raises(KeyboardInterrupt), outbox.audit.recording(RETRY) as entry:
            outbox.cancel(made[0], entry=entry)
            raise KeyboardInterrupt
        assert (entry_of(outbox).changed, entry_of(outbox).ended_at) == (1, None)

    def test_two_at_once_count_for_themselves(self, outbox: Outbox, reopen: Callable[[], Outbox]) -> None:
        made = store(outbox, *[one(None) for _ in range(20)])
        others = [outbox, reopen()]

        def cancel(nth: int) -> None:
            with others[nth].audit.recording(RETRY) as entry:
                for job_id in made[nth::2]:
                    others[nth].cancel(job_id, entry=entry)

        in_threads(partial(cancel, nth) for nth in range(2))
        assert [each.changed for each in outbox.audit.entries()] == [10, 10]

    def test_the_newest_come_first(self, outbox: Outbox, clock: Clock) -> None:
        for _ in range(3):
            with outbox.audit.recording(RETRY):
                clock.now += 10
        assert [entry.id for entry in outbox.audit.entries()] == [3, 2, 1]
        assert [entry.id for entry in outbox.audit.entries(since=NOW + 10, limit=1)] == [3]
        assert [entry.id for entry in outbox.audit.entries(since=NOW + 10)] == [3, 2]

    @pytest.mark.parametrize(
        ("events", "kept"), [(30 * DAY, AUDIT_RETENTION), (2 * AUDIT_RETENTION, 2 * AUDIT_RETENTION)]
    )
    def test_it_is_kept_for_a_year_or_as_long_as_events(
        self, outbox: Outbox, clock: Clock, events: float, kept: float
    ) -> None:
        with outbox.audit.recording(RETRY):
            pass
        clock.now = NOW + kept
        outbox.prune(Retention(events, 7 * DAY), lambda: False)
        assert len(outbox.audit.entries()) == 1
        clock.now += 1
        outbox.prune(Retention(events, 7 * DAY), lambda: False)
        assert outbox.audit.entries() == []

    def test_a_kill_in_the_middle_shows_how_many_were_done(self, url: str, terminal: Terminal) -> None:
        """Whenever it comes: each change and its count are one commit."""
        outbox = Outbox(url)
        made = store(outbox, *[one(None) for _ in range(200)])
        command = [sys.executable, "-m", "bridge", "jobs", "cancel", "--state", "waiting", "--yes"]
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), **terminal.environ, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(PATIENCE) == -signal.SIGKILL

        (entry,) = outbox.audit.entries()
        canceled = len(outbox.jobs(state=JobState.CANCELED, limit=1000))
        assert 0 < canceled < len(made)
        assert (entry.changed, entry.action.selected, entry.ended_at) == (canceled, len(made), None)
        outbox.close()


# In a terminal

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name


def listed(terminal: Terminal) -> list[dict[str, Any]]:
    result = terminal.run("audit", "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def refuse(terminal: Terminal) -> None:
    """Let the next due job die."""
    terminal.attempt(Decision(JobState.DEAD, None, "refused"), Outcome.REFUSED)


def lose(terminal: Terminal) -> None:
    """Let the next due job become unknown."""
    terminal.attempt(Decision(JobState.UNKNOWN, None, "no answer"), Outcome.UNKNOWN)


def done(result: Result) -> None:
    assert result.exit_code == 0, result.output


KEYS = {"HOOK_SECRET": "hook-secret-1", "TASK_KEY": "k1" * 32}


class TestTheCommands:
    @pytest.mark.parametrize(
        ("prepare", "command", "action", "target"),
        [
            (refuse, ["jobs", "retry", "1"], "jobs retry", {"jobs": [1]}),
            (lose, ["jobs", "resolve", "1", "--sent"], "jobs resolve --sent", {"jobs": [1]}),
            (lose, ["jobs", "resolve", "1", "--again"], "jobs resolve --again", {"jobs": [1]}),
            (refuse, ["jobs", "cancel", "1"], "jobs cancel", {"jobs": [1]}),
            (
                refuse,
                ["jobs", "retry", "--route", "deploy", "--yes"],
                "jobs retry",
                {"state": "dead", "route": "deploy"},
            ),
            (refuse, ["events", "replay", "1"], "events replay", {"events": [1]}),
            (
                refuse,
                ["events", "replay", "--source", "github", "--yes"],
                "events replay",
                {"source": "github"},
            ),
            (refuse, ["pause", "deploy", "--route"], "pause", {"route": "deploy"}),
            (refuse, ["pause", "deploy", "--task"], "pause", {"task": "5f3c9a7be4b0a1c2d3e4f501"}),
        ],
    )
    def test_each_is_recorded(
        self,
        terminal: Terminal,
        prepare: Callable[[Terminal], None],
        command: list[str],
        action: str,
        target: dict[str, Any],
    ) -> None:
        terminal.store(("abc",))
        prepare(terminal)
        begun = time.time()
        done(terminal.run(*command, **KEYS))

        (entry,) = listed(terminal)
        assert (entry["operator"], entry["account"]) == (ACCOUNT, ACCOUNT)
        assert (entry["action"], entry["target"]) == (action, target)
        assert (entry["selected"], entry["changed"]) == (1, 1)
        assert (
            begun - 1
            < time.mktime(time.strptime(entry["started_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        )
        assert entry["ended_at"] >= entry["started_at"]

    def test_resume_and_prune_too(self, terminal: Terminal) -> None:
        terminal.store(("abc",))
        done(terminal.run("pause", "deploy", "--route", **KEYS))
        done(terminal.run("resume", "deploy", "--route", "--as", "Maria", **KEYS))
        done(terminal.run("prune", "--as", "Maria", BRIDGE_RETENTION="60d,10d"))
        pruned, resumed, _ = listed(terminal)
        assert (resumed["action"], resumed["target"], resumed["changed"]) == (
            "resume",
            {"route": "deploy"},
            1,
        )
        assert (pruned["action"], pruned["target"]) == ("prune", {"older_than": "60d,10d"})
        assert (pruned["selected"], pruned["changed"]) == (None, 0)
        assert {entry["operator"] for entry in (pruned, resumed)} == {"Maria"}
        assert "  prune   older than 60d,10d  0\n" in terminal.run("audit").stdout

    def test_a_filter_with_since(self, terminal: Terminal) -> None:
        terminal.store(("abc",))
        done(terminal.run("jobs", "cancel", "--since", "2h", "--yes"))
        (entry,) = listed(terminal)
        assert entry["target"]["state"] == "waiting"
        since = time.strptime(entry["target"]["since"][:19], "%Y-%m-%dT%H:%M:%S")
        assert abs(time.time() - 7200 - (time.mktime(since) - time.timezone)) < 600

    def test_under_another_name_with_the_account_beside_it(self, terminal: Terminal) -> None:
        terminal.store(("abc",))
        done(terminal.run("jobs", "cancel", "1", "--as", "María Pérez"))
        (entry,) = listed(terminal)
        assert (entry["operator"], entry["account"]) == ("María Pérez", ACCOUNT)
        line = terminal.run("audit").stdout
        assert line.endswith(f"  María Pérez ({ACCOUNT})  jobs cancel  jobs 1  1 of 1\n")

    @pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2Jb", "x" * 101])
    def test_a_name_that_is_none_is_refused(self, terminal: Terminal, name: str) -> None:
        terminal.store(("abc",))
        result = terminal.run("jobs", "cancel", "1", "--as", name)
        assert result.exit_code == 2
        assert "1 to 100 printable characters" in result.output
        assert listed(terminal) == []
        assert terminal.job(1).state is JobState.WAITING

    @pytest.mark.parametrize("command", [
        ["jobs", "retry", "1"], ["jobs", "cancel", "1"], ["jobs", "resolve", "1", "--sent"],
        ["events", "replay", "1"], ["pause", "deploy", "--route"], ["resume", "deploy", "--route"], ["prune"],
    ])  # fmt: skip
    def test_every_command_that_changes_records_a_reason(
        self, terminal: Terminal, command: list[str]
    ) -> None:
        terminal.store(("abc",))
        {"retry": refuse, "resolve": lose}.get("".join(command[1:2]), lambda _: None)(terminal)
        terminal.run(*command, "--reason", " the customer called ", **KEYS)
        (entry,) = listed(terminal)
        assert (entry["action"], entry["reason"]) == (
            " ".join(command[: command.index("1")] if "1" in command else command[:1])
            + (" --sent" if "--sent" in command else ""),
            "the customer called",
        )
        heading, line = terminal.run("audit").stdout.splitlines()
        assert heading.endswith("  REASON")
        assert line.endswith("  the customer called")
        assert line.index("the customer") == heading.index("REASON")

    def test_without_a_reason_there_is_none(self, terminal: Terminal) -> None:
        terminal.store(("abc",))
        terminal.run("jobs", "cancel", "1")
        assert listed(terminal)[0]["reason"] is None
        assert terminal.run("audit").stdout.endswith("  1 of 1\n")

    @pytest.mark.parametrize("reason", ["", " ", "a\nb", "a\x1b[2Jb", "x" * 501])
    def test_a_reason_that_is_none_is_refused(self, terminal: Terminal, reason: str) -> None:
        result = terminal.run("jobs", "cancel", "1", "--reason", reason)
        assert result.exit_code == 2
        assert "1 to 500 printable characters" in result.output
        assert listed(terminal) == []

    def test_an_account_without_a_name_is_its_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a container that runs under any number."""
        monkeypatch.setattr(os, "getuid", lambda: 987_654)
        assert actor._account() == "uid 987654"

    @pytest.mark.parametrize(
        "command",
        ["jobs retry 7", "jobs cancel 7 8", "jobs resolve 7 --sent", "jobs retry 1", "jobs resolve 1 --again",
         "events replay 7"],
    )  # fmt: skip
    def test_what_cannot_be_changed_is_not_recorded(self, terminal: Terminal, command: str) -> None:
        terminal.store(("abc",))
        result = terminal.run(*command.split(), **KEYS)
        assert result.exit_code == 1
        assert "there is no " in result.output or "job 1 is waiting, expected " in result.output
        assert listed(terminal) == []

    @pytest.mark.parametrize("noun", ["jobs", "events"])
    def test_only_what_can_be_changed_is_recorded(self, terminal: Terminal, noun: str) -> None:
        terminal.store(("abc",))
        order = "cancel" if noun == "jobs" else "replay"
        assert terminal.run(noun, order, "7", "1", **KEYS).exit_code == 1
        (entry,) = listed(terminal)
        assert (entry["target"], entry["selected"], entry["changed"]) == ({noun: [1]}, 1, 1)

    def test_what_was_not_confirmed_is_not_nor_what_found_nothing(self, terminal: Terminal) -> None:
        done(terminal.run("jobs", "cancel", "--state", "waiting", "--yes"))
        done(terminal.run("events", "replay", "--source", "github", "--yes", **KEYS))
        terminal.store(("abc",))
        assert terminal.run("jobs", "cancel", "--state", "waiting", stdin="n\n").exit_code == 1
        assert terminal.run("audit").stdout == "no actions\n"

    def test_many_numbers_are_cut_in_a_line(self, terminal: Terminal) -> None:
        numbers = [str(number) for number in range(1, 13)]
        for number in numbers:
            terminal.store((number,))
        terminal.run("jobs", "cancel", *numbers)
        assert "jobs 1 2 3 4 5 6 7 8 9 10 and 2 more  12 of 12" in terminal.run("audit").stdout
        assert listed(terminal)[0]["target"]["jobs"] == list(range(1, 13))

    def test_each_column_begins_below_its_heading(self, terminal: Terminal) -> None:
        for argument in "abc":
            terminal.store((argument,))
        terminal.run("jobs", "cancel", "1", "--as", "A longer name than the heading")
        terminal.run("jobs", "cancel", "2", "3", "--as", "B")
        heading, *lines = terminal.run("audit").stdout.splitlines()
        for name, cells in {
            "STARTED": ["20", "20"], "OPERATOR": ["B (", "A l"], "ACTION": ["jobs cancel"] * 2,
            "TARGET": ["jobs 2 3", "jobs 1"], "CHANGED": ["2 of 2", "1 of 1"],
        }.items():  # fmt: skip
            at = heading.index(name)
            assert [line[at : at + len(cell)] for line, cell in zip(lines, cells, strict=True)] == cells
            assert {line[at - 2 : at] for line in lines} == {"  "}

    def test_the_list_has_limits(self, terminal: Terminal) -> None:
        for number in range(3):
            terminal.store(("abc",))
            terminal.run("jobs", "cancel", str(number + 1))
        with beside(terminal.database_url) as connection:
            connection.execute(text("UPDATE audit SET at = at - 7200 WHERE id = 1"))
        assert [entry["id"] for entry in listed(terminal)] == [3, 2, 1]
        assert len(terminal.run("audit", "--limit", "2").stdout.splitlines()[1:]) == 2
        assert len(terminal.run("audit", "--since", "1h").stdout.splitlines()[1:]) == 2

    def test_one_that_did_not_end_says_so(self, terminal: Terminal) -> None:
        terminal.store(("abc",))
        terminal.run("jobs", "cancel", "1")
        with beside(terminal.database_url) as connection:
            connection.execute(text("UPDATE audit SET ended_at = NULL"))
        assert terminal.run("audit").stdout.endswith("1 of 1, not ended\n")

    def test_a_terminal_is_not_acted_on(self, terminal: Terminal) -> None:
        """A route's name, which was once in the table, is as free as any text."""
        outbox = Outbox(terminal.database_url)
        with outbox.audit.recording(
            Action("a\x1b[2J", "b\n", "pause", {"route": "x\x1b]0;\x07"}, 1, "c\x1b[2J\n")
        ):
            pass
        outbox.close()
        shown = terminal.run("audit").stdout
        assert shown.count("\n") == 2
        assert not any(character in shown for character in "\x1b\x07")


def test_a_job_that_is_made_by_the_sender_is_nobodys(outbox: Outbox) -> None:
    """A redelivery revives a dead job, and is no person's action."""
    outbox.store(make_webhook(dead_job()))
    outbox.store(make_webhook(make_job("x")))
    assert outbox.audit.entries() == []
