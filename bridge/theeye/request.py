"""The request that starts a job at TheEye, by its public page "Via API"; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.secrets import Secret
from bridge.core.task import Task
from bridge.core.task_arguments import wire_arguments

if TYPE_CHECKING:
    import ssl

#: The length of a task's secret key, characters: TheEye refuses any other.
SECRET_KEY_LENGTH = 64


@dataclass(frozen=True)
class TheEye:
    """The table's ``theeye:`` section."""

    customer: str
    #: Without a slash at the end.
    url: str = "https://api.theeye.io"
    #: Of a whole attempt, seconds.
    timeout: float = 30.0
    #: Starts the tasks that have no secret key.
    access_token: Secret | None = None
    #: Trusts TheEye's own authorities instead of the public ones.
    trust: ssl.SSLContext | None = None
    #: The URL of the HTTP proxy, which may contain a password.
    proxy: Secret | None = None


@dataclass(frozen=True, repr=False)
class JobRequest:
    """The POST that starts a job. Never log or store it: its URL holds a key, or its headers a token."""

    url: str
    #: The URL without the key.
    shown_url: str
    headers: Mapping[str, str]
    body: bytes


def job_request(theeye: TheEye, task: Task, arguments: tuple[JSON, ...]) -> JobRequest:
    """Return the request that starts `task` with `arguments`, which are in TheEye's order."""
    body = {
        "task": task.id,
        "customer": theeye.customer,
        "task_arguments": wire_arguments(arguments, task.arguments_type),
    }
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    query = urlencode({"customer": theeye.customer})
    if task.secret_key is None:
        url = shown_url = f"{theeye.url}/job?{query}"
        token = "" if theeye.access_token is None else theeye.access_token.reveal()
        headers["Authorization"] = f"Bearer {token}"
    else:
        url = f"{theeye.url}/job/secret/{quote(task.secret_key.reveal(), safe='')}?{query}"
        shown_url = f"{theeye.url}/job/secret/{task.secret_key}?{query}"
    return JobRequest(url, shown_url, headers, dumps(body))
