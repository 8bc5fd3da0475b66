"""The log: one record a line, nothing past the mask."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.core.errors import StoreUnavailable
from bridge.core.job import JobState
from bridge.core.secrets import Mask, Secret
from bridge.process.log import MAX_FIELD_LENGTH, MaskedFormatter, configure
from bridge.process.log_fields import Fields

CHECKOUT = Path(__file__).parents[3]
MARK = "marked-secret"
KEY = "k1" * 32

FORMS = pytest.mark.parametrize("form", ["json", "text"])


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The root logger and the handling of warnings, as they were before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def formatted(form: str, message: object, *args: object, **more: Any) -> str:
    record = logging.LogRecord(
        "bridge.delivery.dispatcher", logging.WARNING, "deliver.py", 1, message, args, None
    )
    record.created = 1700000000.25
    record.__dict__.update(more)
    return MaskedFormatter(form, Mask([Secret(MARK)])).format(record)


def caught(error: Exception, cause: Exception | None = None) -> Any:
    """The exc_info of a raised error."""
    try:
        raise error from cause
    except type(error):
        return sys.exc_info()


class Unshowable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError(MARK)

    __repr__ = __str__


def test_a_record_as_json() -> None:
    assert formatted("json", "job %d sent to %s", 7, "TheEye") == (
        '{"time":"2023-11-14T22:13:20.250000Z","level":"warning","logger":"bridge.delivery.dispatcher",'
        '"action":"library","message":"job 7 sent to TheEye"}'
    )


def test_a_record_as_text() -> None:
    assert formatted("text", "job %d sent to %s", 7, "TheEye") == (
        "2023-11-14T22:13:20.250000Z WARNING bridge.delivery.dispatcher: job 7 sent to TheEye"
    )


SENT = "job %(job)d: %(outcome)s, now %(state)s"


def deliver() -> Fields:
    return Fields(
        "deliver", job=7, outcome="unavailable", state=JobState.WAITING, duplicate=True, seconds=0.25,
        status=None, route="deploy main", reason=StoreUnavailable("no answer"),
    )  # fmt: skip


def test_the_fields_of_a_record_as_json() -> None:
    """Numbers stay numbers, and a field without a value is left out."""
    line = formatted("json", SENT, deliver())
    assert line.endswith(
        '"action":"deliver","message":"job 7: unavailable, now waiting","job":7,"outcome":"unavailable",'
        '"state":"waiting","duplicate":true,"seconds":0.25,"route":"deploy main","reason":"no answer"}'
    )


def test_text_has_each_field_once() -> None:
    """In its message, or after it; and truth values in the message's words alone."""
    assert formatted("text", SENT, deliver()) == (
        "2023-11-14T22:13:20.250000Z WARNING deliver: job 7: unavailable, now waiting "
        'seconds=0.25 route="deploy main" reason="no answer"'
    )


def test_a_message_need_not_name_a_field() -> None:
    assert formatted("text", "stopped", Fields("stop")) == (
        "2023-11-14T22:13:20.250000Z WARNING stop: stopped"
    )


@FORMS
def test_the_argument_of_a_librarys_record_is_not_its_fields(form: str) -> None:
    line = formatted(form, "answered %(status)s", {"status": 200, "action": "deliver", "body": "x"})
    assert "answered 200" in line
    assert "deliver:" not in line
    assert "body" not in line


#: What a sender may write into a name or an id.
HOSTILE = 'a"b=c\n2026-01-01T00:00:00Z ERROR dead: forged\r\x1b[31m\u2028\u202e\x85'


@FORMS
@pytest.mark.parametrize("name", ["event_name", "delivery_id", "route", "reason", "path"])
def test_a_hostile_field_stays_one_field_of_one_line(form: str, name: str) -> None:
    line = formatted(form, "event %(event)d", Fields("receive", event=1, **{name: HOSTILE}))
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)[name] == HOSTILE
    else:
        head, written = line.split(f" {name}=")
        assert head.endswith("receive: event 1")
        assert json.loads(written) == HOSTILE


@FORMS
@pytest.mark.parametrize("name", ["event_name", "delivery_id", "route", "reason", "path"])
def test_no_field_passes_the_mask(form: str, name: str) -> None:
    for text in (MARK, f"é {MARK}", f"/job/secret/{KEY}?x", f"Bearer {KEY}", "\ud800" + MARK):
        line = formatted(form, "event %(event)d", Fields("receive", event=1, **{name: text}))
        assert "<secret>" in line
        assert MARK not in line
        assert KEY not in line


def test_a_field_is_masked_before_it_is_cut() -> None:
    """A cut could leave a part of a secret, which no mask finds."""
    text = "x" * (MAX_FIELD_LENGTH - 3) + MARK
    fields = json.loads(formatted("json", "%(reason)s", Fields("trouble", reason=text)))
    assert fields["reason"] == "x" * (MAX_FIELD_LENGTH - 3) + "<se…"
    assert fields["message"] == text.replace(MARK, "<secret>")


def test_only_longer_fields_are_cut() -> None:
    text = "é" * MAX_FIELD_LENGTH
    for more, shown in (("", text), ("x", f"{text}…")):
        line = formatted("json", "event", Fields("receive", event_name=text + more))
        assert json.loads(line)["event_name"] == shown


@FORMS
def test_a_message_that_names_another_field_is_written_without_it(form: str) -> None:
    line = formatted(form, "job %(jobb)d", Fields("deliver", job=7))
    assert "job %(jobb)d (its arguments cannot be shown: KeyError)" in line


#: A process that logs one line as servers do.
LOGS = """
import logging
from bridge.core.secrets import Mask
from bridge.process.log import configure_server
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings

configure_server(Settings.from_environ(), Mask())
logging.getLogger("bridge").warning("stopped", Fields("stop", pid=7))
"""
JSON_LINE, TEXT_LINE = '"action":"stop","message":"stopped","pid":7}', "Z WARNING stop: stopped pid=7"


def logged_by_a_process(stderr: int, **environ: str) -> None:
    environ = {"TERM": "xterm", **environ}
    done = subprocess.run([sys.executable, "-c", LOGS], cwd=CHECKOUT, env=environ, stderr=stderr, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("environ", "end"),
    [
        ({}, "Z \x1b[33mWARNING\x1b[0m stop: stopped pid=7"),
        ({"LOG_FORMAT": "text"}, "Z \x1b[33mWARNING\x1b[0m stop: stopped pid=7"),
        ({"NO_COLOR": "1"}, TEXT_LINE),
        ({"TERM": "dumb"}, TEXT_LINE),
        ({"LOG_FORMAT": "json"}, JSON_LINE),
    ],
)
def test_on_a_terminal_the_log_is_text(environ: dict[str, str], end: str) -> None:
    reading, terminal = pty.openpty()
    logged_by_a_process(terminal, **environ)
    os.close(terminal)
    shown = os.read(reading, 4096).decode()
    os.close(reading)
    assert shown.endswith(f"{end}\r\n")


@pytest.mark.parametrize(
    ("environ", "end"),
    [({}, JSON_LINE), ({"LOG_FORMAT": ""}, JSON_LINE), ({"LOG_FORMAT": "text"}, TEXT_LINE)],
)
def test_elsewhere_the_log_is_json(environ: dict[str, str], end: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        logged_by_a_process(log.fileno(), **environ)
    assert (tmp_path / "log").read_text().endswith(f"{end}\n")


@FORMS
@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"the secret {MARK}", ()),
        ("the secret %s", (MARK,)),
        ("the secret %r", ([MARK],)),
        ("the URL %s", (f"https://x/job/secret/{KEY}?customer=acme",)),
        ("the error %s", (ValueError(f"Authorization: Bearer {KEY}"),)),
    ],
)
def test_no_message_passes_the_mask(form: str, message: str, args: tuple[object, ...]) -> None:
    line = formatted(form, message, *args)
    assert "<secret>" in line
    assert MARK not in line
    assert KEY not in line


@FORMS
def test_no_traceback_passes_the_mask(form: str) -> None:
    cause = ConnectionError(f"POST /job/secret/{KEY} failed")
    line = formatted(form, "it failed", exc_info=caught(RuntimeError(f"with {MARK}"), cause))
    assert MARK not in line
    assert KEY not in line
    assert "RuntimeError: with <secret>" in line
    assert "ConnectionError: POST /job/secret/<secret> failed" in line
    assert "direct cause" in line


def test_a_traceback_stands_in_its_own_field_of_one_line() -> None:
    line = formatted("json", "it failed", exc_info=caught(ValueError("x")))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["message"] == "it failed"
    assert fields["exception"].startswith("Traceback (most recent call last):\n")
    assert fields["exception"].endswith("ValueError: x")


def test_what_takes_more_lines_of_text_is_indented() -> None:
    forged = "a\n2026-01-01T00:00:00Z ERROR bridge: forged\rand\x0bso\u2028on"
    lines = formatted("text", "%s", forged, exc_info=caught(ValueError(f"b\n{forged}"))).splitlines()
    assert lines[0] == "2023-11-14T22:13:20.250000Z WARNING bridge.delivery.dispatcher: a"
    assert lines[1] == "    2026-01-01T00:00:00Z ERROR bridge: forged\\rand\\u000bso\\u2028on"
    assert [line for line in lines[1:] if not line.startswith("    ")] == []


#: What a terminal acts on, moves text with, or does not show.
UNSHOWN = (
    *map(chr, (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0))),
    *"\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff\U000e0001",
)


@FORMS
def test_a_log_lets_no_terminal_act_on_a_message(form: str) -> None:
    for character in UNSHOWN:
        error = caught(ValueError(f"c{character}d"))
        line = formatted(form, "%s", f"a{character}b", exc_info=error)
        assert character not in line
        assert line.replace("\n", "").isprintable()
        written = json.dumps(character)[1:-1]
        if form == "json":
            fields = json.loads(line)
            assert fields["message"] == f"a{character}b"
            assert fields["exception"].endswith(f"c{character}d")
        else:
            assert f"a{written}b" in line
            assert f"c{written}d" in line


@FORMS
def test_what_a_person_reads_is_written_as_it_is(form: str) -> None:
    assert 'ü 😀 漢 "x"' in formatted(form, 'ü 😀 漢 "x"').replace('\\"', '"')


@FORMS
@pytest.mark.parametrize("text", ["\ud800", "\x00", "\x1b[31m", "😀", "x" * 100_000])
def test_any_text_can_be_logged(form: str, text: str) -> None:
    formatted(form, text).encode()
    formatted(form, "%s", text).encode()
    formatted(form, "x", exc_info=caught(ValueError(text))).encode()


@FORMS
@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%d jobs", (MARK,)), ("%s and %s", (MARK,)), ("none", (MARK,)), ("%(name)s", ({"other": MARK},)),
        ("%s", (Unshowable(),)), (Unshowable(), ()),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_not_shown_past_the_mask(
    form: str, message: object, args: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO", form, Mask([Secret(MARK)]))
    logging.getLogger("bridge").warning(message, *args)
    shown = capsys.readouterr().err
    assert MARK not in shown
    assert "its arguments cannot be shown" in shown
    assert shown.count("\n") == 1


@FORMS
def test_every_logger_writes_to_standard_error_through_the_mask(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))
    mask = Mask()
    configure("WARNING", form, mask)
    configure("WARNING", form, mask)
    mask.add([Secret(MARK)])
    logging.getLogger("another.library").error("POST %s", MARK)
    logging.getLogger("bridge").info("not shown")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"deprecated {MARK}", stacklevel=1)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(" ")]
    assert out == ""
    assert len(lines) == 2
    assert MARK not in err
    assert "POST <secret>" in lines[0]
    assert "deprecated <secret>" in lines[1]
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_the_level(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure(level, "json", Mask())
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("bridge"), name)("x")
    assert len(capsys.readouterr().err.splitlines()) == shown
