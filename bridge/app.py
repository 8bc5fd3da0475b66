"""Composition: from Settings to everything wired."""

from __future__ import annotations

import logging
import sqlite3
from contextvars import ContextVar
from dataclasses import dataclass

from bridge.config.load import Loaded, load
from bridge.config.reload import Reloader, TableWatcher, log_rejected_table
from bridge.core.errors import ConfigError
from bridge.core.problem import Problem
from bridge.core.secrets import SHORT_SECRET, Mask, visible
from bridge.delivery.dispatcher import DRY_RUN, Delivery
from bridge.http.fetch import Fetcher
from bridge.intake.receive import Receiver
from bridge.intake.refusals import Refusals
from bridge.outbox.daily_prune import Pruner
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.log import configure
from bridge.process.settings import Settings
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover

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
    mask: Mask
    outbox: Outbox
    receiver: Receiver
    delivery: Delivery
    refusals: Refusals
    pruner: Pruner
    reloader: Reloader

    @property
    def table(self) -> RoutingTable:
        """The one in force."""
        return self.receiver.table

    @property
    def table_trouble(self) -> str | None:
        """Why the table that the settings name is not the one in force, masked; None where it is."""
        trouble = self.reloader.trouble
        return None if trouble is None else self.mask(trouble)

    def start(self, *, deliver: bool) -> None:
        """Go by the table as it is edited and, where this process is to, deliver and prune."""
        self.reloader.start()
        if deliver:
            self.delivery.start()
            self.pruner.start()

    def close(self) -> None:
        """Close the store; `delivery` must have stopped."""
        self.reloader.close()
        self.pruner.close()
        self.refusals.close()
        self.outbox.close()


def table_watcher(settings: Settings) -> TableWatcher:
    """The table that the settings name; its sources can fetch what they need."""
    variables = settings.variables
    return TableWatcher(
        settings.config,
        lambda: load(settings.config, variables, discover(Fetcher()), commit=settings.commit),
        lambda: variables.files,
    )


def prepare_store(settings: Settings) -> None:
    """Bring the store up to date before several processes open it at once. Raises StoreUnavailable."""
    Outbox(settings.database_url).close()


def build(settings: Settings) -> Bridge:
    """Wire one process; nothing runs yet.

    Raises StoreUnavailable, and ConfigError where there is no last good table either.
    """
    table_refused: tuple[Problem, ...] = ()
    watcher = table_watcher(settings)
    try:
        loaded = watcher.load()
    except ConfigError as error:
        last = last_good.get()
        if last is None:
            raise
        loaded, table_refused = last, error.problems
    mask = Mask([*loaded.secrets, *settings.secrets])
    configure(settings.log_level, settings.log_format, mask, queued=True)
    for problem in loaded.problems:
        log.warning("%s", problem)
    log.info("the routing table in force: %s, routes: %d", loaded.version, len(loaded.table.routes))
    if table_refused:
        log_rejected_table(table_refused)
    token = settings.status_token
    if token is not None and len(visible(token.reveal())) < SHORT_SECRET:
        log.warning("BRIDGE_STATUS_TOKEN is easily guessed; make one with openssl rand -hex 32")
    if settings.dry_run:
        log.warning("%s", DRY_RUN)
    clock = Clock()
    outbox = Outbox(settings.database_url, clock=clock)
    return wire(settings, watcher, loaded, outbox, mask, table_refused, clock)


def wire(
    settings: Settings,
    watcher: TableWatcher,
    loaded: Loaded,
    outbox: Outbox,
    mask: Mask,
    table_refused: tuple[Problem, ...] = (),
    clock: Clock | None = None,
) -> Bridge:
    """One process's parts on a store that is open; nothing runs yet. `loaded` comes into force."""
    clock = clock or Clock()
    refusals = Refusals(outbox)
    receiver = Receiver(loaded.table, outbox, refusals, mask)
    delivery = Delivery(loaded.table, outbox, mask, dry_run=settings.dry_run, clock=clock)

    def use(loaded: Loaded) -> None:
        mask.learn(loaded.secrets)
        for problem in loaded.problems:
            log.warning("%s", problem)
        # Before the first job comes in whose task is new.
        delivery.use(loaded.table)
        receiver.table = loaded.table

    return Bridge(
        settings=settings,
        mask=mask,
        outbox=outbox,
        receiver=receiver,
        delivery=delivery,
        refusals=refusals,
        pruner=Pruner(outbox, settings.retention, clock),
        reloader=Reloader(watcher, use, table_refused, tick=clock),
    )


def warn_of_sqlite(database_url: str, web_processes: int) -> None:
    """Warn where this release of SQLite can corrupt a database that several processes write."""
    first, fixed = _WAL_RESET_BUG
    one_process = web_processes == 1 or not database_url.startswith("sqlite")
    if not one_process and first <= sqlite3.sqlite_version_info < fixed:
        log.warning(
            "SQLite %s with %d web processes: releases before 3.51.3 can corrupt the database then; "
            "set WEB_CONCURRENCY=1, and no --workers",
            sqlite3.sqlite_version, web_processes,
        )  # fmt: skip
