"""TheEye: where it is, how requests reach it, and the access token."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bridge.config.document import Invalid, Scalar
from bridge.config.env import Environment
from bridge.config.models import TheEyeModel
from bridge.config.problems import Problems
from bridge.config.readers import check_url, describe, env_name
from bridge.core.hosts import is_local, is_loopback
from bridge.core.secrets import Secret
from bridge.theeye.request import TheEye

#: RFC 6750 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: A proxy's URL: the user with the password, and the host with the port.
_PROXY = re.compile(r"http://(?:([^\s/?#@\\]+)@)?([^\s/?#@\\]+)/?")

#: The placeholder of a token whose variable is not set, where that is only a warning.
_UNSET = Secret("")


class TheEyeBuilder:
    """Build TheEye from its section. Mistakes are reported and skipped."""

    def __init__(self, environment: Environment, problems: Problems) -> None:
        self._environment = environment
        self._problems = problems

    def build(self, model: TheEyeModel) -> TheEye:
        url = None if model.url is None else self._url(model.url, model)
        customer = self._environment.text(model.customer) or ""
        if re.search(r"/|\.theeye\.", customer):
            message = "customer: found a URL, expected the name of an organization"
            hint = "write only the name, such as acme, exactly as at TheEye"
            self._problems.warning(model.customer.place, message, hint)
        return TheEye(
            customer,
            (url or TheEye.url).rstrip("/"),
            model.timeout,
            None if model.access_token is None else self._token(model.access_token),
            None if model.ca_file is None else self._trust(model.ca_file),
            None if model.proxy is None else self._proxy(model.proxy),
        )

    def _text(self, scalar: Scalar) -> str | None:
        """Return a text, or None if its variable is not set."""
        text = self._environment.text(scalar)
        return None if text is None or self._environment.is_placeholder(text, scalar) else text

    def _url(self, scalar: Scalar, model: TheEyeModel) -> str | None:
        if (url := self._text(scalar)) is None:
            return None
        try:
            check_url(url)
        except ValueError as error:
            self._problems.error(scalar.place, f"url: {error}")
            return None
        parts, message = urlsplit(url), "task keys are in the URL's path"
        host = parts.hostname or ""
        # With a proxy, the requests leave the machine.
        if parts.scheme == "https" or (is_loopback(host) and model.proxy is None):
            return url
        if is_local(host) and model.allow_http:
            message = f"url: {message}, and http is not encrypted: anyone in that network can read them"
            self._problems.warning(scalar.place, message, "write https:// and, for your own CA, ca_file:")
            return url
        instead = ", or allow_http: true below theeye: if you trust that whole network"
        hint = f"write https://{instead if is_local(host) else ''}"
        self._problems.error(scalar.place, f"url: found http, expected https: {message}", hint)
        return None

    def _trust(self, scalar: Scalar) -> ssl.SSLContext | None:
        """Return a context that trusts the certificates of a PEM file alone."""
        if (name := self._text(scalar)) is None:
            return None
        folder, context = Path(scalar.place.file).parent, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        problem, hint = "has no certificate in PEM", "it must contain -----BEGIN CERTIFICATE-----"
        try:
            context.load_verify_locations(folder / name)
        except ssl.SSLError:
            pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a file's name"
            problem, hint = f"cannot be read: {reason}", f"the path is relative to {folder}"
        else:
            return context
        self._problems.error(scalar.place, f"ca_file: {describe(scalar)} {problem}", hint)
        return None

    def _proxy(self, scalar: Scalar) -> Secret | None:
        """Return the URL of the proxy. No message shows it: it may contain a password."""
        if (url := self._text(scalar)) is None:
            return None
        parts = _PROXY.fullmatch(url)
        try:
            check_url("" if parts is None else f"http://{parts[2]}")
        except ValueError:
            hint = "such as http://proxy.internal:3128; in a password write @ as %40, and / as %2F"
            message = "proxy: found no URL of an HTTP proxy, expected http://host:port"
            self._problems.error(scalar.place, message, hint)
            return None
        user = unquote((parts and parts[1]) or "")
        if user and env_name(scalar) is None:
            hint = "write proxy: ${{ env.THEEYE_PROXY }} and set the variable THEEYE_PROXY to the URL"
            self._problems.error(
                scalar.place, "proxy: found a literal secret, expected ${{ env.NAME }}", hint
            )
        # A proxy may repeat the pair in base64, in which the mask does not find the password alone.
        self._environment.secrets += [Secret(user), Secret(user.partition(":")[2])]
        return Secret(url.rstrip("/"))

    def _token(self, scalar: Scalar) -> Secret:
        if isinstance(scalar, Invalid):
            return _UNSET
        message = "access_token is for trials only: it expires, and permits far more than starting one task"
        self._problems.warning(scalar.place, message, "give each task its secret_key")
        secret = self._environment.secret(scalar, "TheEye")
        if secret is not None and not _TOKEN.fullmatch(secret.reveal()):
            message = "an access token must be letters, digits and ._~+/-, found other characters"
            self._environment.check_form(scalar, secret, message, "copy it from TheEye, without spaces")
        return secret or _UNSET
