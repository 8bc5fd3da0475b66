"""A stand-in for TheEye on 127.0.0.1: its Job API over HTTP, for the demo, `fake-theeye` and the tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Self, TypeVar

from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from bridge.demo.api import create_app
from bridge.demo.arguments import StandInJob, StandInTask, Supervisor, Verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from bridge.core.event import JSON

T = TypeVar("T")

#: The stand-in is for this machine alone.
HOST = "127.0.0.1"

#: Gets the task that a request names and TheEye's answer, before the answer is sent. Any thread calls it.
OnOrder = Callable[["JSON", Verdict], None]


class Jobs:
    """The stored jobs. Any number of threads may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[StandInJob] = []

    @property
    def jobs(self) -> tuple[StandInJob, ...]:
        """Every job, oldest first, also those that never run."""
        with self._changed:
            return tuple(self._jobs)

    def save(self, job: StandInJob) -> None:
        """Store a job."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def wait_for(self, jobs: int, timeout: float = 30) -> tuple[StandInJob, ...]:
        """Return the jobs as soon as there are so many. Raises TimeoutError after `timeout` seconds."""
        return self._wait("jobs", self._jobs, jobs, timeout)

    def _wait(self, what: str, items: list[T], wanted: int, timeout: float) -> tuple[T, ...]:
        with self._changed:
            if not self._changed.wait_for(lambda: len(items) >= wanted, timeout):
                raise TimeoutError(
                    f"the stand-in waited {timeout} s for {wanted} {what} and got {len(items)}"
                )
            return tuple(items)


class StandIn(Jobs):
    """TheEye on 127.0.0.1, inside a ``with`` block, or from `start` to `stop`.

    `organizations` are exact names; the access token belongs to the first. `port` 0 selects a free port, and
    a restart uses it again.
    """

    def __init__(
        self,
        organizations: Iterable[str],
        tasks: Iterable[StandInTask],
        *,
        access_token: str | None = None,
        port: int = 0,
        on_order: OnOrder | None = None,
    ) -> None:
        super().__init__()
        self._tasks = tuple(tasks)
        self._access_token = access_token
        supervisor = Supervisor(organizations, self._tasks, access_token)
        self._app = create_app(supervisor, self._answered)
        self._port = port
        self._on_order = on_order
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        if not self._port:
            raise RuntimeError("the stand-in has no port before it is started; call start() first")
        return f"http://{HOST}:{self._port}"

    def start(self) -> Self:
        """Listen. Raises OSError if the port is in use."""
        self.listen()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self._close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def listen(self) -> None:
        """Accept connections, after `start` on the same port. Raises OSError if it is in use."""
        self._close()
        with socket.create_server((HOST, self._port), backlog=128) as listening:
            self._server = make_server(
                HOST, 0, self._serve, threaded=True, request_handler=_Handler, fd=listening.fileno()
            )
        self._port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _close(self) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._thread.join()
            self._server = self._thread = None

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        read_body(environ)
        return self._app(environ, start_response)

    def _answered(self, task_id: JSON, verdict: Verdict) -> None:
        if verdict.job:
            self.save(verdict.job)
        if self._on_order:
            self._on_order(task_id, verdict)


def read_body(environ: WSGIEnvironment) -> bytes:
    """Read a request's whole body, so that the API can read it again. Raises ConnectionAbortedError."""
    try:
        body = Request(environ).get_data()
    except ClientDisconnected as error:
        raise ConnectionAbortedError("the sender disconnected in the middle of its request") from error
    for header in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated"):
        environ.pop(header, None)
    environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return body


class _Handler(WSGIRequestHandler):
    """Logs nothing, and closes a connection that was dropped or reset."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: object, **__: object) -> None:
        pass

    def connection_dropped(self, *_: object, **__: object) -> None:
        self.close_connection = True
