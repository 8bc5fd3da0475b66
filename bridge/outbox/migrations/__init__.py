"""The store's schema over the releases, with Alembic: one module in versions/ for each change.

A starting process upgrades its store to HEAD. Migrations only add, so that during a rolling deploy
processes of the last release go on working.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import ProgrammingError

from bridge.core.errors import EmptyStore, StoreUnavailable
from bridge.outbox.database import cause
from bridge.outbox.locks import lock
from bridge.process.log_fields import Fields

#: The last revision.
HEAD = "0005"
#: The folder with Alembic's versions/.
SCRIPTS = Path(__file__).parent
#: The tables that identify a store of the bridge: another program may use Alembic, too.
TABLES = ("events", "jobs", "attempts")

#: SQLSTATE of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
INSUFFICIENT_PRIVILEGE = "42501"

log = logging.getLogger(__name__)

_REVISION = text("SELECT version_num FROM alembic_version")


def revision(connection: Connection) -> str | None:
    """Return the store's revision, None if it is empty. Raises StoreUnavailable for another program's."""
    tables = inspect(connection)
    if not tables.has_table("alembic_version"):
        return None
    found: str | None = connection.execute(_REVISION).scalar_one_or_none()
    if found is not None and not all(map(tables.has_table, TABLES)):
        raise StoreUnavailable(
            f"the database is another program's: at revision {found}, without {', '.join(TABLES)}; "
            "give the bridge a DATABASE_URL of its own"
        )
    return found


def upgrade(connection: Connection, *, create: bool = True) -> tuple[str | None, str]:
    """Upgrade the store to HEAD in the connection's transaction; return the revisions before and after.

    Raises StoreUnavailable if a newer release has upgraded it, or this role may not change the schema, and
    EmptyStore if it has no tables, unless `create`.
    """
    lock(connection, ("migration",))
    before = revision(connection)
    if before is None and not create:
        raise EmptyStore("the database is empty")
    if before != HEAD:
        try:
            _migrate(connection, before)
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
                raise
            found = f"at revision {before}" if before else "empty"
            raise StoreUnavailable(
                f"the database's schema is {found}, this release needs revision {HEAD}, and this role may "
                f"not change it ({cause(error)}): run `theeye-bridge db upgrade` with a DATABASE_URL of "
                "the role that owns the database"
            ) from error
        fields = Fields("upgrade", from_revision=before or "nothing", revision=HEAD)
        log.info("upgraded the database from %(from_revision)s to revision %(revision)s", fields)
    return before, HEAD


def _migrate(connection: Connection, before: str | None) -> None:
    # It logs its parts at INFO when they are imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Imported here: it takes a tenth of a second, and is rarely needed.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory(str(SCRIPTS))
    known = [each.revision for each in script.walk_revisions()]
    if before is not None and before not in known:
        raise StoreUnavailable(
            f"the database is at revision {before}, from a newer release of the bridge or another program; "
            f"this release knows up to {HEAD}. Deploy the newer release again, or set another "
            "DATABASE_URL"
        )
    with EnvironmentContext(Config(), script) as environment:
        environment.configure(
            connection=connection,
            fn=lambda _found, _context: script._upgrade_revs(HEAD, before or "base"),
            transactional_ddl=True,
        )
        if before is not None:
            environment.get_context().stamp(script, before)
        environment.run_migrations()
