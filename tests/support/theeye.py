"""The stand-in TheEye with faults on demand, and with records of the requests that it got."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn, Self

import orjson
from flask import Request, Response
from werkzeug.http import HTTP_STATUS_CODES

from bridge.core.event import Headers
from bridge.demo import theeye
from bridge.demo.arguments import ACCESS_LIST, ENVIRONMENT
from bridge.demo.theeye import HOST, read_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    #: Seconds since the epoch.
    at: float
    method: str
    #: Undecoded, without the query; a task's key stands in it.
    path: str = field(repr=False)
    #: The last value of each parameter.
    query: Mapping[str, str] = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    #: The task that it names, where it names one.
    task_id: str | None
    #: What was answered; None while it is held, and where the connection ended without an answer.
    status: int | None = None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request; the parts combine, and the first fault that fits is taken.

    In this order: the job is saved (if `saves`), the request is held (`hang`), the answer is
    replaced (`answer`), and it goes out slowly (`drip`) or the connection is reset (`reset`).
    Where nothing replaces the answer, the true one is made after the hang, or before it with `saves`.
    """

    #: What is answered instead of the truth.
    answer: Answer | None = None
    #: The connection is reset instead of an answer.
    reset: bool = False
    #: The request has done its work before the fault shows: TheEye has the job, whatever the sender sees.
    saves: bool = False
    #: Seconds; `clear` and `stop` end it.
    hang: float = 0
    #: Seconds between one byte of the answer, its headers too, and the next; `clear` and `stop` end it.
    drip: float = 0
    #: Only for requests that name this task.
    task_id: str | None = None
    #: Only for requests of this method: POST orders a job, GET asks whether TheEye is there.
    method: str | None = None
    #: Only for the next so many; None: until `clear`.
    times: int | None = None

    def __post_init__(self) -> None:
        if self.reset and (self.answer or self.drip):
            raise ValueError("a fault with reset has no answer; leave answer and drip out")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is {self.times}; it is 1 or more, or None for until clear()")

    def fits(self, received: Received) -> bool:
        return (self.task_id is None or self.task_id == received.task_id) and (
            self.method is None or self.method == received.method
        )


class Records(theeye.Jobs):
    """The requests that came in, and the jobs that they created. Any number of threads may use it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._received: list[Received] = []

    @property
    def received(self) -> tuple[Received, ...]:
        """Every request, in the order of their arrival."""
        with self._changed:
            return tuple(self._received)

    def note(self, received: Received) -> int:
        """Keep a request; returns its place, for `answered`."""
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()
            return len(self._received) - 1

    def answered(self, place: int, status: int) -> None:
        with self._changed:
            self._received[place] = replace(self._received[place], status=status)
            self._changed.notify_all()

    def wait_for_requests(self, requests: int, timeout: float = 30) -> tuple[Received, ...]:
        """The requests, as soon as so many came in, answered or not. Raises TimeoutError."""
        return self._wait("requests", self._received, requests, timeout)


class StandIn(Records, theeye.StandIn):
    """TheEye on 127.0.0.1, with faults on demand."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._placeholder: socket.socket | None = None
        self._faults: list[Fault] = []
        self._released = threading.Event()
        self._stopping = False
        self._connections: set[socket.socket] = set()

    @property
    def confidential(self) -> frozenset[str]:
        """Every text that its answers show, or that its requests carry, and that nobody may keep."""
        tasks = self._tasks
        fixed = (argument.fixed for task in tasks for argument in task.arguments if argument.fixed)
        keys = (task.secret_key for task in tasks)
        token = (self._access_token,) if self._access_token else ()
        secrets = (job.secret for job in self.jobs)
        return frozenset((*fixed, *keys, *token, *secrets, *ENVIRONMENT.values(), *ACCESS_LIST))

    def start(self) -> Self:
        """Listen. Raises OSError where the port is taken."""
        with self._changed:
            self._stopping = False
            self._released = threading.Event()
        return super().start()

    def stop(self) -> None:
        """End every request that is held, without an answer, and listen no more."""
        with self._changed:
            self._stopping = True
            self._released.set()
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        self._close()
        with self._changed:
            self._changed.wait_for(lambda: not self._connections, timeout=5)

    def fault(self, fault: Fault) -> None:
        """From now on; of several that fit a request, the one that was given first is taken."""
        with self._changed:
            self._faults.append(fault)

    def clear(self) -> None:
        """No faults any more; what is held goes on at once."""
        with self._changed:
            self._faults.clear()
            self._released.set()
            self._released = threading.Event()

    def refuse(self) -> None:
        """Refuse every connection from now on, until `listen`; the port stays taken meanwhile."""
        self._close()
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((HOST, self._port))

    def _close(self) -> None:
        if self._placeholder:
            self._placeholder.close()
            self._placeholder = None
        super()._close()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: socket.socket = environ["werkzeug.socket"]
        with self._in_flight(connection):
            received = _received(environ)
            place = self.note(received)
            fault, released = self._take(received)
            answer = self._true_answer(environ) if fault.saves else None
            if fault.hang:
                self._pause(fault.hang, released)
            if fault.reset:
                _reset(connection)
            answer = fault.answer or answer or self._true_answer(environ)
            self.answered(place, answer.status)
            if fault.drip:
                for byte in _wire(answer):
                    connection.sendall(bytes([byte]))
                    self._pause(fault.drip, released)
                raise ConnectionAbortedError("the answer has been dripped")
        return Response(answer.body, answer.status, answer.headers)(environ, start_response)

    @contextmanager
    def _in_flight(self, connection: socket.socket) -> Iterator[None]:
        with self._changed:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()

    def _take(self, received: Received) -> tuple[Fault, threading.Event]:
        """The fault of a request, one time less of it left, and what ends its waits."""
        with self._changed:
            for place, fault in enumerate(self._faults):
                if fault.fits(received):
                    if fault.times == 1:
                        del self._faults[place]
                    elif fault.times:
                        self._faults[place] = replace(fault, times=fault.times - 1)
                    return fault, self._released
            return Fault(), self._released

    def _pause(self, seconds: float, released: threading.Event) -> None:
        released.wait(seconds)
        if self._stopping:
            raise ConnectionAbortedError("the stand-in was stopped")

    def _true_answer(self, environ: WSGIEnvironment) -> Answer:
        response = Response.from_app(self._app, environ, buffered=True)
        return Answer(response.status_code, response.get_data(), tuple(response.headers.items()))


def _received(environ: WSGIEnvironment) -> Received:
    """The request, read whole; the API can read its body again. Raises ConnectionAbortedError."""
    asked = Request(environ)
    body = read_body(environ)
    query = {name: values[-1] for name, values in asked.args.lists()}
    return Received(
        at=time.time(),
        method=asked.method,
        path=environ["RAW_URI"].partition("?")[0],
        query=query,
        headers=Headers(asked.headers.items()),
        body=body,
        task_id=_task_named(body) or query.get("task"),
    )


def _task_named(body: bytes) -> str | None:
    try:
        order = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    named = order.get("task") if isinstance(order, dict) else None
    return named if isinstance(named, str) else None


def _reset(connection: socket.socket) -> NoReturn:
    """Close it so that the sender gets a reset, and not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    raise ConnectionAbortedError("the connection was reset on purpose")


def _wire(answer: Answer) -> bytes:
    """The answer's bytes, headers too."""
    headers = dict(answer.headers) | {"Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {HTTP_STATUS_CODES.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body
