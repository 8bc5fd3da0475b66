"""The environment, read once: Settings, Secret, the mask.

The only module that touches ``os.environ``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, unquote_plus

import orjson
import re2

from bridge.errors import SettingsError
from bridge.units import byte_count, duration
from bridge.variables import Variables

T = TypeVar("T")

#: A secret with fewer characters is easily guessed; `check` and every start warn of it.
SHORT_SECRET = 8
#: A secret with fewer characters is not masked: most lines of a log would contain it by chance.
MIN_MASKED = 4
#: Unicode categories of characters that print nothing: blanks, control and format characters.
_BLANKS = ("Cc", "Cf", "Zl", "Zp", "Zs")


def visible(text: str) -> str:
    """The text without its blanks, control characters and zero-width characters."""
    return "".join(each for each in text if unicodedata.category(each) not in _BLANKS)


@dataclass(frozen=True, repr=False)
class Secret:
    """A text that must not be seen: it prints as ``<secret>``; `reveal` gives it."""

    _text: str

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


class Mask:
    """Takes every known secret out of a text, and what stands where secrets stand.

    Known secrets go in any case and in the spellings they travel in (as they are,
    in a URL, inside JSON, as base64); those with fewer than MIN_MASKED visible characters stay. The places
    are those of TheEye's API (``/job/secret/<key>``, ``access_token=``), of an ``Authorization`` value,
    and of ``?token=``.
    """

    PLACES = (
        r"(/secret/)[^/?#\s\"'<>\\]+",
        r"((?:access_)?token=)[^&\s\"'<>\\]+",
        r"((?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{6,}",
    )

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = False
        options.max_mem = 64 << 20
        self._places = re2.compile("|".join(self.PLACES), options)
        self._options = options
        self._spellings: frozenset[str] = frozenset()
        self._known: Any = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Mask these too from now on."""
        texts = {_encodable(secret.reveal()) for secret in secrets}
        known = [text for text in texts if len(visible(text)) >= MIN_MASKED]
        self._spellings |= {spelling for text in known for spelling in _spellings(text)}
        if self._spellings:
            longest_first = sorted(self._spellings, key=len, reverse=True)
            self._known = re2.compile("|".join(re2.escape(text) for text in longest_first), self._options)

    def finds_secret(self, text: str) -> bool:
        """Whether a part of a request's head holds a known secret.

        It may also be %-encoded in part, as some proxies do, or UTF-8 that WSGI gives as Latin-1. Secrets
        of fewer than SHORT_SECRET characters are not looked for: an id may contain one by chance.
        """
        if self._known is None:
            return False
        text = _encodable(text)
        forms = {text, unquote(text), unquote_plus(text)}
        if not text.isascii():
            forms.add(text.encode("latin-1", "replace").decode("utf-8", "replace"))
        found = (found[0] for form in forms for found in self._known.finditer(form))
        return any(len(text) >= SHORT_SECRET for text in found)

    def __call__(self, text: str) -> str:
        text = _encodable(text)
        if self._known is not None:
            text = self._known.sub("<secret>", text)
        masked: str = self._places.sub(lambda found: (found[1] or found[2] or found[3]) + "<secret>", text)
        return masked


def _encodable(text: str) -> str:
    """The text without lone surrogates (bytes of the environment that are no UTF-8), which RE2 refuses."""
    return text.encode("utf-8", "backslashreplace").decode()


def _spellings(text: str) -> set[str]:
    in_json = orjson.dumps(text).decode()[1:-1]
    return {text, quote(text, safe=""), in_json, b64encode(text.encode()).decode()}


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return int(text)


def _processes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise ValueError("a number of processes is from 1 to 64")
    return int(text)


def _proxies(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 16:
        raise ValueError("a number of proxies is from 0 to 16")
    return int(text)


#: How many proxies add to X-Forwarded-For on a platform, by a variable that it sets. On Render, Cloudflare is
#: one; Fly.io adds the app's own address: https://fly.io/docs/networking/request-headers/
PLATFORMS = {"DYNO": 1, "K_SERVICE": 1, "RAILWAY_ENVIRONMENT": 1, "RENDER": 2, "FLY_APP_NAME": 2}


#: A second @ would make the end of a password a part of the host, which messages show.
_POSTGRESQL = re.compile(
    r"postgres(?:ql)?(?:\+psycopg)?://"
    r"((?:[^\s:/@]*(?::[^\s@]*)?@)?"  # user and password
    r"(?:[^\s:/?@\[\]]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"  # host and port
    r"/[^\s/?@]+(?:\?[^\s@]*)?)"  # name and options
)


def _database_url(text: str) -> str:
    if found := _POSTGRESQL.fullmatch(text):
        return f"postgresql://{found[1]}"
    if text.startswith("postgres"):
        raise ValueError(
            "expected postgresql://user:password@host:port/name, where a sign such as @ in the password is "
            "written by its number: %40"
        )
    if text == "sqlite:///:memory:":
        raise ValueError("a database in memory loses what was answered; use sqlite:///path/to/file.db")
    if not re.fullmatch(r"sqlite:///[^?]+", text):
        raise ValueError("expected sqlite:///path/to/file.db or postgresql://user:password@host:port/name")
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower() == "true"


def _secret(text: str) -> Secret | None:
    if text and not visible(text):
        raise ValueError("it is blank; make one with openssl rand -hex 32")
    return Secret(text) if text else None


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"expected one of {', '.join(words)}")

    return read


@dataclass(frozen=True)
class Retention:
    """How long what is stored is kept, in seconds; what still waits is kept for as long as it does."""

    #: Events, with their jobs and attempts.
    events: float
    #: The events' bodies; not longer than the events.
    bodies: float

    @property
    def unmatched(self) -> float:
        """Events that made no job."""
        return min(UNMATCHED, self.events)


#: How long, in seconds, an event that made no job is kept at the most, and a body unless it is said.
UNMATCHED = 3 * 86400.0
BODIES = 7 * 86400.0


def _retention(text: str) -> Retention:
    events, comma, bodies = (part.strip() for part in text.partition(","))
    try:
        kept = duration(events)
        retention = Retention(kept, duration(bodies) if comma else min(BODIES, kept))
    except ValueError as error:
        raise ValueError(
            f"expected how long events, and then their bodies, are kept: 30d,7d; {error}"
        ) from None
    if retention.bodies > retention.events:
        raise ValueError("bodies, the second, cannot be kept longer than their events")
    return retention


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, its default as one would write it, what it is for."""

    name: str
    default: str
    meaning: str
    read: Callable[[str], Any]
    #: Its value may hold a password: no message shows it.
    private: bool = False


#: Every variable that the bridge itself reads; docs/reference/environment.md is generated from it.
VARIABLES = (
    Variable("PORT", "8000", "the port on which the server listens, on all interfaces", _port),
    Variable(
        "DATABASE_URL",
        "sqlite:///var/bridge.db",
        "the database of events, jobs and attempts",
        _database_url,
        private=True,
    ),
    Variable("BRIDGE_CONFIG", "config", "the folder or the file of the routing table", Path),
    Variable("BRIDGE_DELIVER", "true", "web processes also deliver jobs; set false if workers do", _boolean),
    Variable(
        "BRIDGE_DRY_RUN",
        "false",
        "true: do everything except the POST to TheEye; due jobs, including the backlog, become skipped",
        _boolean,
    ),
    Variable("BRIDGE_MAX_BODY", "25MiB", "the largest body of a webhook", byte_count),
    Variable(
        "BRIDGE_RETENTION",
        "30d,7d",
        "how long events with their jobs, and then bodies, are stored",
        _retention,
    ),
    Variable(
        "BRIDGE_STATUS_TOKEN",
        "",
        "the token for the details of `/readyz`, in `Authorization: Bearer …`; unset, nobody sees them",
        _secret,
        private=True,
    ),
    Variable(
        "BRIDGE_TRUSTED_PROXIES",
        "0",
        "how many proxies set X-Forwarded-For; unset, 1 on Heroku, Cloud Run, Railway, 2 on Render, Fly.io",
        _proxies,
    ),
    Variable(
        "BRIDGE_STOP_TIMEOUT",
        "20s",
        "how long a stop may take, for requests and sends in progress",
        duration,
    ),
    Variable("WEB_CONCURRENCY", "1", "the number of web processes; unset, 2 on PostgreSQL", _processes),
    Variable(
        "LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR", _one_of("DEBUG", "INFO", "WARNING", "ERROR")
    ),
    Variable("LOG_FORMAT", "json", "json (one object a line) or text", _one_of("json", "text")),
)

#: Variables of the design that have not come yet: set, they are refused and not ignored.
LATER = (
    "BRIDGE_ADMIN_PASSWORD",
    "BRIDGE_ENCRYPTION_KEY",
)


#: Where platforms name the commit that they deployed; the first that is set counts.
COMMIT_VARIABLES = (
    "SOURCE_VERSION",
    "HEROKU_BUILD_COMMIT",
    "HEROKU_SLUG_COMMIT",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
    "KOYEB_GIT_SHA",
    "CC_COMMIT_ID",
    "GIT_REV",
    "GIT_COMMIT",
    "COMMIT_SHA",
)
#: A commit, or a tag: it is stored with every job.
_COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/+-]{0,99}")


def _commit(environ: Mapping[str, str]) -> str | None:
    named = (environ.get(name, "").strip() for name in COMMIT_VARIABLES)
    return next((text for text in named if _COMMIT.fullmatch(text)), None)


@dataclass(frozen=True)
class Settings:
    """What the environment says, read and checked."""

    port: int
    #: An SQLAlchemy URL.
    database_url: str
    #: The folder or file of the routing table.
    config: Path
    #: Whether web processes deliver.
    deliver: bool
    #: Whether nothing is sent to TheEye.
    dry_run: bool
    #: Bytes.
    max_body: int
    #: How many proxies, each of which adds to X-Forwarded-For, a request passes.
    trusted_proxies: int
    retention: Retention
    #: Opens the details of ``/readyz``; None shows them to nobody.
    status_token: Secret | None
    #: Seconds.
    stop: float
    web_concurrency: int
    log_level: str
    log_format: str
    #: The deployed commit, where the platform names it.
    commit: str | None
    #: What ``${{ env.NAME }}`` reads.
    variables: Variables

    @property
    def is_colorless(self) -> bool:
        """Whether a terminal is to show no colour: NO_COLOR says so, or it is a dumb one."""
        return "NO_COLOR" in self.variables or self.variables.get("TERM") == "dumb"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Those of the settings, for the mask."""
        return () if self.status_token is None else (self.status_token,)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `environ` (default: the process's own). Raises SettingsError naming every wrong variable."""
        environ = os.environ if environ is None else environ
        mistakes = [f"{name} is not supported yet; unset it" for name in LATER if environ.get(name)]
        values: dict[str, Any] = {}
        files = Variables(environ)
        for variable in VARIABLES:
            try:
                found = files.get(variable.name) if variable.private else environ.get(variable.name)
                text = found or variable.default
                values[variable.name] = variable.read(text)
            except SettingsError as error:
                mistakes.append(str(error))
            except ValueError as error:
                shown = "" if variable.private else f"found {text!r}; "
                mistakes.append(f"{variable.name}: {shown}{error}")
        if mistakes:
            raise SettingsError("\n".join(mistakes))
        if values["DATABASE_URL"].startswith("postgresql") and not environ.get("WEB_CONCURRENCY"):
            values["WEB_CONCURRENCY"] = 2
        if not environ.get("BRIDGE_TRUSTED_PROXIES"):
            values["BRIDGE_TRUSTED_PROXIES"] = max(
                (proxies for name, proxies in PLATFORMS.items() if environ.get(name)), default=0
            )
        return cls(
            port=values["PORT"],
            database_url=values["DATABASE_URL"],
            config=values["BRIDGE_CONFIG"],
            deliver=values["BRIDGE_DELIVER"],
            dry_run=values["BRIDGE_DRY_RUN"],
            max_body=values["BRIDGE_MAX_BODY"],
            trusted_proxies=values["BRIDGE_TRUSTED_PROXIES"],
            retention=values["BRIDGE_RETENTION"],
            status_token=values["BRIDGE_STATUS_TOKEN"],
            stop=values["BRIDGE_STOP_TIMEOUT"],
            web_concurrency=values["WEB_CONCURRENCY"],
            log_level=values["LOG_LEVEL"],
            log_format=values["LOG_FORMAT"],
            commit=_commit(environ),
            variables=Variables(environ),
        )
