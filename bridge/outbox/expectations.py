"""When the sources and routes with `expect_every` were seen, and alerts on silences: units of work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from bridge.outbox import job_storage
from bridge.outbox.database import Database
from bridge.outbox.locks import lock
from bridge.outbox.row_mapping import EVENT_COLUMNS, event_row
from bridge.outbox.schema import events, expectations
from bridge.outbox.statement import Statement, insert_rows
from bridge.outbox.webhook import Webhook
from bridge.routing.silence import Expectation, OnSilence, Watched

#: A source, and one of its routes or an empty text.
Key = tuple[str, str]

_ONE = and_(expectations.c.source == bindparam("of_source"), expectations.c.route == bindparam("of_route"))
# At most once a second: other processes that store webhooks wait for the row's lock.
_IS_OLD = or_(expectations.c.alerted, func.coalesce(expectations.c.seen_at, 0.0) < bindparam("now") - 1.0)
_SEE = Statement(update(expectations).where(_ONE, _IS_OLD).values(seen_at=bindparam("now"), alerted=False))
_IS_SILENT = bindparam("silent_since") >= func.coalesce(expectations.c.seen_at, expectations.c.since)
_ALERT = update(expectations).where(_ONE, _IS_SILENT).values(alerted=True)
_INSERT_EVENT = insert_rows(events, EVENT_COLUMNS, events.c.id, or_ignore=True)


class Expectations:
    """The expectations of the active table, in the store of one process. Raises StoreUnavailable."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        #: Of the active table.
        self.active: Mapping[Key, Expectation] = {}

    def use(self, expected: Iterable[Expectation]) -> None:
        """Use those of another table from now on."""
        self.active = {(each.source, each.route): each for each in expected}

    def watched(self) -> list[Watched]:
        """Return how long each has waited, except those that `alert` does not know yet."""
        now, active = self._clock(), self.active
        rows = self._database.read(_rows) if active else {}
        known = [(active[key], rows[key]) for key in sorted(rows.keys() & active.keys())]
        return [Watched(each, row.since, row.seen_at, row.alerted, now) for each, row in known]

    def alert(self, on_silence: OnSilence | None) -> list[Watched]:
        """Watch new expectations; create a job of `on_silence` for each new silence, and return those."""
        active, now = self.active, self._clock()
        if self._database.read(_rows).keys() != active.keys():
            self._database.write(lambda connection: watch(connection, active, now))
        if on_silence is None:
            return []
        silent = [each for each in self.watched() if each.is_overdue and not each.is_alerted]
        return [
            each
            for each in silent
            if self._database.write(partial(alert, on_silence=on_silence, silent=each))
        ]


def _rows(connection: Connection) -> dict[Key, Row[Any]]:
    return {(row.source, row.route): row for row in connection.execute(select(expectations))}


def watch(connection: Connection, wanted: Collection[Key], now: float) -> None:
    """Watch these from now on, and forget the others: nothing notes when they are seen."""
    lock(connection, ("expectations",))
    known = {*_rows(connection)}
    for source, route in sorted({*wanted} - known):
        connection.execute(insert(expectations).values(source=source, route=route, since=now, alerted=False))
    for source, route in sorted(known - {*wanted}):
        connection.execute(delete(expectations).where(_ONE), {"of_source": source, "of_route": route})


def see(connection: Connection, seen: Iterable[Key], now: float) -> None:
    """Note sources that sent a webhook and routes that created a job."""
    for source, route in sorted(seen):
        _SEE.count(connection, {"of_source": source, "of_route": route, "now": now})


def alert(connection: Connection, on_silence: OnSilence, silent: Watched) -> bool:
    """Create the event and the job of a silence; return whether no other process was earlier."""
    of = {"of_source": silent.expectation.source, "of_route": silent.expectation.route}
    if not connection.execute(_ALERT, {**of, "silent_since": silent.silent_since}).rowcount:
        return False
    event = on_silence.event_for(silent)
    # Its delivery id is unique: of several processes that see one silence, one inserts it.
    row = event_row(Webhook(event, None, None, (), (), sha256(event.body).digest()))
    inserted = _INSERT_EVENT.rows_for(connection, [row])
    for each in inserted:
        job_storage.insert_jobs(connection, each.id, [on_silence.job_for(event)], silent.now)
    return bool(inserted)
