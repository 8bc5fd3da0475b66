"""The PostgreSQL stores that tests use one after the other: no test finds what an earlier one left."""

from __future__ import annotations

from contextlib import closing

import pytest

from bridge.outbox.store import Outbox
from tests.support.intake import beside
from tests.support.postgresql import StorePool
from tests.support.tables import make_job, make_webhook


def test_a_released_store_is_empty_and_counts_from_one(postgresql_stores: StorePool) -> None:
    ids = []
    for _ in range(2):
        url = postgresql_stores.acquire()
        with closing(Outbox(url)) as outbox:
            assert outbox.counts() == {}
            ids.append(outbox.store(make_webhook(make_job())).event_id)
            postgresql_stores.release(url)
    assert ids == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobs ADD COLUMN added text",
        "DROP TABLE audit",
        "CREATE TABLE added (id int)",
        "CREATE SCHEMA added",
        "DROP INDEX jobs_ready",
    ],
)
def test_a_store_whose_tables_were_changed_is_not_used_again(
    postgresql_stores: StorePool, change: str
) -> None:
    url = postgresql_stores.acquire()
    with beside(url) as connection:
        connection.exec_driver_sql(change)

    postgresql_stores.release(url)

    other = postgresql_stores.acquire()
    postgresql_stores.release(other)
    assert other != url
