"""Sign-in with BRIDGE_ADMIN_PASSWORD: the session in a signed cookie, and a limit of tries."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import scrypt, sha256

from flask import Flask, Request, request, session
from flask.sessions import SecureCookieSessionInterface

from bridge.core.client_network import network_of
from bridge.core.secrets import Secret
from bridge.process.settings import Settings
from bridge.web.client_address import client_address

#: How long a session lasts, and how long without a request, seconds. No list of sessions is stored, so a copy
#: of a cookie outlives the sign-out until then.
SESSION_SECONDS = 12 * 3600
IDLE_SECONDS = 3600
#: How old the time of the last request in the cookie may be, seconds: not every answer sets a cookie.
_RENEWAL_SECONDS = 60
#: Failed tries of one client without a wait, and the longest wait, seconds. Waits double.
FREE_TRIES = 4
LONGEST_WAIT_SECONDS = 30.0
#: A client's failures are forgotten after so long, seconds.
FORGET_SECONDS = 900.0
#: The longest name of a person.
NAME_CHARACTERS = 100
#: The most clients that are remembered.
CLIENTS_LIMIT = 4096


@dataclass
class _Tries:
    failed: int = 0
    #: When the next try counts, ``time.monotonic()``.
    next_at: float = 0.0


class TryLimiter:
    """How often one client may try a password. Thread-safe.

    A client is an IPv4 address or an IPv6 /64. Only its own tries make it wait, and never longer than
    LONGEST_WAIT_SECONDS: nobody can lock out another.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._of_client: OrderedDict[str, _Tries] = OrderedDict()

    def wait(self, client: str) -> float:
        """Return how many seconds the client must wait before its next try counts."""
        with self._lock:
            tries = self._of_client.get(network_of(client))
            return 0.0 if tries is None else max(0.0, tries.next_at - self._clock())

    def failed(self, client: str) -> None:
        """Record a wrong password."""
        now, network = self._clock(), network_of(client)
        with self._lock:
            tries = self._of_client.pop(network, None)
            if tries is None or now - tries.next_at > FORGET_SECONDS:
                tries = _Tries()
            tries.failed += 1
            wait = 2.0 ** (tries.failed - FREE_TRIES) if tries.failed > FREE_TRIES else 0.0
            tries.next_at = now + min(wait, LONGEST_WAIT_SECONDS)
            self._of_client[network] = tries
            while len(self._of_client) > CLIENTS_LIMIT:
                self._of_client.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """Forget the failures of a client."""
        with self._lock:
            self._of_client.pop(network_of(client), None)


def session_key(password: Secret) -> bytes:
    """Return the key that signs sessions: another password ends them all.

    Slow, so that a cookie does not help to guess the password.
    """
    return scrypt(_encoded(password.reveal()), salt=b"theeye-bridge session", n=2**14, r=8, p=1, dklen=32)


class CookieSessions(SecureCookieSessionInterface):
    """Flask's sessions in a signed cookie, which is Secure if the request came by TLS."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get_cookie_secure(self, app: Flask) -> bool:
        del app
        return came_by_tls(request, self._settings)


def came_by_tls(asked: Request, settings: Settings) -> bool:
    """Return whether the browser used https: to the outermost trusted proxy, or by BRIDGE_PUBLIC_URL."""
    if (settings.public_url or "").startswith("https:"):
        return True
    forwarded = asked.headers.get("X-Forwarded-Proto", "") if settings.trusted_proxies else ""
    return asked.scheme == "https" or forwarded.split(",")[0].strip() == "https"


def base_url(asked: Request, settings: Settings) -> str:
    """Return the URL of the bridge for people and senders, without a slash at its end."""
    scheme = "https" if came_by_tls(asked, settings) else "http"
    return settings.public_url or f"{scheme}://{asked.host}"


def address_of(asked: Request, settings: Settings) -> str:
    """Return the client's IP address."""
    forwarded_for = asked.headers.get("X-Forwarded-For", "")
    return client_address(asked.remote_addr or "", forwarded_for, settings.trusted_proxies)


def is_password(given: str, password: Secret) -> bool:
    """Compare in constant time."""
    digests = (sha256(_encoded(text)).digest() for text in (given, password.reveal()))
    return hmac.compare_digest(*digests)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a variable may hold bytes that are not UTF-8


def sign_in(now: float, name: str) -> None:
    """Begin a session of a person with this name, which the audit records."""
    session.clear()
    session["since"] = session["seen"] = int(now)
    session["name"] = "".join(filter(str.isprintable, name)).strip()[:NAME_CHARACTERS]


def is_signed_in(now: float) -> bool:
    """Return whether the request has a session that has not ended."""
    since, seen = session.get("since"), session.get("seen")
    if not isinstance(since, int) or not isinstance(seen, int):
        return False
    return 0 <= now - since < SESSION_SECONDS and now - seen < IDLE_SECONDS


def renew(now: float) -> None:
    """Record a request of the session."""
    if now - session["seen"] > _RENEWAL_SECONDS:
        session["seen"] = int(now)
