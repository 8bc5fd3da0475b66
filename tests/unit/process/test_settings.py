"""The environment: settings, the table's variables, secrets and the mask."""

from __future__ import annotations

import logging
import os
import re
import socket
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import SettingsError
from bridge.core.secrets import Mask, Secret
from bridge.core.units import format_duration, parse_byte_count, parse_duration
from bridge.process.api_tokens import ApiToken
from bridge.process.environment import MAX_SECRET_FILE_BYTES, Environment
from bridge.process.settings import VARIABLES, Retention, Settings
from bridge.sources.base.proofs import BasicCredentials

#: How a message writes a URL of PostgreSQL.
POSTGRESQL = "postgresql://user:password@host:port/name"
#: The same for SQLite, and the errors for other texts.
SQLITE = "sqlite:///path/to/file.db"
SLASHES = f"expected {SQLITE}, or sqlite:////path for an absolute path"
NO_SCHEME = f"it has no scheme; expected {POSTGRESQL}, or sqlite:/// before the path of a file"

ADDRESS = "expected host:port, such as 127.0.0.1:8000 or [::1]:8000, or unix:/path/to/socket"

#: Seconds.
DAY = 86_400.0

# Durations and sizes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1s", 1), ("10m", 600), ("24h", 86400), ("7d", 604800), ("007s", 7), ("3650d", 315360000)],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "0s", "00d", "-1s", "+1s", "1.5h", "1 s", " 1s", "1s ", "1s\n", "1S", "1w", "1ms",
     "12:30", "1h30m", "1e3s", "0x1s", "٣s", "³s", "off", "9" * 5000 + "s", "3651d", "999999999d"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1s", "90s", "10m", "24h", "7d", "30d", "36h", "3601s"])
def test_a_duration_is_written_in_its_largest_unit(text: str) -> None:
    assert format_duration(parse_duration(text)) == {"24h": "1d"}.get(text, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("25MiB", 25 << 20), ("512KiB", 512 << 10), ("1GiB", 1 << 30), ("7", 7), ("7B", 7), ("2 MiB", 2 << 20)],
)  # fmt: skip
def test_byte_count(text: str, size: int) -> None:
    assert parse_byte_count(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0MiB", "-1", "25MB", "25mib", "25M", "1.5MiB", "٣MiB", "MiB", "25\nMiB", "9" * 5000]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size is"):
        parse_byte_count(text)


# Settings


def test_the_defaults() -> None:
    settings = Settings.from_environ({})
    assert (settings.port, settings.database_url, settings.config) == (
        8000, "sqlite:///var/bridge.db", Path("config"),
    )  # fmt: skip
    assert (settings.deliver, settings.max_body, settings.stop_timeout) == (True, 25 * 1024 * 1024, 20.0)
    assert not settings.dry_run
    assert settings.web_concurrency == 1
    assert settings.retention == Retention(30 * DAY, 7 * DAY)
    assert settings.retention.unmatched == 3 * DAY
    assert (settings.log_level, settings.log_format) == ("INFO", "")


def test_every_variable_is_read() -> None:
    environ = {
        "PORT": "0", "DATABASE_URL": "sqlite:////data/x y.db", "BRIDGE_CONFIG": "routes.yml",
        "BRIDGE_DELIVER": "False", "BRIDGE_MAX_BODY": "1MiB", "BRIDGE_STOP_TIMEOUT": "1m",
        "WEB_CONCURRENCY": "4", "LOG_LEVEL": "debug", "LOG_FORMAT": "Text", "BRIDGE_DRY_RUN": "true",
        "BRIDGE_RETENTION": "90d,24h", "BRIDGE_TRUSTED_PROXIES": "3",
        "BRIDGE_STATUS_TOKEN": "marked-status", "BRIDGE_ADMIN_PASSWORD": "marked-password",
        "BRIDGE_API_TOKENS": "bot:write:marked-api-token", "BRIDGE_PUBLIC_URL": "https://bridge.example.org/x/",
        "BRIDGE_BIND": "unix:/run/bridge.sock",
        "BRIDGE_PERSISTENT_DISK": "true",
    }  # fmt: skip
    assert set(environ) == {variable.name for variable in VARIABLES}
    settings = Settings.from_environ(environ)
    assert (settings.port, settings.database_url, settings.config) == (
        0, "sqlite:////data/x y.db", Path("routes.yml"),
    )  # fmt: skip
    assert (settings.deliver, settings.max_body, settings.stop_timeout) == (False, 1024 * 1024, 60.0)
    assert settings.dry_run
    assert settings.retention == Retention(90 * DAY, DAY)
    assert settings.trusted_proxies == 3
    assert settings.status_token == Secret("marked-status")
    assert settings.admin_password == Secret("marked-password")
    assert settings.api_tokens == (ApiToken("bot", "write", Secret("marked-api-token")),)
    assert settings.secrets == tuple(map(Secret, ("marked-status", "marked-password", "marked-api-token")))
    assert settings.public_url == "https://bridge.example.org/x"
    assert "marked" not in repr(settings)
    assert settings.web_concurrency == 4
    assert settings.bind == "unix:/run/bridge.sock"
    assert settings.persistent_disk
    assert (settings.log_level, settings.log_format) == ("DEBUG", "text")


def test_an_empty_variable_is_unset() -> None:
    names = [variable.name for variable in VARIABLES]
    empty, unset = Settings.from_environ(dict.fromkeys(names, "")), Settings.from_environ({})
    assert [getattr(empty, name) for name in ("port", "database_url", "config", "log_level")] == [
        getattr(unset, name) for name in ("port", "database_url", "config", "log_level")
    ]


def test_a_variable_that_nothing_reads_is_reported_with_the_nearest_name() -> None:
    environ = {
        "BRIDGE_DRYRUN": "true", "BRIDGE_RETENTON": "3d", "BRIDGE_CONFIG_FILE": "x", "BRIDGE_ODD": "x",
        "BRIDGE_DELIVER": "true", "BRIDGE_STATUS_TOKEN": "a-token", "BRIDGE_STATUS_TOKEN_FILE": "token",
        "BRIDGE_SECRET": "x", "DRY_RUN": "true", "RETENTION": "3d", "STATUS_TOKEN": "read-by-the-table",
        "BRIDGE_KEY_FILE": "key", "BRIDGE_SERVICE_HOST": "10.0.0.1", "BRIDGE_PORT": "tcp://10.0.0.1:80",
        "BRIDGE_PORT_80_TCP_ADDR": "10.0.0.1", "BRIDGE_SERVICE_PORT_HTTP": "80",
    }  # fmt: skip
    settings = Settings.from_environ(environ)
    for name in ("BRIDGE_SECRET", "STATUS_TOKEN"):
        settings.environment.get(name)
    with pytest.raises(SettingsError, match="BRIDGE_KEY_FILE"):
        settings.environment.get("BRIDGE_KEY")
    unknown = "the bridge has no variable BRIDGE_{} and ignores it{}"
    assert settings.unknown_variables() == [
        unknown.format("CONFIG_FILE", "; did you mean BRIDGE_CONFIG?"),
        unknown.format("DRYRUN", "; did you mean BRIDGE_DRY_RUN?"),
        unknown.format("ODD", ""),
        unknown.format("RETENTON", "; did you mean BRIDGE_RETENTION?"),
        *(
            f"the bridge has no variable {name} and ignores it; did you mean BRIDGE_{name}?"
            for name in ("DRY_RUN", "RETENTION")
        ),
    ]


def test_the_defaults_are_read_as_one_would_write_them() -> None:
    for variable in VARIABLES:
        variable.read(variable.default)
        assert variable.meaning


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "http", "found 'http'; expected a number from 0 to 65535"),
        ("PORT", "65536", "found '65536'; expected a number from 0 to 65535"),
        ("PORT", "-1", "found '-1'; expected a number from 0 to 65535"),
        ("PORT", "²", "found '²'; expected a number from 0 to 65535"),
        ("WEB_CONCURRENCY", "0", "found '0'; expected a number from 1 to 64"),
        ("WEB_CONCURRENCY", "65", "found '65'; expected a number from 1 to 64"),
        ("BRIDGE_TRUSTED_PROXIES", "17", "found '17'; expected a number from 0 to 16"),
        ("BRIDGE_TRUSTED_PROXIES", "-1", "found '-1'; expected a number from 0 to 16"),
        ("BRIDGE_TRUSTED_PROXIES", "²", "found '²'; expected a number from 0 to 16"),
        ("BRIDGE_TRUSTED_PROXIES", "true", "found 'true'; expected a number from 0 to 16"),
        *(
            ("BRIDGE_BIND", text, f"found {text!r}; {ADDRESS}")
            for text in ("127.0.0.1", "::1:80", "[::1]", ":80", "host:65536", "host:x", "http://host:80",
                         "unix:", "unix:name", "host:80\n", " host:80", "[::1]:²")
        ),
        ("BRIDGE_PERSISTENT_DISK", "yes", "found 'yes'; expected true or false"),
        ("BRIDGE_STOP_TIMEOUT", "4000d", "found '4000d'; a duration is at most 3650d"),
        ("BRIDGE_MAX_BODY", "25MB", "found '25MB'; a size is a number and KiB, MiB or GiB, such as 25MiB"),
        ("LOG_LEVEL", "TRACE", "found 'TRACE'; expected one of DEBUG, INFO, WARNING, ERROR"),
        ("LOG_FORMAT", "xml", "found 'xml'; expected one of json, text"),
        ("BRIDGE_DELIVER", "no", "found 'no'; expected true or false"),
        ("BRIDGE_DELIVER", "1", "found '1'; expected true or false"),
        ("DATABASE_URL", "mysql://bob:marked@db/x",
         f"unknown scheme 'mysql'; expected {SQLITE} or {POSTGRESQL}"),
        ("DATABASE_URL", "postgress://bob:marked@db/x",
         f"unknown scheme 'postgress'; did you mean postgresql?; expected {SQLITE} or {POSTGRESQL}"),
        ("DATABASE_URL", "PostgreSQL://bob:marked@db/x",
         f"unknown scheme 'PostgreSQL'; did you mean postgresql?; expected {SQLITE} or {POSTGRESQL}"),
        ("DATABASE_URL", "sqllite:///x.db",
         f"unknown scheme 'sqllite'; did you mean sqlite?; expected {SQLITE} or {POSTGRESQL}"),
        ("DATABASE_URL", "sqlite://", SLASHES),
        ("DATABASE_URL", "sqlite:var/bridge.db", SLASHES),
        ("DATABASE_URL", "sqlite:///var/", SLASHES),
        ("DATABASE_URL", "sqlite://var/bridge.db", SLASHES),
        ("DATABASE_URL", "sqlite:///x.db?mode=memory", SLASHES),
        ("DATABASE_URL", "/var/lib/bridge.db", NO_SCHEME),
        ("DATABASE_URL", "bridge.db", NO_SCHEME),
        ("DATABASE_URL", "bob:marked@db/x", NO_SCHEME),
        ("DATABASE_URL", "marked:1234@db:5432/x", NO_SCHEME),
        ("DATABASE_URL", "//bob:marked@db/x", NO_SCHEME),
        *(
            ("DATABASE_URL", text, "it begins or ends with a blank, a line break or a quote: remove it")
            for text in ('"sqlite:///x.db"', "sqlite:///x.db\n", " postgresql://bob:marked@db/x", "'",
                         "postgresql://bob:marked@db/x\n")
        ),
        *(
            ("DATABASE_URL", text,
             "the host is missing; write localhost, or ?host=/run/postgresql for a socket")
            for text in ("postgresql:///x", "postgresql://bob:marked@/x", "postgres://bob:ma/rked@:5432/x",
                         "postgresql:///x?sslmode=require")
        ),
        ("DATABASE_URL", "sqlite:///:memory:",
         "a database in memory loses webhooks; use sqlite:///path/to/file.db"),
    ],
)  # fmt: skip
def test_a_wrong_variable(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: value})
    assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("postgres://bob:pa5s@ec2-1.example.com:5432/d4f", "bob:pa5s@ec2-1.example.com:5432/d4f"),
        ("postgresql://bob:pa5s@db/x", "bob:pa5s@db/x"),
        ("postgresql+psycopg://bob:pa5s@db/x", "bob:pa5s@db/x"),
        ("postgresql://bob@db/x", "bob@db/x"),
        ("postgresql://db/x", "db/x"),
        ("postgres://bob:pa5s@db/x?sslmode=require", "bob:pa5s@db/x?sslmode=require"),
        ("postgresql://bob:p%40%2F%3A%23%25@db/x", "bob:p%40%2F%3A%23%25@db/x"),
        # As libpq does not, but as nothing else can be meant.
        ("postgresql://bob:p/:#?%@db/x", "bob:p/:#?%@db/x"),
        ("postgresql://bob:pa5s@[2001:db8::1]:5433/x", "bob:pa5s@[2001:db8::1]:5433/x"),
        ("postgresql:///x?host=/run/postgresql", "/x?host=/run/postgresql"),
        ("postgresql://bob@/x?host=/run/postgresql&port=5433", "bob@/x?host=/run/postgresql&port=5433"),
        ("postgresql:///x?host=a:5432&host=b:5432", "/x?host=a:5432&host=b:5432"),
    ],
)
def test_a_url_of_postgresql(written: str, read: str) -> None:
    settings = Settings.from_environ({"DATABASE_URL": written})
    assert settings.database_url == f"postgresql://{read}"


@pytest.mark.parametrize(
    "url",
    [
        "postgres://bob:ma@rked@db/x", "postgresql://bob:marked@db", "postgresql://bob:marked@db/",
        "postgresql://bob:mar ked@db/x", "postgresql://bob:marked@db:pg/x",
        "postgresql://bob:marked@a:5432,b:5432/x", "postgresql://bob:marked@[host]/x", "postgresql:",
        "postgresql:/bob:marked@db/x", "postgresql+asyncpg://bob:marked@db/x", "postgres", "postgresql://",
        "postgresql://bob:marked@db/x?host=a@b",
        "postgresql://bob:marked@db:/x",
    ],
)  # fmt: skip
def test_a_url_of_postgresql_that_cannot_be_meant_shows_no_part_of_its_password(url: str) -> None:
    """A host's name is shown where it is not found: what ends up there by mistake would be, too."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"DATABASE_URL": url})
    assert str(caught.value) == (
        f"DATABASE_URL: expected {POSTGRESQL}; percent-encode signs such as @ in the password: %40"
    )
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("environ", "processes"),
    [
        ({}, 1),
        ({"DATABASE_URL": "sqlite:///x.db"}, 1),
        ({"DATABASE_URL": "postgres://bob:pa5s@db/x"}, 2),
        ({"DATABASE_URL": "postgres://bob:pa5s@db/x", "WEB_CONCURRENCY": ""}, 2),
        ({"DATABASE_URL": "postgres://bob:pa5s@db/x", "WEB_CONCURRENCY": "1"}, 1),
        ({"DATABASE_URL": "sqlite:///postgresql.db"}, 1),
        ({"WEB_CONCURRENCY": "3"}, 3),
        # Heroku's buildpack sets it, and several processes can corrupt an SQLite database.
        ({"DYNO": "web.1", "WEB_CONCURRENCY": "3"}, 1),
        ({"DYNO": "web.1", "WEB_CONCURRENCY": "3", "DATABASE_URL": "postgres://bob:pa5s@db/x"}, 3),
    ],
)
def test_how_many_web_processes_there_are(environ: dict[str, str], processes: int) -> None:
    assert Settings.from_environ(environ).web_concurrency == processes


@pytest.mark.parametrize(
    ("bind", "port"),
    [("127.0.0.1:9", 9), ("[::1]:9", 9), ("localhost:9", 9), ("unix:/run/bridge", 8123), ("", 8123)],
)
def test_the_port_is_that_of_the_address(bind: str, port: int) -> None:
    """`send` and `init` need it."""
    settings = Settings.from_environ({"PORT": "8123", "BRIDGE_BIND": bind})
    assert (settings.bind, settings.port) == (bind, port)


@pytest.mark.parametrize(
    ("environ", "proxies"),
    [
        ({}, 0),
        ({"DYNO": "web.1"}, 1),
        ({"K_SERVICE": "bridge"}, 1),
        ({"RAILWAY_ENVIRONMENT": "production"}, 1),
        ({"RENDER": "true"}, 2),
        ({"FLY_APP_NAME": "bridge"}, 2),
        ({"DYNO": ""}, 0),
        ({"DYNO": "web.1", "BRIDGE_TRUSTED_PROXIES": ""}, 1),
        ({"DYNO": "web.1", "BRIDGE_TRUSTED_PROXIES": "0"}, 0),
        ({"DYNO": "web.1", "BRIDGE_TRUSTED_PROXIES": "2"}, 2),
        ({"BRIDGE_TRUSTED_PROXIES": "16"}, 16),
    ],
)
def test_how_many_proxies_are_trusted(environ: dict[str, str], proxies: int) -> None:
    assert Settings.from_environ(environ).trusted_proxies == proxies


@pytest.mark.parametrize(
    ("text", "retention", "unmatched"),
    [
        ("30d,7d", Retention(30 * DAY, 7 * DAY), 3 * DAY),
        ("30d, 7d", Retention(30 * DAY, 7 * DAY), 3 * DAY),
        ("30d", Retention(30 * DAY, 7 * DAY), 3 * DAY),
        ("2d", Retention(2 * DAY, 2 * DAY), 2 * DAY),
        ("7d,7d", Retention(7 * DAY, 7 * DAY), 3 * DAY),
        ("30d,1h", Retention(30 * DAY, 3600), 3 * DAY),
    ],
)
def test_how_long_is_kept(text: str, retention: Retention, unmatched: float) -> None:
    found = Settings.from_environ({"BRIDGE_RETENTION": text}).retention
    assert found == retention
    assert found.unmatched == unmatched


@pytest.mark.parametrize(
    "text", ["30", "30d,", ",7d", "30d,7d,3d", "30d 7d", "30d;7d", "0d", "forever", "30d,off"]
)
def test_what_says_not_how_long_is_kept(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"BRIDGE_RETENTION": text})
    expected = "expected the retention of events and of their bodies, such as 30d,7d"
    assert str(caught.value).startswith(
        f"BRIDGE_RETENTION: found {text!r}; {expected}; a duration is a number"
    )


def test_a_body_is_not_kept_longer_than_its_event() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"BRIDGE_RETENTION": "7d,30d"})
    assert str(caught.value) == (
        "BRIDGE_RETENTION: found '7d,30d'; "
        "the second value (bodies) must not be longer than the first value (events)"
    )


@pytest.mark.parametrize("text", [" ", "\t \t", "\u200b", "\x1b"])
def test_a_blank_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, "utf-8")
    for environ in (
        {"BRIDGE_STATUS_TOKEN": text},
        {"BRIDGE_STATUS_TOKEN_FILE": str(tmp_path / "token")},
    ):
        with pytest.raises(SettingsError) as caught:
            Settings.from_environ(environ)
        assert str(caught.value) == "BRIDGE_STATUS_TOKEN: it is blank; create one with openssl rand -hex 32"


def test_what_is_private_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    (tmp_path / "url").write_text("postgres://bob:pa5s@db/x\n")
    environ = {
        "BRIDGE_STATUS_TOKEN_FILE": str(tmp_path / "token"),
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "PORT_FILE": "/nowhere",
    }
    settings = Settings.from_environ(environ)
    assert settings.status_token == Secret("from-a-file")
    assert settings.database_url == "postgresql://bob:pa5s@db/x"
    assert settings.web_concurrency == 2
    with pytest.raises(SettingsError, match="the file that BRIDGE_STATUS_TOKEN_FILE names is not a regular"):
        Settings.from_environ({"BRIDGE_STATUS_TOKEN_FILE": str(tmp_path)})


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_whether_web_processes_deliver(text: str) -> None:
    assert Settings.from_environ({"BRIDGE_DELIVER": text}).deliver is (text.lower() == "true")


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"PORT": "x", "LOG_LEVEL": "y"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "PORT",
        "LOG_LEVEL",
    ]


def test_settings_show_no_variable_of_the_table() -> None:
    settings = Settings.from_environ({"GITHUB_SECRET": "marked"})
    assert settings.environment["GITHUB_SECRET"] == "marked"
    assert "marked" not in repr(settings)


def test_settings_come_from_the_process_where_nothing_else_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (variable.name for variable in VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", "1234")
    assert Settings.from_environ().port == 1234


# The table's variables


def test_a_variable_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"from the file\n")
    environ = {
        "A": "a",
        "B": "",
        "B_FILE": str(file),
        "C_FILE": str(file),
        "D": "",
        "E_FILE": "",
        "A_FILE": "/none",
    }
    variables = Environment(environ)
    assert variables["A"] == "a"
    assert variables["B"] == variables["C"] == "from the file"
    for name in ("D", "E", "F", ""):
        assert name not in variables
        with pytest.raises(KeyError):
            variables[name]
    assert variables.get("F", "other") == "other"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"x", "x"), (b"x\n", "x"), (b"x\n\n", "x\n"), (b"x\r\n", "x"), (b"x\r", "x\r"), (b"\nx", "\nx"),
        (b"x\r\n\r\n", "x\r\n"), (b" x \n", " x "), (b"a\nb\n", "a\nb"), (b"a\r\nb", "a\r\nb"),
        ("pä😀\n".encode(), "pä😀"),
    ],
)  # fmt: skip
def test_one_trailing_newline_of_a_file_is_cut(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert Environment({"A_FILE": str(tmp_path / "secret")})["A"] == value


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_is_unset(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert "A" not in Environment({"A_FILE": str(tmp_path / "secret")})


def test_a_file_that_cannot_be_read_is_named_by_its_variable_alone(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xffmarked")
    for path, message in [
        ("/marked/none", "cannot be read: No such file or directory"),
        (str(tmp_path), "is not a regular file"),
        ("marked" * 1000, "cannot be read: File name too long"),
        (str(tmp_path / "marked"), "is not UTF-8 text"),
    ]:
        with pytest.raises(SettingsError) as caught:
            Environment({"A_FILE": path})["A"]
        assert str(caught.value) == f"the file that A_FILE names {message}"


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "/dev/zero", "/dev/tty", "socket", "folder"])
def test_a_file_that_is_not_regular_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secret"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind.endswith("pipe"):
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(kind)
        before = open_files()
        with pytest.raises(SettingsError) as caught:
            Environment({"A_FILE": str(path)})["A"]
    why = str(caught.value).removeprefix("the file that A_FILE names ")
    assert why in ("is not a regular file", "cannot be read: No such device or address")
    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    """Kubernetes mounts each secret as a link through a link."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "token").write_bytes(b"from the file\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "token").symlink_to("..data/token")
    assert Environment({"A_FILE": str(tmp_path / "token")})["A"] == "from the file"


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * MAX_SECRET_FILE_BYTES)
    variables = Environment({"A_FILE": str(tmp_path / "secret")})
    assert len(variables["A"]) == MAX_SECRET_FILE_BYTES
    (tmp_path / "secret").write_bytes(b"x" * (MAX_SECRET_FILE_BYTES + 1))
    with pytest.raises(SettingsError) as caught:
        variables["A"]
    assert str(caught.value) == "the file that A_FILE names is larger than 64 KiB"


# Secrets


def test_a_secret_shows_in_no_way() -> None:
    secret = Secret("marked")
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret!s:>20}",
        logging.LogRecord("x", logging.INFO, "x.py", 1, "%s and %r", (secret, [secret]), None).getMessage(),
        repr([secret]),
        repr({"key": secret}),
        str((secret,)),
    ]
    assert b"marked" not in orjson.dumps([secret, BasicCredentials("bob", secret)])
    assert not [text for text in shown if "marked" in text or "<secret>" not in text]
    assert secret.reveal() == "marked"
    assert secret == Secret("marked")
    assert secret != Secret("other")


SECRETS = (
    "s3cret-one",
    'with "quotes" \\ and\ttab',
    "ümläut😀",
    "a/b?c=d&e f+g",
    "(.*)[",
    "line\nline",
    "byte\udcff",
    "a'b\"",
)


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("spelling", ["as it is", "in a URL", "in JSON", "as base64", "in capitals"])
def test_a_known_secret_is_masked_in_every_spelling(text: str, spelling: str) -> None:
    encodable = text.encode("utf-8", "backslashreplace").decode()
    spelled = {
        "as it is": text,
        "in a URL": quote(encodable, safe=""),
        "in JSON": orjson.dumps(encodable).decode()[1:-1],
        "as base64": b64encode(encodable.encode()).decode(),
        "in capitals": text.swapcase(),
    }[spelling]
    assert Mask([Secret(text)])(f"before <{spelled}> after") == "before <<secret>> after"


def test_the_longest_secret_is_masked_first() -> None:
    mask = Mask([Secret("abcd"), Secret("abcdefgh"), Secret("")])
    assert mask("abcdefgh abcd abc") == "<secret> <secret> abc"


def test_a_mask_learns() -> None:
    mask = Mask()
    assert mask("first second") == "first second"
    mask.add([Secret("first")])
    mask.add([Secret("second")])
    mask.add([])
    assert mask("first second third") == "<secret> <secret> third"


@pytest.mark.parametrize(
    "text",
    ["", " ", "\t", "    ", "\n\n\n\n\n", "\u00a0" * 9, "\u200b" * 9, "\x00\x01\x7f\x9b", "abc", " a b "],
)
def test_a_secret_that_is_blank_or_very_short_masks_no_line(text: str) -> None:
    line = f"2026-01-01 INFO  bridge: event 1:\tpush{text}from abc   with      blanks\n\n\n\n\n"
    assert Mask([Secret(text)])(line) == line


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "POST https://x/job/secret/abc123?customer=acme",
            "POST https://x/job/secret/<secret>?customer=acme",
        ),
        ("url: /job/secret/abc/ (Caused by", "url: /job/secret/<secret>/ (Caused by"),
        ("'/job/secret/abc'", "'/job/secret/<secret>'"),
        ("/JOB/SECRET/abc", "/JOB/SECRET/<secret>"),
        ("?access_token=abc&x=1", "?access_token=<secret>&x=1"),
        ("/hooks/x?token=a.b-c HTTP/1.1", "/hooks/x?token=<secret> HTTP/1.1"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer <secret>"),
        ("authorization: basic Ym9iOnB3", "authorization: basic <secret>"),
        ("/job/secret/<secret>?customer=acme", "/job/secret/<secret>?customer=acme"),
        ("nothing to hide", "nothing to hide"),
        ("half a pair \ud800", "half a pair \\ud800"),
        ("nul \x00 and\nlines", "nul \x00 and\nlines"),
    ],
)
def test_where_secrets_stand_is_masked(text: str, masked: str) -> None:
    assert Mask()(text) == masked


@given(st.text(min_size=1), st.text(), st.text())
def test_no_text_around_a_secret_unmasks_it(secret: str, before: str, after: str) -> None:
    unmistakable = f"marked{secret}marked"
    masked = Mask([Secret(unmistakable)])(before + unmistakable + after)
    outside = Mask()(before) + Mask()(after)
    assert masked.lower().count("marked") <= outside.lower().count("marked")


@given(st.text())
def test_a_mask_never_raises(text: str) -> None:
    assert isinstance(Mask([Secret(text), Secret("x")])(text), str)


def test_what_a_mask_leaves_can_be_written_as_utf_8() -> None:
    for text in ("\ud800", "a\udfffb", "\udcff" * 3):
        Mask([Secret(text)])(text).encode()


def test_the_environment_is_read_by_one_module_alone() -> None:
    bridge = Path(__file__).parents[3] / "bridge"
    uses = [
        path.name
        for path in bridge.rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text("utf-8"))
    ]
    assert uses == ["settings.py"]
