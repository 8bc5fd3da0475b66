"""``${{ env.NAME }}``, which is read when the table loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os.path import isfile

from bridge.config.document import Invalid, Scalar
from bridge.config.problems import Problems
from bridge.config.readers import env_name
from bridge.core.errors import SettingsError
from bridge.core.secrets import MIN_MASKED_CHARACTERS, MIN_SECRET_CHARACTERS, Secret, strip_invisible

#: Patterns of a secret that was copied with something around it, and a description of each.
_ODD_SECRETS = tuple(
    (re.compile(looks, re.DOTALL), what)
    for looks, what in (
        (r"[\r\n]\s*\Z", "ends with a line break"),
        (r"\A\s", "begins with a blank"),
        (r"\s\Z", "ends with a blank"),
        (r"[^\S ]", "has a line break, a tab or an odd blank"),
        (r"\A(?:([\"'`]).*\1|\u201c.*\u201d|\u2018.*\u2019)\Z", "is in quotes"),
        (r"\A(?:\$[({].*[)}]|\{\{.*\}\}|\$[A-Z_]{3,})\Z", "is a variable or a command that was not replaced"),
        (r"\A<[^<>]+>\Z", "is a placeholder in < >"),
        (r"\A(?i:bearer|basic|token) ", "begins with Bearer, Basic or Token"),
        (r"\A(?i:sha(?:1|256|512)=)", "begins like a signature, with sha…="),
        (r"\A(?:~|/(?:app|etc|home|mnt|opt|root|run|secrets|srv|tmp|usr|var|vault))/[\w./-]+\Z", "is a path"),
        (r"\A(?:([0xX*])\1+|(.)\2{7,})\Z", "is a placeholder"),
        (r"\A(?i:change[-_ ]?(?:me|it)|replace[-_ ]?me|my[-_ ]?secret|placeholder)\Z", "is a placeholder"),
        (r"\A(?:export )?[A-Z][A-Z0-9]*_[A-Z0-9_]+=.", "begins with the name of a variable and ="),
    )
)


#: An expression that names a variable, also as other tools write it. Any other text may be a secret.
_NAMED = re.compile(r"\$\{\{ *(?:env|secrets|vars)\.([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+) *\}\}")


def variable_in(value: object) -> str | None:
    """Return NAME of a text with ``${{ env.NAME }}`` or ``${{ secrets.NAME }}``."""
    found = _NAMED.search(value) if isinstance(value, str) else None
    return None if found is None else found[1]


def variable_name(name: str, key: str) -> str:
    """Return a variable's name for a key of the source or task `name`."""
    variable = re.sub(r"[^A-Z0-9]", "_", f"{name}_{key}".upper())
    return f"_{variable}" if variable[0].isdigit() else variable


class Environment:
    """Read variables for one load, and collect those that are secret."""

    def __init__(self, variables: Mapping[str, str], problems: Problems, *, required: bool) -> None:
        self._variables = variables
        self._error, self._warn = problems.error, problems.warning
        self._required = required
        self.secrets: list[Secret] = []
        #: By secret, who uses it first.
        self._users: dict[str, str] = {}

    def text(self, scalar: Scalar) -> str | None:
        """Return a literal value or that of ``${{ env.NAME }}``, or None if it is unset, which is reported.

        The value is the placeholder ``<NAME>`` where an unset variable is only a warning.
        """
        if isinstance(scalar, Invalid):
            return None
        name = env_name(scalar)
        if name is not None:
            value = self._read(name, scalar)
            return f"<{name}>" if value is None and not self._required else value
        if "${{" in scalar:
            message = "found an expression, expected text or ${{ env.NAME }} alone"
            self._error(scalar.place, message, "no other expression is evaluated here")
            return None
        return str(scalar)

    def is_placeholder(self, text: str, scalar: Scalar) -> bool:
        """Return whether `text` is the placeholder of an unset variable."""
        return text == f"<{env_name(scalar)}>"

    def secret(self, scalar: Scalar, user: str = "a source") -> Secret | None:
        """Return the secret of ``${{ env.NAME }}``, or None if it is unset or blank, which is reported.

        `user` is a source or TheEye. They never share a secret.
        """
        value = None if isinstance(scalar, Invalid) else self._read(env_name(scalar) or "", scalar)
        if value is None:
            return None
        name, characters = env_name(scalar), len(strip_invisible(value))
        is_ours = user == "a source"
        origin = "create one with openssl rand -hex 32" if is_ours else f"copy it from {user}"
        if not characters:
            hint = f"set {name}, or the file that {name}_FILE names; {origin}"
            self._error(scalar.place, f"the secret in {name} is blank", hint)
            return None
        secret = Secret(value)
        self.secrets.append(secret)
        other = self._users.setdefault(value, user)
        if other != user:
            message = f"the secret in {name} is also the secret of {other}"
            self._warn(scalar.place, message, f"copy the secret of {user} from its own page")
        if characters < MIN_SECRET_CHARACTERS:
            message = f"the secret in {name} has {len(value)} characters"
            masked = "" if characters >= MIN_MASKED_CHARACTERS else " and too short to be masked in the log"
            hint = f"it is easily guessed{masked}; {origin}"
            self._warn(scalar.place, message, hint)
        return secret

    def check_form(
        self, scalar: Scalar, secret: Secret | None, flaw: str | None = None, hint: str = ""
    ) -> None:
        """Report a flaw of the secret, or warn about one that was copied with something around it."""
        text = "" if secret is None else secret.reveal()
        name = env_name(scalar) or ""
        odd = next((what for looks, what in _ODD_SECRETS if looks.search(text)), None)
        if odd is None and isfile(text):  # noqa: PTH113 - Path.is_file raises for a long name
            odd = "is a path"
        if odd is None and strip_invisible(text) != text.replace(" ", ""):
            odd = "has an invisible character"
        if flaw is not None:
            self._error(scalar.place, flaw, hint if odd is None else f"the value in {name} {odd}")
        elif odd is not None and not name.endswith("_FILE"):  # then _read has warned
            hint = f"set {name}, or the file that {name}_FILE names, to exactly the secret, without more"
            hint = f"set {name}_FILE to the path, instead of {name}" if odd == "is a path" else hint
            hint = f"set {name} to the real secret" if odd == "is a placeholder" else hint
            self._warn(scalar.place, f"the secret in {name} {odd}", hint)

    def _read(self, name: str, scalar: Scalar) -> str | None:
        hint, base = f"set {name}, or {name}_FILE", name.removesuffix("_FILE")
        if base != name:
            hint = f"write env.{base}: the bridge reads the file that {name} names"
        try:
            value = self._variables[name]
            if base != name:
                self._warn(scalar.place, f"the value of {name} is a path", hint)
            elif {name, f"{name}_FILE"} <= {*self._variables}:
                message = f"{name} and {name}_FILE are both set: the bridge uses {name}"
                self._warn(scalar.place, message, "unset one of them")
        except KeyError:
            report = self._error if self._required else self._warn
            report(scalar.place, f"the variable {name} is not set", hint)
        except SettingsError as error:
            self._error(scalar.place, str(error))
        else:
            return value
        return None
