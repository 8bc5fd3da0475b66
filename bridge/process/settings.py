"""Settings: the environment variables of the bridge, read once. Only this module reads ``os.environ``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.core.errors import SettingsError
from bridge.core.secrets import Secret, strip_invisible
from bridge.core.suggestions import closest_match, did_you_mean
from bridge.core.units import parse_byte_count, parse_duration
from bridge.process.api_tokens import ApiToken, parse_api_tokens
from bridge.process.environment import Environment


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
            raise ValueError(f"expected a number from {lowest} to {highest}")
        return int(text)

    return read


#: How many proxies add to X-Forwarded-For on a platform, by a variable that the platform sets. Render has
#: Cloudflare, too; Fly.io adds the app's own address: https://fly.io/docs/networking/request-headers/
PLATFORMS = {"DYNO": 1, "K_SERVICE": 1, "RAILWAY_ENVIRONMENT": 1, "RENDER": 2, "FLY_APP_NAME": 2}
#: Variables in containers whose disk is deleted at each restart or deploy.
DISK_DELETING = (*PLATFORMS, "KOYEB_APP_NAME", "KUBERNETES_SERVICE_HOST")

#: Without a second @: it would make the end of a password a part of the host, which messages show.
_POSTGRESQL = re.compile(
    r"postgres(?:ql)?(?:\+psycopg)?://"
    r"((?:[^\s:/@]*(?::[^\s@]*)?@)?"  # user and password
    r"(?P<host>[^\s:/?@\[\]]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"  # host and port
    r"/[^\s/?@]+(?:\?[^\s@]*)?)"  # name and options
)
_SHAPE = "postgresql://user:password@host:port/name"


def _database_url(text: str) -> str:
    if text.strip(" \t\r\n\"'") != text:
        raise ValueError("it begins or ends with a blank, a line break or a quote: remove it")
    if found := _POSTGRESQL.fullmatch(text):
        if not found["host"] and not re.search(r"[?&](host|hostaddr|service)=", found[1]):
            raise ValueError("the host is missing; write localhost, or ?host=/run/postgresql for a socket")
        return f"postgresql://{found[1]}"
    scheme, _, rest = text.partition(":")
    if text.startswith("postgres") and scheme.partition("+")[0] in ("postgres", "postgresql"):
        raise ValueError(f"expected {_SHAPE}; percent-encode signs such as @ in the password: %40")
    if text == "sqlite:///:memory:":
        raise ValueError("a database in memory loses webhooks; use sqlite:///path/to/file.db")
    if re.fullmatch(r"sqlite:///[^?]*[^?/]", text):
        return text
    if scheme == "sqlite":
        raise ValueError("expected sqlite:///path/to/file.db, or sqlite:////path for an absolute path")
    # Only a scheme is shown: what follows may be a password.
    if re.fullmatch("[A-Za-z][A-Za-z0-9+.-]{1,20}", scheme) and rest.startswith("//"):
        guess = did_you_mean(scheme.lower(), ("sqlite", "postgresql"))
        raise ValueError(f"unknown scheme {scheme!r}{guess}; expected sqlite:///path/to/file.db or {_SHAPE}")
    raise ValueError(f"it has no scheme; expected {_SHAPE}, or sqlite:/// before the path of a file")


def _bind(text: str) -> str:
    if re.fullmatch(r"unix:/[^\0]+", text):
        return text
    found = re.fullmatch(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text, re.ASCII)
    if text and (found is None or int(found[2]) > 65535):
        raise ValueError("expected host:port, such as 127.0.0.1:8000 or [::1]:8000, or unix:/path/to/socket")
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower() == "true"


def _secret(text: str) -> Secret | None:
    if text and not strip_invisible(text):
        raise ValueError("it is blank; create one with openssl rand -hex 32")
    return Secret(text) if text else None


def _public_url(text: str) -> str | None:
    if text and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[^\s?#]*)?", text):
        raise ValueError("expected an address such as https://bridge.example.org")
    return text.rstrip("/") or None


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"expected one of {', '.join(filter(None, words))}")

    return read


@dataclass(frozen=True)
class Retention:
    """How long data is stored, in seconds. Jobs that wait, and their events, stay until they end."""

    #: Events, with their jobs and attempts.
    events: float
    #: The events' bodies; at most as long as the events.
    bodies: float

    @property
    def unmatched(self) -> float:
        """Events that made no job."""
        return min(MAX_UNMATCHED_RETENTION, self.events)


#: The longest retention of events without jobs, and the default one of bodies, seconds.
MAX_UNMATCHED_RETENTION = 3 * 86400.0
DEFAULT_BODY_RETENTION = 7 * 86400.0


def _retention(text: str) -> Retention:
    events, comma, bodies = (part.strip() for part in text.partition(","))
    try:
        seconds = parse_duration(events)
        retention = Retention(
            seconds, parse_duration(bodies) if comma else min(DEFAULT_BODY_RETENTION, seconds)
        )
    except ValueError as error:
        raise ValueError(
            f"expected the retention of events and of their bodies, such as 30d,7d; {error}"
        ) from None
    if retention.bodies > retention.events:
        raise ValueError("the second value (bodies) must not be longer than the first value (events)")
    return retention


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    #: As a user would write it.
    default: str
    #: For the documentation.
    meaning: str
    read: Callable[[str], Any]
    #: Whether its value may hold a password: no message shows it.
    private: bool = False
    #: For the documentation: its defaults elsewhere.
    otherwise: str = ""

    @property
    def setting(self) -> str:
        """The attribute of Settings that holds its value."""
        return self.name.removeprefix("BRIDGE_").lower()


#: Every variable of the bridge; the documentation's table is tested against it.
VARIABLES = (
    Variable("PORT", "8000", "the port on which the server listens, on all interfaces", _number(0, 65535)),
    Variable(
        "BRIDGE_BIND",
        "",
        "the address on which the server listens instead of `PORT`: `host:port` or `unix:/path/to/socket`",
        _bind,
    ),
    Variable(
        "DATABASE_URL",
        "sqlite:///var/bridge.db",
        "the database of events, jobs and attempts",
        _database_url,
        private=True,
    ),
    Variable(
        "BRIDGE_PERSISTENT_DISK",
        "false",
        "true: the disk of an SQLite database survives restarts and deploys, so do not warn about it",
        _boolean,
    ),
    Variable("BRIDGE_CONFIG", "config", "the folder or the file of the routing table", Path),
    Variable(
        "BRIDGE_DELIVER",
        "true",
        "web processes also deliver jobs; set false if workers deliver them",
        _boolean,
    ),
    Variable(
        "BRIDGE_DRY_RUN",
        "false",
        "true: do not send jobs to TheEye; due jobs, also those that already wait, become skipped",
        _boolean,
    ),
    Variable("BRIDGE_MAX_BODY", "25MiB", "the largest body of a webhook", parse_byte_count),
    Variable(
        "BRIDGE_RETENTION",
        "30d,7d",
        "two durations: how long events and jobs are stored, and how long bodies are stored",
        _retention,
    ),
    Variable(
        "BRIDGE_STATUS_TOKEN",
        "",
        "the token for `/metrics` and the details of `/readyz`, in `Authorization: Bearer …`; without it, "
        "`/metrics` answers 404, and the details are in the log",
        _secret,
        private=True,
    ),
    Variable(
        "BRIDGE_ADMIN_PASSWORD",
        "",
        "the password of the page; without it, the page is closed",
        _secret,
        private=True,
    ),
    Variable(
        "BRIDGE_API_TOKENS",
        "",
        "the tokens of the API: `name:read:token` or `name:write:token`, separated by commas",
        parse_api_tokens,
        private=True,
    ),
    Variable(
        "BRIDGE_PUBLIC_URL",
        "",
        "the address of the bridge for links, such as https://bridge.example.org",
        _public_url,
        otherwise="the address of the request",
    ),
    Variable(
        "BRIDGE_TRUSTED_PROXIES",
        "0",
        "the number of proxies that append to X-Forwarded-For",
        _number(0, 16),
        otherwise="1 on Heroku, Cloud Run, Railway; 2 on Render, Fly.io",
    ),
    Variable(
        "BRIDGE_STOP_TIMEOUT",
        "20s",
        "how long a process that stops may take to finish the requests and attempts in progress",
        parse_duration,
    ),
    Variable(
        "WEB_CONCURRENCY",
        "1",
        "the number of web processes; on SQLite, Heroku's and Dokku's value has no effect",
        _number(1, 64),
        otherwise="2 on PostgreSQL",
    ),
    Variable(
        "LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR", _one_of("DEBUG", "INFO", "WARNING", "ERROR")
    ),
    Variable(
        "LOG_FORMAT", "", "json or text; unset: text on a terminal, else json", _one_of("json", "text", "")
    ),
)

#: Variables in which platforms name the deployed commit; the first that is set counts.
COMMIT_VARIABLES = (
    "SOURCE_VERSION", "HEROKU_BUILD_COMMIT", "HEROKU_SLUG_COMMIT", "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA", "KOYEB_GIT_SHA", "CC_COMMIT_ID", "GIT_REV", "GIT_COMMIT", "COMMIT_SHA",
)  # fmt: skip
#: A variable that Kubernetes sets in every pod beside a service named `bridge`.
_SERVICE_LINK = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)
#: A commit or a tag.
_COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/+-]{0,99}")


def _commit(environ: Mapping[str, str]) -> str | None:
    named = (environ.get(name, "").strip() for name in COMMIT_VARIABLES)
    return next((text for text in named if _COMMIT.fullmatch(text)), None)


@dataclass(frozen=True)
class Settings:
    """The environment variables, read and checked."""

    port: int
    #: gunicorn's form of one address; empty: every interface, on `port`.
    bind: str
    #: An SQLAlchemy URL.
    database_url: str
    #: Whether the disk of an SQLite database survives, although it may not look so.
    persistent_disk: bool
    #: The folder or file of the routing table.
    config: Path
    #: Whether web processes deliver.
    deliver: bool
    #: Whether nothing is sent to TheEye.
    dry_run: bool
    #: Bytes.
    max_body: int
    #: How many proxies add to a request's X-Forwarded-For.
    trusted_proxies: int
    retention: Retention
    #: Shows ``/metrics`` and the details of ``/readyz``; None: only the log has the details.
    status_token: Secret | None
    #: The password of the page; None: the page is closed.
    admin_password: Secret | None
    #: Without any, the API is closed.
    api_tokens: tuple[ApiToken, ...]
    #: Without a slash at its end.
    public_url: str | None
    #: Seconds.
    stop_timeout: float
    web_concurrency: int
    log_level: str
    #: Empty: it depends on whether standard error is a terminal.
    log_format: str
    #: The deployed commit, if the platform names it.
    commit: str | None
    #: The variable that shows a container whose disk is deleted, if one is set.
    disk_deleting: str | None
    #: For ``${{ env.NAME }}``.
    environment: Environment

    @property
    def is_colorless(self) -> bool:
        """Whether a terminal shows no colour: NO_COLOR is set, or the terminal is dumb."""
        return "NO_COLOR" in self.environment or self.environment.get("TERM") == "dumb"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets among the settings, for the mask."""
        single = (each for each in (self.status_token, self.admin_password) if each is not None)
        return *single, *(each.secret for each in self.api_tokens)

    def unknown_variables(self) -> list[str]:
        """Return a line for each variable named like one of the bridge that nothing reads.

        The table must be loaded before: it may read such a variable.
        """
        names = {variable.name: variable.name.removeprefix("BRIDGE_") for variable in VARIABLES}
        private = [variable.name for variable in VARIABLES if variable.private]
        read = {*names, *self.environment.requested}
        read |= {f"{name}_FILE" for name in (*private, *self.environment.requested)}
        lines = []
        for name in sorted(self.environment):
            is_short = f"BRIDGE_{name}" in names
            is_ours = is_short or (name.startswith("BRIDGE_") and not _SERVICE_LINK.search(name))
            if is_ours and name not in read:
                # The prefix alone would make every name similar.
                near = name if is_short else closest_match(name.removeprefix("BRIDGE_"), names.values())
                meant = "".join(f"; did you mean {each}?" for each, short in names.items() if short == near)
                lines.append(f"the bridge has no variable {name} and ignores it{meant}")
        return lines

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `environ` (default: the process's own). Raises SettingsError with every mistake."""
        environ = os.environ if environ is None else environ
        environment = Environment(environ)
        mistakes: list[str] = []
        values: dict[str, Any] = {}
        for variable in VARIABLES:
            try:
                text = (environment if variable.private else environ).get(variable.name) or variable.default
                values[variable.setting] = variable.read(text)
            except SettingsError as error:
                mistakes.append(str(error))
            except ValueError as error:
                shown = "" if variable.private else f"found {text!r}; "
                mistakes.append(f"{variable.name}: {shown}{error}")
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        if (port := values["bind"].rpartition(":")[2]).isdigit():
            values["port"] = int(port)
        on_postgresql = values["database_url"].startswith("postgresql")
        if on_postgresql and not environ.get("WEB_CONCURRENCY"):
            values["web_concurrency"] = 2
        elif not on_postgresql and environ.get("DYNO"):
            # Heroku's buildpack sets it, and several processes can corrupt an SQLite database.
            values["web_concurrency"] = 1
        if not environ.get("BRIDGE_TRUSTED_PROXIES"):
            platforms = (proxies for name, proxies in PLATFORMS.items() if environ.get(name))
            values["trusted_proxies"] = max(platforms, default=0)
        return cls(
            **values,
            commit=_commit(environ),
            disk_deleting=next((name for name in DISK_DELETING if environ.get(name)), None),
            # A new Environment: the table is not reloaded for files that the settings alone name.
            environment=Environment(environ),
        )
