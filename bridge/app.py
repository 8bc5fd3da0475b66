"""The composition root: create and connect the parts of one process."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from bridge import __version__
from bridge.config.load import Loaded, load
from bridge.config.reload import Reloader, TableWatcher, log_rejected_table
from bridge.core.errors import ConfigError
from bridge.core.problem import Problem
from bridge.core.secrets import MIN_SECRET_CHARACTERS, Mask, strip_invisible
from bridge.delivery.dispatcher import DRY_RUN_NOTICE, Delivery
from bridge.http.fetch import Fetcher
from bridge.intake.receive import Receiver
from bridge.intake.refusals import Refusals
from bridge.outbox.daily_prune import Pruner
from bridge.outbox.database import store_name
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.database_disk import disk_trouble
from bridge.process.log import configure_server
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover

log = logging.getLogger(__name__)

#: How much of a stop remains for closing the store.
CLOSE_SECONDS = 1.0

#: The first release of SQLite in which two connections can corrupt the WAL, and the first one that is fixed:
#: https://www.sqlite.org/wal.html#walresetbug
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))

#: The last valid table, for a process that starts while the one on disk is invalid. The server sets it: its
#: master outlives the workers.
last_valid_table: ContextVar[Loaded | None] = ContextVar("last_valid_table", default=None)

#: How many processes the server starts, for the log. The server sets it.
processes: ContextVar[int] = ContextVar("processes", default=1)


@dataclass(frozen=True)
class Bridge:
    """The connected parts of one process."""

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
        """The active table."""
        return self.receiver.table

    @property
    def table_trouble(self) -> str | None:
        """Why the table on disk is not the active one, masked; None if it is."""
        trouble = self.reloader.trouble
        return None if trouble is None else self.mask(trouble)

    def start(self, *, deliver: bool) -> None:
        """Reload the table when it is edited and, with `deliver`, deliver and prune."""
        self.reloader.start()
        if deliver:
            self.delivery.start()
            self.pruner.start()

    def stop_delivery(self) -> None:
        """Stop delivery, early enough to close the store within the stop timeout."""
        self.delivery.stop(max(0.0, self.settings.stop_timeout - CLOSE_SECONDS))

    def close(self) -> None:
        """Close the store; delivery must have stopped."""
        self.reloader.close()
        self.pruner.close()
        self.refusals.close()
        self.outbox.close()
        log.info("the process has stopped", Fields("stop", pid=os.getpid()))


def table_watcher(settings: Settings) -> TableWatcher:
    """Return the watcher of the table on disk, whose sources can fetch URLs."""
    variables = settings.environment
    return TableWatcher(
        settings.config,
        lambda: load(settings.config, variables, discover(Fetcher()), commit=settings.commit),
        lambda: variables.files,
    )


def load_with(settings: Settings, added: Mapping[str, bytes]) -> Loaded:
    """Return the table on disk with further files, by name; variables may be unset. Raises ConfigError."""
    types = discover(Fetcher())
    return load(settings.config, settings.environment, types, require_env=False, added=added)


def prepare_store(settings: Settings) -> None:
    """Upgrade the store before several processes open it at once. Raises StoreUnavailable."""
    Outbox(settings.database_url).close()


def build(settings: Settings) -> Bridge:
    """Connect the parts of one process; nothing runs yet.

    Raises StoreUnavailable, and ConfigError if the table is invalid and there is no last valid one.
    """
    table_refused: tuple[Problem, ...] = ()
    watcher = table_watcher(settings)
    try:
        loaded = watcher.load()
    except ConfigError as error:
        last = last_valid_table.get()
        if last is None:
            raise
        loaded, table_refused = last, error.problems
    mask = Mask([*loaded.secrets, *settings.secrets])
    configure_server(settings, mask)
    _log_problems(loaded)
    _log_start(settings, loaded)
    if table_refused:
        log_rejected_table(table_refused)
    else:
        for line in settings.unknown_variables():
            log.warning("%(reason)s", Fields("setting", reason=line))
    token = settings.status_token
    if token is not None and len(strip_invisible(token.reveal())) < MIN_SECRET_CHARACTERS:
        text = "BRIDGE_STATUS_TOKEN is easily guessed; create one with openssl rand -hex 32"
        log.warning(text, Fields("setting"))
    if settings.dry_run:
        log.warning(DRY_RUN_NOTICE, Fields("setting"))
    if trouble := disk_trouble(settings):
        log.warning("%(reason)s", Fields("setting", reason=trouble))
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
    """Connect the parts of one process to an open store, with `loaded` as the active table."""
    clock = clock or Clock()
    outbox.expectations.use(loaded.table.expectations)
    refusals = Refusals(outbox)
    receiver = Receiver(loaded.table, outbox, refusals, mask, public_url=settings.public_url)
    delivery = Delivery(loaded.table, outbox, mask, dry_run=settings.dry_run, clock=clock)

    def use(loaded: Loaded) -> None:
        mask.add(loaded.secrets)
        _log_problems(loaded)
        outbox.expectations.use(loaded.table.expectations)
        # First, so that delivery knows the tasks of the first new job.
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


def warn_if_sqlite_is_unsafe(database_url: str, processes: str, remedy: str) -> None:
    """Warn if this release of SQLite can corrupt a database that several `processes` write."""
    first, fixed = _WAL_RESET_BUG
    if database_url.startswith("sqlite") and first <= sqlite3.sqlite_version_info < fixed:
        risk = "releases before 3.51.3 can corrupt the database"
        reason = f"SQLite {sqlite3.sqlite_version} with {processes}: {risk}; {remedy}"
        log.warning("%(reason)s", Fields("setting", reason=reason))


def _log_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        log.warning("%(reason)s", Fields("table_problem", reason=str(problem)))


def _log_start(settings: Settings, loaded: Loaded) -> None:
    table, commit = loaded.table, " of commit %(commit)s" if settings.commit else ""
    log.info(
        f"the active routing table: %(table_hash)s{commit}, routes: %(routes)d",
        Fields(
            "start", release=__version__, table=str(settings.config), table_hash=loaded.version.hash,
            commit=settings.commit, routes=len(table.routes), sources=len(table.sources),
            store=store_name(settings.database_url), processes=processes.get(), pid=os.getpid(),
        ),
    )  # fmt: skip
