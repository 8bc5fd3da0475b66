"""Which store a command reads: it creates none, and every list says where its store is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from bridge.outbox.migrations import HEAD
from bridge.outbox.store import Outbox
from tests.support.terminal import Terminal

LISTS = [
    ("events", "list"), ("events", "list", "--refused"), ("jobs", "list"), ("audit",), ("pause",),
    ("preview",),
]  # fmt: skip
#: Every other command that opens the store.
OTHERS = [
    ("events", "show", "1"), ("events", "replay", "1"), ("jobs", "show", "1"), ("jobs", "retry", "1"),
    ("jobs", "cancel", "1"), ("jobs", "resolve", "1", "--sent"), ("pause", "deploy"), ("resume", "deploy"),
    ("prune",), ("record", "1"), ("explain", "1"), ("db", "status"), ("db", "backup"),
]  # fmt: skip

HINT = "    hint: set DATABASE_URL to the database of the server; the server creates it when it starts\n"
EMPTY_HINT = "    hint: run `theeye-bridge db upgrade`, or set DATABASE_URL to the database of the server\n"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.mark.parametrize("command", [*LISTS, *OTHERS])
def test_no_command_creates_a_store(terminal: Terminal, tmp_path: Path, command: tuple[str, ...]) -> None:
    missing = tmp_path / "gone" / "other.db"
    result = terminal.run(*command, DATABASE_URL=f"sqlite:///{missing}")
    assert result.exit_code == 2
    assert result.stderr == f"Error: there is no database at {missing}\n{HINT}"
    assert not missing.parent.exists()


def test_a_default_is_named_as_one_with_the_whole_path(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = terminal.run("jobs", "list", DATABASE_URL="")
    path = tmp_path / "var" / "bridge.db"
    assert result.stderr == f"Error: there is no database at {path}: DATABASE_URL is not set\n{HINT}"
    assert not path.parent.exists()


def test_an_empty_file_is_no_store(terminal: Terminal, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    result = terminal.run("events", "list", DATABASE_URL=f"sqlite:///{empty}")
    assert (result.exit_code, result.stderr) == (2, f"Error: the database {empty} is empty\n{EMPTY_HINT}")


def test_an_empty_database_is_no_store_and_stays_empty(terminal: Terminal, postgresql_url: str) -> None:
    result = terminal.run("jobs", "list", DATABASE_URL=postgresql_url)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: the database postgresql://")
    assert result.stderr.endswith(f" is empty\n{EMPTY_HINT}")
    engine = create_engine(postgresql_url.replace("postgresql://", "postgresql+psycopg://", 1))
    assert inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("in_json", [False, True])
@pytest.mark.parametrize("command", LISTS)
def test_a_list_says_which_store_it_read(terminal: Terminal, command: tuple[str, ...], in_json: bool) -> None:
    more = ("--json",) if in_json and command != ("pause",) else ()
    result = terminal.run(*command, *more)
    assert result.exit_code == 0, result.output
    assert f"database: {terminal.database_url.removeprefix('sqlite:///')}\n" in result.stderr
    assert "database:" not in result.stdout


def test_a_store_on_a_server_is_named_without_user_and_password(
    terminal: Terminal, postgresql_store: str
) -> None:
    url = f"{postgresql_store}{'&' if '?' in postgresql_store else '?'}application_name=marked"
    result = terminal.run("jobs", "list", DATABASE_URL=url)
    (line,) = result.stderr.splitlines()
    assert line.startswith("database: postgresql://")
    assert line.endswith(f"/{url.partition('?')[0].rpartition('/')[2]}")
    assert "@" not in line
    assert "marked" not in line


def test_upgrade_creates_a_store(terminal: Terminal, tmp_path: Path) -> None:
    new = tmp_path / "new" / "bridge.db"
    result = terminal.run("db", "upgrade", DATABASE_URL=f"sqlite:///{new}")
    assert (result.exit_code, result.output) == (
        0,
        f"upgraded the database from nothing to revision {HEAD}\n",
    )
    with closing(Outbox(f"sqlite:///{new}", create=False)) as outbox:
        assert outbox.revisions == (HEAD, HEAD)


@pytest.mark.parametrize(
    "command", [("events", "list"), ("events", "list", "--refused"), ("events", "replay", "--yes")]
)
def test_a_misspelt_source_is_no_empty_list(terminal: Terminal, command: tuple[str, ...]) -> None:
    result = terminal.run(*command, "--source", "githb")
    assert result.exit_code == 2
    message = "Invalid value for --source: no source is named 'githb'; did you mean github?; known: github\n"
    assert message in result.stderr
    terminal.store(("abc",))
    terminal.config.write_text("sources: {}\n")
    assert terminal.run("events", "list", "--source", "github", "--since", "1s").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [*LISTS, *OTHERS, ("check",), ("test",), ("serve",), ("worker",), ("db", "upgrade"), ("schema",)],
)
def test_a_wrong_url_is_an_error_in_words_of_every_command(
    terminal: Terminal, command: tuple[str, ...]
) -> None:
    result = terminal.run(*command, DATABASE_URL="postgress://bob:marked@db/x")
    assert result.exit_code == 1
    assert result.output == (
        "Error: DATABASE_URL: unknown scheme 'postgress'; did you mean postgresql?; expected "
        "sqlite:///path/to/file.db or postgresql://user:password@host:port/name\n"
    )
