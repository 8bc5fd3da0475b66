"""Composition: from Settings to everything wired."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass

from bridge.config.load import Loaded, load
from bridge.deliver import Delivery
from bridge.log import configure
from bridge.outbox import Outbox
from bridge.receive import Receiver
from bridge.settings import Mask, Settings
from bridge.sources import discover
from bridge.table import RoutingTable

log = logging.getLogger(__name__)

#: SQLite releases with a rare corruption of the WAL when two connections write or checkpoint at
#: once: https://www.sqlite.org/wal.html#walresetbug
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))


@dataclass(frozen=True)
class Bridge:
    """One process's wired parts."""

    settings: Settings
    table: RoutingTable
    mask: Mask
    outbox: Outbox
    receiver: Receiver
    delivery: Delivery

    def close(self) -> None:
        """Close the store; `delivery` must have stopped."""
        self.outbox.close()


def read_table(settings: Settings) -> Loaded:
    """The table that the settings name. Raises ConfigError."""
    return load(settings.config, settings.variables, discover())


def build(settings: Settings) -> Bridge:
    """Wire one process; nothing runs yet. Raises ConfigError, StoreUnavailable."""
    loaded = read_table(settings)
    mask = Mask(loaded.secrets)
    configure(settings.log_level, settings.log_format, mask)
    for problem in loaded.problems:
        log.warning("%s", problem)
    first, fixed = _WAL_RESET_BUG
    if settings.web_concurrency > 1 and first <= sqlite3.sqlite_version_info < fixed:
        log.warning(
            "SQLite %s with %d web processes: releases before 3.51.3 can corrupt the database then; "
            "set WEB_CONCURRENCY=1",
            sqlite3.sqlite_version, settings.web_concurrency,
        )  # fmt: skip
    outbox = Outbox(settings.database_url)
    return Bridge(
        settings=settings,
        table=loaded.table,
        mask=mask,
        outbox=outbox,
        receiver=Receiver(loaded.table, outbox),
        delivery=Delivery(loaded.table, outbox, mask),
    )
