"""Secret, a text that must not be seen, and Mask, which takes secrets out of every text; pure."""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import orjson
import re2

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
