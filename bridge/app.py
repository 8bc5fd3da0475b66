"""Composition: from Settings to everything wired."""

from __future__ import annotations

import logging
import sqlite3
from contextvars import ContextVar
from dataclasses import dataclass

from bridge.config.load import Loaded, load
from bridge.deliver import DRY_RUN, Delivery
from bridge.errors import ConfigError
from bridge.http.fetch import Fetcher
from bridge.log import configure
from bridge.outbox import Outbox
from bridge.problem import Problem
from bridge.receive import Receiver
from bridge.refusals import Refusals
from bridge.retention import Pruner
from bridge.settings import Mask, Settings
from bridge.sources import discover
from bridge.table import RoutingTable

log = logging.getLogger(__name__)

#: SQLite releases with a rare corruption of the WAL when two connections write or checkpoint at
#: once: https://www.sqlite.org/wal.html#walresetbug
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))

#: The last table without mistakes, for a process that starts while there is none: the server sets it,
#: whose master outlives its workers.
last_good: ContextVar[Loaded | None] = ContextVar("last_good", default=None)


@dataclass(frozen=True)
class Bridge:
    """One process's wired parts."""

    settings: Settings
    table: RoutingTable
    mask: Mask
    outbox: Outbox
    receiver: Receiver
    delivery: Delivery
    refusals: Refusals
    pruner: Pruner
    #: Why the table that the settings name is not the one in force; empty where it is.
    table_refused: tuple[Problem, ...] = ()

    def close(self) -> None:
        """Close the store; `delivery` must have stopped."""
        self.pruner.close()
        self.refusals.close()
        self.outbox.close()


def read_table(settings: Settings) -> Loaded:
    """The table that the settings name; its sources can fetch what they need. Raises ConfigError."""
    return load(settings.config, settings.variables, discover(Fetcher()))


def prepare_store(settings: Settings) -> None:
    """Bring the store up to date before several processes open it at once. Raises StoreUnavailable."""
    Outbox(settings.database_url).close()


def build(settings: Settings) -> Bridge:
    """Wire one process; nothing runs yet.

    Raises StoreUnavailable, and ConfigError where there is no last good table either.
    """
    table_refused: tuple[Problem, ...] = ()
    try:
        loaded = read_table(settings)
    except ConfigError as error:
        last = last_good.get()
        if last is None:
            raise
        loaded, table_refused = last, error.problems
    mask = Mask(loaded.secrets)
    configure(settings.log_level, settings.log_format, mask)
    for problem in loaded.problems:
        log.warning("%s", problem)
    if table_refused:
        log.error("the routing table has mistakes, the last good one stays in force")
    for problem in table_refused:
        log.error("%s", problem)
    _warn_of_sqlite(settings)
    if settings.dry_run:
        log.warning("%s", DRY_RUN)
    outbox = Outbox(settings.database_url)
    refusals = Refusals(outbox)
    return Bridge(
        settings=settings,
        table=loaded.table,
        mask=mask,
        outbox=outbox,
        receiver=Receiver(loaded.table, outbox, refusals, mask),
        delivery=Delivery(loaded.table, outbox, mask, dry_run=settings.dry_run),
        refusals=refusals,
        pruner=Pruner(outbox, settings.retention),
        table_refused=table_refused,
    )


def _warn_of_sqlite(settings: Settings) -> None:
    first, fixed = _WAL_RESET_BUG
    one_process = settings.web_concurrency == 1 or not settings.database_url.startswith("sqlite")
    if not one_process and first <= sqlite3.sqlite_version_info < fixed:
        log.warning(
            "SQLite %s with %d web processes: releases before 3.51.3 can corrupt the database then; "
            "set WEB_CONCURRENCY=1",
            sqlite3.sqlite_version, settings.web_concurrency,
        )  # fmt: skip
