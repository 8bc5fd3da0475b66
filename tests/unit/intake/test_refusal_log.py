"""Which refused requests have a log line of their own, and what is said of the others."""

from __future__ import annotations

import pytest

from bridge.intake.refusal_log import COUNT_PERIOD_SECONDS, MAX_CLIENTS, RefusalLog
from bridge.process.log_fields import Fields

NOW = 1_000.0
CLIENT, OTHER = "203.0.113.9", "203.0.113.10"


def add(
    log: RefusalLog,
    client: str = CLIENT,
    *,
    status: int = 404,
    source: str | None = None,
    reason: str = "no source is named 'x'",
    now: float = NOW,
) -> Fields | None:
    return log.add(status, source, client, reason, now)


def first(reason: str, *, status: int = 404, source: str | None = None, client: str = CLIENT) -> Fields:
    return Fields("refuse", status=status, source=source, client=client, reason=reason)


def more(requests: int, seconds: float, client: str = CLIENT) -> Fields:
    return Fields("refuse", status=404, source=None, client=client, requests=requests, seconds=seconds)


def test_the_first_of_a_kind_is_logged_at_once_and_the_others_as_a_count() -> None:
    log = RefusalLog()
    assert add(log) == first("no source is named 'x'")
    for number in range(1, 1235):
        assert add(log, reason=f"no source is named '{number}'", now=NOW + number / 100) is None

    assert log.ends_at == NOW + COUNT_PERIOD_SECONDS
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS - 0.1) == []
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS) == [more(1234, 60.0)]
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS) == []
    assert log.ends_at is None


def test_after_its_count_has_ended_the_next_is_logged_at_once_again() -> None:
    log = RefusalLog()
    add(log)
    add(log)
    log.pop_ended(NOW + COUNT_PERIOD_SECONDS)
    assert add(log, now=NOW + COUNT_PERIOD_SECONDS) is not None
    assert log.ends_at == NOW + 2 * COUNT_PERIOD_SECONDS


def test_of_one_alone_no_count_is_said() -> None:
    log = RefusalLog()
    add(log)
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS) == []


@pytest.mark.parametrize(
    "other",
    [{"status": 401}, {"source": "github"}, {"client": OTHER}, {"client": ""}, {"client": "2001:db8::1"}],
    ids=["status", "source", "client", "no client", "IPv6"],
)
def test_another_kind_has_its_own_line(other: dict[str, str]) -> None:
    log = RefusalLog()
    add(log)
    assert add(log, **other) is not None  # type: ignore[arg-type]
    assert add(log, **other) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client", "alike", "shown"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::/64"),
        ("203.0.113.9", "203.0.113.9", "203.0.113.9"),
        ("", "", "unknown"),
    ],
)
def test_of_ipv6_a_client_is_a_network_of_64_bits(client: str, alike: str, shown: str) -> None:
    log = RefusalLog()
    assert add(log, client) == first("no source is named 'x'", client=client or "unknown")
    assert add(log, alike) is None
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS) == [more(1, 60.0, shown)]
    assert add(RefusalLog(), "2001:db8:0:2::1") is not None


def test_the_end_says_what_was_counted_so_far() -> None:
    log = RefusalLog()
    add(log)
    add(log)
    add(log, OTHER, now=NOW + 1)
    assert log.pop_ended(NOW + 5, everything=True) == [more(1, 5.0)]
    assert log.ends_at is None


def addresses(count: int) -> list[str]:
    return [f"10.0.{number // 256}.{number % 256}" for number in range(count)]


def test_what_many_clients_cause_is_bounded() -> None:
    log = RefusalLog()
    clients = addresses(20_000)
    lines = [line for client in clients for line in [add(log, client)] if line]
    assert len(lines) == MAX_CLIENTS + 1
    assert log.pop_ended(NOW + COUNT_PERIOD_SECONDS) == [
        more(len(clients) - MAX_CLIENTS - 1, 60.0, "one of many")
    ]


def test_those_do_not_hide_what_another_source_refuses() -> None:
    log = RefusalLog()
    for client in addresses(MAX_CLIENTS + 10):
        add(log, client)
    line = add(log, OTHER, status=401, source="github", reason="source github: X does not match")
    reason = "source github: X does not match"
    assert line == first(reason, status=401, source="github", client=OTHER)


def test_room_for_clients_comes_back() -> None:
    log = RefusalLog()
    for round_ in range(5):
        now = NOW + round_ * COUNT_PERIOD_SECONDS
        log.pop_ended(now)
        lines = [add(log, client, now=now) for client in addresses(MAX_CLIENTS)]
        assert None not in lines
