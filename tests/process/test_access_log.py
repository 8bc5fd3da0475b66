"""The access log of a real server, where one is switched on, holds no secret that a request carries."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.intake import sample
from tests.support.server import Server
from tests.support.tables import wait_until

TOKEN = "marked-token-7Qz"
OTHER = "marked-other-7Qz"

TABLE = """
theeye: {customer: acme}
sources:
  dockerhub:
    url_token: ${{ env.TOKEN }}
"""

#: Requests whose query or headers hold a secret, known to the bridge or not.
QUERY = f"token={TOKEN}&key={OTHER}"
HEADERS = {
    "Content-Type": "application/json",
    "Referer": f"https://{OTHER}@hub.example/?key={OTHER}",
    "User-Agent": f"agent {OTHER}",
    "X-Api-Key": OTHER,
    "Authorization": f"Basic {OTHER}",
    "Cookie": OTHER,
}
BODY = sample("dockerhub/push.json")

EVERYTHING = "%(r)s %(q)s %(f)s %(a)s %(u)s %({x-api-key}i)s %({raw_uri}e)s %({http_cookie}e)s"
LOG_CONFIG = """
[loggers]
keys=root,access
[handlers]
keys=file
[formatters]
keys=
[logger_root]
handlers=file
level=DEBUG
[logger_access]
handlers=file
level=DEBUG
qualname=gunicorn.access
[handler_file]
class=FileHandler
args=('{path}',)
"""


def post(server: Server, path: str, headers: Mapping[str, str] = HEADERS) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", path, BODY, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def server_with(folder: Path, arguments: str, **more: str) -> Server:
    config = folder / "table.yml"
    config.write_text(TABLE, "utf-8")
    environ = {"TOKEN": TOKEN, "GUNICORN_CMD_ARGS": arguments, "LOG_LEVEL": "DEBUG", **more}
    return Server(config, folder / "bridge.db", environ)


def everything_written(folder: Path) -> str:
    texts = [
        path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.suffix in (".log", ".txt")
    ]
    return "\n".join(texts)


@pytest.mark.parametrize("form", ["json", pytest.param("text", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [
        "--access-logfile -",
        "--access-logfile {folder}/access.txt --error-logfile {folder}/error.txt",
        "--access-logfile {folder}/access.txt --capture-output --error-logfile {folder}/error.txt",
        f"--access-logfile - --access-logformat '{EVERYTHING}'",
        "--log-config {folder}/log.ini",
        "--log-config-json {folder}/log.json",
    ],
)
@pytest.mark.slow_unless(arguments=["--access-logfile -", "--log-config {folder}/log.ini"])
def test_an_access_log_has_no_query_and_no_header(tmp_path: Path, arguments: str, form: str) -> None:
    (tmp_path / "log.ini").write_text(LOG_CONFIG.format(path=tmp_path / "configured.txt"), "utf-8")
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "configured.txt")}
    access = {"level": "DEBUG", "handlers": ["file"]}
    configured = {"handlers": {"file": handler}, "loggers": {"gunicorn.access": access}, "root": access}
    (tmp_path / "log.json").write_text(json.dumps({**configured, "formatters": {}}))
    with server_with(tmp_path, arguments.replace("{folder}", str(tmp_path)), LOG_FORMAT=form) as server:
        assert post(server, f"/hooks/dockerhub?{QUERY}") == 200
        assert post(server, f"/hooks/dockerhub?token=wrong{OTHER}") == 401
        assert post(server, f"/hooks/nowhere%3Ftoken={TOKEN}?{QUERY}") == 404
        assert post(server, f"http://user:{OTHER}@host.example/hooks/nowhere?{QUERY}") == 404
        assert post(server, "/hooks/nowhere%1b[2J%9b%0ax") == 404
        server.stop()

    written = everything_written(tmp_path)
    name = "gunicorn.access" if form == "json" else " INFO access: "
    lines = [line for line in written.splitlines() if name in line]
    assert "marked" not in written
    assert [line for line in lines if "POST /hooks/dockerhub 200, " in line]
    assert [line for line in lines if "POST /hooks/dockerhub 401, " in line]
    assert len([line for line in lines if "POST /hooks/nowhere 404, " in line]) == 2
    assert {line.isprintable() for line in lines} == {True}


def test_a_variable_that_gunicorn_sets_is_masked_where_its_settings_are_logged(tmp_path: Path) -> None:
    with server_with(tmp_path, f"--env OTHER={OTHER}") as server:
        server.stop()
    assert "raw_env: ['OTHER=<secret>']" in server.log
    assert OTHER not in server.log


def test_a_secret_with_letters_beyond_ascii_is_masked_in_a_path(tmp_path: Path) -> None:
    token = "märked-token-7Qz"
    with server_with(tmp_path, "--access-logfile -", TOKEN=token) as server:
        assert post(server, f"/hooks/{quote(token)}") == 404
        wait_until(lambda: "POST /hooks/<secret> 404" in server.log)
    assert "rked-token-7Qz" not in server.log


def test_no_access_log_is_written_unless_it_is_switched_on(tmp_path: Path) -> None:
    with server_with(tmp_path, "") as server:
        assert post(server, f"/hooks/dockerhub?{QUERY}") == 200
        server.stop()
    assert "gunicorn.access" not in server.log
    assert "not used" not in server.log


def test_settings_of_logs_that_are_not_used_are_named(tmp_path: Path) -> None:
    with server_with(tmp_path, "--statsd-host 127.0.0.1:1 --access-logformat %(q)s") as server:
        server.stop()
    assert "because the bridge writes the log: access_log_format, statsd_host" in server.log


@pytest.mark.parametrize("name", ["gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd"])
def test_another_logger_class_is_refused(tmp_path: Path, name: str) -> None:
    server = server_with(tmp_path, f"--access-logfile - --logger-class {name}")
    with pytest.raises(AssertionError, match="remove --logger-class"):
        server.start()
