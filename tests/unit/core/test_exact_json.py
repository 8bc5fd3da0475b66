"""Numbers with more digits than a float holds: they are sent, shown and compared as they arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from bridge.core.exact_json import LongNumber, dumps, loads
from bridge.core.task_arguments import ArgumentsType, wire_arguments
from bridge.report.events import event_lines
from tests.support.intake import Intake

LONG = "12345678901234567890123"

TABLE = """
sources: {shop: {type: generic, allow_unsigned: true}}
routes:
  - name: digits
    source: shop
    match: {payload.id: 12345678901234567890123}
    when: payload.id > 5
    task: TASK
    secret_key: KEY
    task_arguments:
      - ${{ payload.id }}
      - order ${{ payload.id }}
      - ${{ payload | to_json }}
      - ${{ payload }}
      - ${{ payload.id | string }}
  - {name: another, source: shop, match: {payload.id: 12345678901234567890124}, task: TASK, secret_key: KEY,
     task_arguments: []}
  - {name: sum, source: shop, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.id + 1 }}"]}
"""


@pytest.mark.parametrize(
    "text",
    [LONG, f"-{LONG}", "18446744073709551616", "-9223372036854775809", "0.12345678901234567890", "1e400",
     "123456789012345678901234567890e-5", "9007199254740993.0", f"1e{LONG}", f"1111111111111111e-{LONG}"],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a":{}}}', '[1, {},"x"]', '{{"a":\n\t{}}}'])
def test_the_digits_are_those_that_arrived(text: str, around: str) -> None:
    body = around.format(text).encode()
    assert text in dumps(loads(body)).decode()


@pytest.mark.parametrize("text", ["1.10", "0.1", "1e2", "123456789012345.5", "18446744073709551615", "-0.0"])
def test_other_numbers_are_as_orjson_reads_them(text: str) -> None:
    for body in (text.encode(), f"[{text},{LONG}]".encode()):
        value = loads(body)
        value = value if isinstance(value, int | float) else value[0]
        assert (type(value), value) == (type(orjson.loads(text)), orjson.loads(text))


def test_they_equal_what_has_the_same_value() -> None:
    value = LongNumber(LONG)
    assert value == int(LONG)
    assert LongNumber(f"1e{LONG}") == LongNumber(f"1e{LONG}") != f"1e{LONG}"
    assert int(LONG) == value
    assert value == LongNumber(f"{LONG}.0")
    assert len({value, int(LONG), LongNumber(f"{LONG}.0")}) == 1
    for other in (int(LONG) + 1, float(LONG), LongNumber(f"{LONG}.1"), None, "x"):
        assert value != other


def test_arguments_have_them(make_intake: Callable[[str], Intake]) -> None:
    intake = make_intake(TABLE)
    body = f'{{"id":{LONG}}}'.encode()
    intake.post("shop", body)

    sent, dead = intake.jobs()
    assert sent.arguments is not None
    assert [dumps(each).decode() for each in sent.arguments] == [
        LONG, f'"order {LONG}"', orjson.dumps(body.decode()).decode(), body.decode(), f'"{LONG}"',
    ]  # fmt: skip
    assert dead.reason is not None
    assert f"{LONG} has too many digits for arithmetic" in dead.reason

    def wire(kind: ArgumentsType) -> Any:
        return dumps(wire_arguments(sent.arguments or (), kind)[0]).decode()

    assert wire(ArgumentsType.LEGACY) == f'{{"order":0,"value":"{LONG}"}}'
    assert wire(ArgumentsType.TEXT) == f'{{"order":0,"value":"{LONG}"}}'
    assert wire(ArgumentsType.JSON) == f'{{"order":0,"value":{LONG}}}'

    event = intake.outbox.event(1)
    assert event.body == body
    assert f'  "id": {LONG}' in list(event_lines(intake.outbox.summary(1), event, ()))


@pytest.mark.parametrize("number", ["1e400", "-1e999", "9" * 400])
def test_what_reads_a_number_that_is_too_large_says_so(
    make_intake: Callable[[str], Intake], number: str
) -> None:
    intake = make_intake(TABLE.replace("payload.id + 1", "payload.id"))
    assert intake.post("shop", f'{{"id":{number}}}'.encode()).status == 202
    (dead,) = intake.jobs()
    assert dead.reason is not None
    assert "cannot be sent: expected a number of at most 100 characters that fits a float" in dead.reason


def test_the_stored_body_is_as_it_came(make_intake: Callable[[str], Intake]) -> None:
    intake = make_intake(TABLE)
    body = b'{"id":1,"text":"cut here \\ud83d"}'
    intake.post("shop", body)
    event = intake.outbox.event(1)
    assert (event.body, event.payload["text"]) == (body, "cut here \ufffd")
