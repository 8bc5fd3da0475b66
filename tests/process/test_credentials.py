"""Headers and query parameters with a credential are gone before the event exists."""

from __future__ import annotations

import http.client
import sys
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.core.event import Headers, Request
from bridge.core.secrets import MIN_SECRET_CHARACTERS, Mask, Secret
from bridge.sources.base.credentials import without_credentials
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import UrlToken
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import Options
from tests.support.forked import run_program
from tests.support.intake import sample, signature
from tests.support.server import Server

URL_TOKEN = "marked/url+token=7Qz"
SIGNING = "marked-signing-secret-7Qz"
PASSWORD = "marked-password-7Qz"
KEY = "markedkey".ljust(64, "7")
SECRETS = {"URL_TOKEN": URL_TOKEN, "SIGNING": SIGNING, "PASSWORD": PASSWORD, "KEY": KEY}

TABLE = """
theeye: {customer: acme}
sources:
  dockerhub:
    url_token: ${{ env.URL_TOKEN }}
  github:
    secret: ${{ env.SIGNING }}
  monitor:
    type: generic
    basic_auth: {username: bob, password: "${{ env.PASSWORD }}"}
    event: headers["X-Event-Key"]
    delivery_id: headers["Idempotency-Key"]
tasks:
  one: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{ env.KEY }}"}
routes:
  - {source: dockerhub, task: one, task_arguments: ["${{ headers | to_json }}", "${{ query | to_json }}"]}
"""

BASIC = b64encode(f"bob:{PASSWORD}".encode()).decode()
#: What a proxy or a browser may add to a request, with a secret of the table in it, by header.
ADDED = {
    "X-Original-URI": f"/hooks/dockerhub?token={quote(URL_TOKEN)}",
    "X-Forwarded-Path": f"/hooks/dockerhub?tag=1&token={quote(URL_TOKEN)}",
    "X-Some-Url": f"https://bridge.example/hooks/dockerhub?token={quote(URL_TOKEN, safe='')}",
    "X-Some-Path": f"/hooks/dockerhub?t={quote(URL_TOKEN, safe='=/').lower()}",
    "X-Some-User": BASIC,
    "X-Forwarded-Authorization": "Basic marked",
    "X-Api-Key": "marked-api-key",
    "X-Amz-Security-Token": "marked-aws",
    "X-Forwarded-Access-Token": "marked-oauth",
    "X-Task": f"run {KEY.upper()}",
    "Cookie": "marked-cookie",
    "Referer": "https://hub.docker.com/?key=marked",
}


def post(server: Server, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_running_server_stores_and_logs_no_credential_of_a_head(tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    config.write_text(TABLE, "utf-8")
    environ = {**SECRETS, "LOG_LEVEL": "DEBUG", "GUNICORN_CMD_ARGS": "--access-logfile -"}
    push, pushed = sample("github/push.json"), sample("dockerhub/push.json")
    with Server(config, tmp_path / "bridge.db", {**environ, "BRIDGE_DELIVER": "false"}) as server:
        query = f"token={quote(URL_TOKEN, safe='')}&copy={quote(URL_TOKEN, safe='')}&api_key=marked&tag=7"
        assert post(server, f"/hooks/dockerhub?{query}", pushed, {**ADDED, "X-Kept": "kept-7"}) == 202
        signed = {"X-Hub-Signature-256": signature(push, SIGNING), "X-GitHub-Delivery": "delivery-7"}
        assert post(server, "/hooks/github", push, {**ADDED, **signed, "X-GitHub-Event": "push"}) == 200
        names = {"X-Event-Key": "backup", "Idempotency-Key": "once-7", "Authorization": f"Basic {BASIC}"}
        assert post(server, "/hooks/monitor", b"{}", {**ADDED, **names}) == 200
        server.stop()
    shown = run_program(
        [sys.executable, "-m", "bridge", "events", "show", "--json", "1"],
        {"DATABASE_URL": server.database_url, "BRIDGE_CONFIG": str(config), **SECRETS},
    )
    assert shown.returncode == 0, shown.stderr

    files = [path for path in tmp_path.iterdir() if path != config]
    seen = b"\n".join([shown.stdout.encode(), *(path.read_bytes() for path in files)])
    for needed in (b"kept-7", b"delivery-7", b"once-7", b'"tag": "7"'):
        assert needed in seen
    for hidden in (b"marked", quote(URL_TOKEN, safe="").encode()[-12:], BASIC.encode()):
        at = seen.lower().find(hidden.lower())
        assert at < 0, seen[max(0, at - 200) : at + 200]


def test_what_the_table_reads_stays_unless_it_holds_a_secret() -> None:
    mask = Mask([Secret("known-77")])
    values = {"X-Token-Id": "7", "x-jwt": "known-77", "Other-Token": "8"}
    assert without_credentials(values, {"x-token-id", "x-jwt"}, mask) == {"X-Token-Id": "7"}


def test_a_short_secret_inside_an_id_is_chance() -> None:
    values = {"X-GitHub-Delivery": "72d3162e-1234-11e3", "X-GitHub-Event": "push"}
    assert without_credentials(values, (), Mask([Secret("1234"), Secret("push")])) == values


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Forwarded-Authorization", "X-Serverless-Authorization", "X-Api-Key", "api_key",
     "apikey",
     "Ocp-Apim-Subscription-Key", "x-functions-key", "X-Auth-Token", "X-Auth-Key", "X-Auth", "X-Vault-Token",
     "X-Amz-Security-Token", "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Data", "Cf-Access-Jwt-Assertion",
     "X-Goog-Iap-Jwt-Assertion", "X-Forwarded-Access-Token", "access_token", "client_secret", "password",
     "sessionid", "Set-Cookie", "X-Csrf-Token", "X-Hub-Signature", "Referer", "X-Original-URL"],
)  # fmt: skip
def test_names_of_credentials(name: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert without_credentials({spelled: "x", "Host": "y"}, (), None) == {"Host": "y"}


@pytest.mark.parametrize(
    "name",
    ["Idempotency-Key", "X-Event-Key", "X-GitHub-Hook-ID", "X-Request-Id", "X-Author", "X-Forwarded-For",
     "webhook-id", "X-Forwarded-Host", "X-Gitlab-Instance", "X-Amz-Sns-Topic-Arn",
     "X-Atlassian-Webhook-Identifier", "key", "Content-Type", "User-Agent", "X-Session-Name", "event"],
)  # fmt: skip
def test_names_that_stay(name: str) -> None:
    assert without_credentials({name: "x"}, (), None) == {name: "x"}


def test_no_header_that_a_type_names_its_event_by_is_taken_for_a_credential() -> None:
    names = [each.event_header for each in discover().values() if each.event_header is not None]
    assert names
    assert set(without_credentials(dict.fromkeys(names, "x"), (), None)) == set(names)


@pytest.mark.parametrize(
    "spelled",
    ["{}", "before {} after", "{upper}", "{quoted}", "{partly}", "a+{quoted}", "{base64}", "{latin}"],
)
@pytest.mark.parametrize("secret", ["a/b c=d+e", "pässwörd", "plain-secret"])
def test_every_spelling_of_a_secret_is_found(secret: str, spelled: str) -> None:
    text = spelled.format(
        secret,
        upper=secret.upper() if secret.isascii() else secret,
        quoted=quote(secret, safe=""),
        partly=quote(secret, safe="/=+"),
        base64=b64encode(secret.encode()).decode(),
        latin=secret.encode().decode("latin-1"),
    )
    assert Mask([Secret(secret)]).contains_secret(text)
    assert not Mask([Secret(secret + "x")]).contains_secret(text)
    assert not Mask().contains_secret(text)


def test_a_short_secret_is_not_looked_for() -> None:
    """A delivery id may contain one by chance."""
    mask = Mask([Secret("a" * (MIN_SECRET_CHARACTERS - 1)), Secret("b" * MIN_SECRET_CHARACTERS)])
    assert not mask.contains_secret(f"id-{'a' * (MIN_SECRET_CHARACTERS - 1)}")
    assert mask.contains_secret(f"id-{'b' * MIN_SECRET_CHARACTERS}")
    assert mask.contains_secret(f"{'a' * (MIN_SECRET_CHARACTERS - 1)}-{'b' * MIN_SECRET_CHARACTERS}")


def test_one_search_serves_a_request_without_secrets() -> None:
    class Counted(Mask):
        searches = 0

        def contains_secret(self, text: str) -> bool:
            self.searches += 1
            return super().contains_secret(text)

    mask = Counted([Secret("known-secret")])
    source = Source("hub", discover()["dockerhub"], (), options=Options())
    assert UrlToken.key in {proof.key for proof in source.type.proofs}
    headers = Headers({f"X-{number}": "x" for number in range(50)}.items())
    source.read(Request("hub", headers, {"tag": "7"}, sample("dockerhub/push.json"), 0.0), mask)
    assert mask.searches == 2  # one for the headers, one for the query
