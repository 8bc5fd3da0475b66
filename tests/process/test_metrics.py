"""The counts of /metrics equal the rows, whatever ends the processes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.core.metrics import ATTEMPTS, EVENTS, JOBS_CREATED, JOBS_ENDED, Metric
from bridge.outbox.store import Outbox
from tests.support.intake import beside
from tests.support.pushes import VARIABLES, Clients, stand_in, write_table
from tests.support.server import Server
from tests.support.theeye import Fault

#: Seconds that all pushes may take, kills and all.
TAKEN_WITHIN = 60.0


def counted(outbox: Outbox, metric: Metric, *last: str) -> float:
    """The sum of a metric over the series whose last labels are these."""
    return sum(
        value
        for (name, *labels), value in outbox.measure().items()
        if name == metric.name and (not last or labels[-1] in last)
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_after_kill_9_the_counts_are_the_rows(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """On PostgreSQL two web processes count at once, and one of them is killed alone, too."""
    where: Path | str = tmp_path / "bridge.db"
    if database == "postgresql":
        where = request.getfixturevalue("postgresql_store")
    with stand_in() as theeye:
        theeye.fault(Fault(hang=0.02))
        with Server(write_table(tmp_path, theeye.url), where, VARIABLES) as server:
            clients = Clients(server.port, 8, commits=240)
            clients.start()
            for taken in (50, 100, 150):
                clients.wait_for(taken, TAKEN_WITHIN)
                if database == "postgresql" and taken == 100:
                    server.kill_worker(server.workers[0])
                else:
                    server.kill()
                    server.start()
            clients.finish(TAKEN_WITHIN)
            server.stop()
    with closing(Outbox(server.database_url)) as outbox, beside(server.database_url) as connection:

        def rows(query: str) -> float:
            return float(connection.execute(text(f"SELECT count(*) FROM {query}")).scalar_one())

        assert counted(outbox, EVENTS, "matched") == rows("events") == len(clients.taken) == 240
        assert counted(outbox, JOBS_CREATED) == rows("jobs")
        for outcome in ("accepted", "unknown"):
            ended = rows(f"attempts WHERE outcome = '{outcome}'")
            assert counted(outbox, ATTEMPTS, outcome) == ended
        assert counted(outbox, JOBS_ENDED, "accepted") == rows("jobs WHERE state = 'accepted'") > 0
        writers = connection.execute(text("SELECT DISTINCT writer FROM counters")).scalars().all()
        assert len(writers) >= 3, "no other process has counted"
