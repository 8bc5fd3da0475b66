"""Secret, a text that must not be seen, and Mask, which replaces secrets in every text; pure."""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import orjson
import re2

#: A shorter secret is easily guessed: `check` and every start warn of it.
MIN_SECRET_CHARACTERS = 8
#: A shorter secret is not masked: most lines of a log would contain it by chance.
MIN_MASKED_CHARACTERS = 4
#: Unicode categories of characters that print nothing: blanks, control and format characters.
_INVISIBLE_CATEGORIES = ("Cc", "Cf", "Zl", "Zp", "Zs")
#: Credentials that are masked even if they are unknown: keys and tokens in URLs of TheEye's API and in
#: ``?token=``, and the value of an ``Authorization`` header.
_CREDENTIALS = (
    r"(/secret/)[^/?#\s\"'<>\\]+",
    r"((?:access_)?token=)[^&\s\"'<>\\]+",
    r"((?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{6,}",
)
#: The longest beginning of a credential by which it is recognized, in characters.
_LONGEST_BEGINNING = 32
#: Each such credential contains one of these, in small letters.
_CREDENTIAL_PARTS = ("/secret/", "token=", "bearer ", "basic ")


def strip_invisible(text: str) -> str:
    """Return the text without blanks, control characters and zero-width characters."""
    return "".join(each for each in text if unicodedata.category(each) not in _INVISIBLE_CATEGORIES)


@dataclass(frozen=True, repr=False)
class Secret:
    """A text that must not be seen: it prints as ``<secret>``, and `reveal` returns it."""

    _text: str

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


class Mask:
    """Replaces known secrets and whatever looks like a credential with ``<secret>``.

    It finds a known secret in any case, and as it is, %-encoded, inside JSON and as base64.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._options = re2.Options()
        self._options.log_errors = False
        self._options.case_sensitive = False
        self._options.max_mem = 64 << 20
        self._credentials = re2.compile("|".join(_CREDENTIALS), self._options)
        self._spellings: frozenset[str] = frozenset()
        self._known: Any = None
        #: The spellings as `_may_contain` needs them.
        self._folded: tuple[str, ...] = ()
        self._longest = _LONGEST_BEGINNING
        self.add(secrets)

    def add(self, secrets: Iterable[Secret]) -> None:
        """Mask these secrets too from now on."""
        texts = {_encodable(secret.reveal()) for secret in secrets}
        long_enough = [text for text in texts if len(strip_invisible(text)) >= MIN_MASKED_CHARACTERS]
        self._spellings |= {spelling for text in long_enough for spelling in _spellings(text)}
        if self._spellings:
            longest_first = sorted(self._spellings, key=len, reverse=True)
            self._longest = max(_LONGEST_BEGINNING, len(longest_first[0]))
            self._folded = tuple({spelling.casefold() for spelling in self._spellings})
            self._known = re2.compile("|".join(re2.escape(text) for text in longest_first), self._options)

    def contains_secret(self, text: str) -> bool:
        """Whether a part of a request's head contains a known secret.

        The text may be %-encoded in part, as by some proxies, or be UTF-8 that WSGI decoded as Latin-1.
        Secrets under MIN_SECRET_CHARACTERS do not count: an id may contain one by chance.
        """
        if self._known is None:
            return False
        text = _encodable(text)
        forms = {text, unquote(text), unquote_plus(text)}
        if not text.isascii():
            forms.add(text.encode("latin-1", "replace").decode("utf-8", "replace"))
        suspects = [form for form in forms if _may_contain(form, self._folded)]
        matches = (match[0] for form in suspects for match in self._known.finditer(form))
        return any(len(match) >= MIN_SECRET_CHARACTERS for match in matches)

    def __call__(self, text: str) -> str:
        if not _may_contain(text, _CREDENTIAL_PARTS) and not _may_contain(text, self._folded):
            return text
        text = _encodable(text)
        if self._known is not None:
            text = self._known.sub("<secret>", text)
        masked: str = self._credentials.sub(
            lambda match: (match[1] or match[2] or match[3]) + "<secret>", text
        )
        return masked

    def cut(self, text: str, limit: int) -> str:
        """Return the first `limit` characters, masked, with … if there are more.

        First masked, then cut: otherwise the beginning of a secret could stay. A mask of a long text is slow.
        """
        # The end of this part may be the beginning of a secret, of which no letter may show. A shorter secret
        # inside makes it longer, at most twice: its 4 letters or more become the 8 of <secret>.
        unsure = 2 * self._longest
        start = _encodable(text[: limit + unsure + 1])
        masked = self(start[: limit + unsure])
        if len(start) > limit + unsure:
            return f"{masked[:-unsure][:limit]}…"
        return masked if len(masked) <= limit else f"{masked[:limit]}…"


def _may_contain(text: str, parts: Iterable[str]) -> bool:
    """Return False if no regular expression of these parts, in any case, matches the text.

    Nearly every text has none, and a call of RE2 takes longer than to look for a hundred parts. An ASCII text
    has only matches whose case folding is ASCII.
    """
    return not text.isascii() or any(map(text.lower().__contains__, parts))


def _encodable(text: str) -> str:
    """Escape lone surrogates (bytes of the environment that are not UTF-8), which RE2 rejects."""
    return text.encode("utf-8", "backslashreplace").decode()


def _spellings(text: str) -> set[str]:
    in_json = orjson.dumps(text).decode()[1:-1]
    return {text, quote(text, safe=""), in_json, b64encode(text.encode()).decode()}
