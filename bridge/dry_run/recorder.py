"""Record a stored event as a RoutingTest, and write that as YAML; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from functools import partial

from bridge.core.errors import Refusal, Unreadable
from bridge.core.event import JSON, Event, Headers, Request, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.job import NewJob
from bridge.core.problem import Place
from bridge.core.secrets import Mask
from bridge.core.task import Task
from bridge.dry_run.routing_test import ExpectedJob, RoutingTest
from bridge.routing.routing_table import RoutingTable

#: Text that needs no quotes in YAML.
_PLAIN = re.compile(r"[A-Za-z]([\w ./-]*[\w./-])?", re.ASCII)

#: The deepest nesting of an argument that a table may have.
_DEPTH = 30


def record(name: str, place: Place, event: Event, table: RoutingTable, mask: Mask) -> RoutingTest:
    """Return the shortest test of the event that creates the same jobs, and expects them.

    A job may have any arguments if they contain a secret, or cannot be written in a table. Raises Refusal if
    no test can create the same jobs.
    """
    source = table.sources[event.source]
    if source.type.is_setup_event(event):
        raise Unreadable("it is a test or confirmation by the sender, which no route handles")
    expected = table.jobs_for(as_test_event(event)).jobs

    def failure(test: RoutingTest) -> Refusal | None:
        try:
            made = table.jobs_for(test.event_from(source)).jobs
        except Refusal as error:
            return error
        reason = "even with all headers, the test creates different jobs than the stored event"
        return None if made == expected else Unreadable(reason)

    request = Request(event.source, Headers(), {}, event.body, 0.0)
    test = RoutingTest(name, place, request, event.full_name, None, ())
    if failure(test):
        headers = event.headers.without(["Content-Type", "Content-Length"])
        request = replace(request, headers=headers, query=event.query, received_at=event.received_at)
        test = replace(test, request=request, delivery_id=event.delivery_id)
        if error := failure(test):
            raise error
        for cut in _cuts(event):
            if not failure(cut(test)):
                test = cut(test)
    return replace(test, expected=tuple(_expected(job, mask) for job in expected))


def as_test_event(event: Event) -> Event:
    """Return the event as a test has it, with redacted fields as text."""
    return Event(**{each.name: getattr(event, each.name) for each in fields(Event)})


def _expected(job: NewJob, mask: Mask) -> ExpectedJob:
    """Expect of a job what may be shown and can be written in a table."""
    if job.arguments is None:
        return ExpectedJob(job.route, error=mask(job.reason or "").partition("<secret>")[0])
    text = dumps(job.arguments).decode()
    fits = mask(text) == text and all(_fits(value, _DEPTH) for value in job.arguments)
    return ExpectedJob(job.route, job.arguments if fits else None)


def _fits(value: JSON, depth: int) -> bool:
    """Return whether a table can contain the value: no merge key, and no deeper nesting."""
    if isinstance(value, dict):
        return depth > 0 and "<<" not in value and all(_fits(inner, depth - 1) for inner in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_fits(inner, depth - 1) for inner in value)
    return True


def _cuts(event: Event) -> Iterator[Callable[[RoutingTest], RoutingTest]]:
    """Yield functions that shorten a test: without all headers or parameters, then without one of them."""
    yield lambda test: replace(test, delivery_id=None)
    yield lambda test: replace(test, request=replace(test.request, received_at=0.0))
    for names in (tuple(event.headers), *((name,) for name in event.headers)):
        yield partial(_without, headers=names)
    for names in (tuple(event.query), *((name,) for name in event.query)):
        yield partial(_without, query=names)


def _without(test: RoutingTest, headers: Sequence[str] = (), query: Sequence[str] = ()) -> RoutingTest:
    left = {name: value for name, value in test.request.query.items() if name not in query}
    request = replace(test.request, headers=test.request.headers.without(headers), query=left)
    return replace(test, request=request)


def yaml_lines(test: RoutingTest, payload: str, table: RoutingTable) -> Iterator[str]:
    """Write the test as YAML, with its payload in the file `payload`."""
    yield "tests:"
    yield f"  - name: {_text(test.name)}"
    yield f"    source: {_text(test.request.source)}"
    if test.event is not None:
        yield f"    event: {_text(test.event)}"
    for key, values in (("headers", test.request.headers), ("query", test.request.query)):
        if values:
            yield f"    {key}:"
            yield from (f"      {_quoted(name)}: {_quoted(value)}" for name, value in values.items())
    if test.delivery_id is not None:
        yield f"    delivery_id: {_text(test.delivery_id)}"
    if test.request.received_at:
        yield f"    received_at: {rfc3339(test.request.received_at)}"
    yield f"    payload: {_text(payload)}"
    yield "    expect:" if test.expected else "    expect: []"
    tasks = {route.name: route.task for route in table.routes}
    for job in test.expected:
        yield f"      - route: {_text(job.route)}"
        if job.error is not None:
            yield f"        error: {_quoted(job.error)}"
        elif job.arguments is not None:
            yield from _argument_lines(job.arguments, tasks[job.route])


def _argument_lines(values: tuple[JSON, ...], task: Task) -> Iterator[str]:
    if task.arguments is None:
        yield f"        task_arguments: {_value(list(values))}"
        return
    named = [(name, value) for name, value in zip(task.arguments, values, strict=True) if name is not None]
    yield "        task_arguments:" if named else "        task_arguments: []"
    yield from (f"          {name}: {_value(value)}" for name, value in named)


def _text(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """Quote as JSON, which is YAML, too; unprintable characters have YAML's escapes."""
    quoted = dumps(text).decode()
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)


def _value(value: JSON) -> str:
    """Write a value on one line, from which a test reads the same value."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_quoted(key)}: {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):  # without an exponent: a commit's hash may look like one
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    return _quoted(value) if isinstance(value, str) else dumps(value).decode()
