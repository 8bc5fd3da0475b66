"""The store's schema over the releases, on Alembic: one module in versions/ for each change.

A process that starts brings its store to HEAD. Migrations only add, so that processes of the release before,
which run on while a deploy goes through, still find what they know.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import ProgrammingError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.database import cause
from bridge.outbox.locks import lock

#: The last revision.
HEAD = "0001"
#: The folder with Alembic's versions/.
SCRIPTS = Path(__file__).parent
#: The tables that identify a store of the bridge: another program may use Alembic, too.
TABLES = ("events", "jobs", "attempts")

#: SQLSTATE of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
INSUFFICIENT_PRIVILEGE = "42501"

log = logging.getLogger(__name__)

_REVISION = text("SELECT version_num FROM alembic_version")


def revision(connection: Connection) -> str | None:
    """The store's revision, None where it is empty. Raises StoreUnavailable where it is another program's."""
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


def upgrade(connection: Connection) -> tuple[str | None, str]:
    """Bring the store to HEAD, within the connection's transaction; the revisions before and after.

    Raises StoreUnavailable where a newer release has been there: its store is not this one's to change; and
    where this role may not change the schema.
    """
    lock(connection, "migration")
    before = revision(connection)
    if before != HEAD:
        try:
            _migrate(connection, before)
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
                raise
            found = f"at revision {before}" if before else "empty"
            raise StoreUnavailable(
                f"the database's schema is {found}, this release needs revision {HEAD}, and this role may "
                f"not change it ({cause(error)}): run `python -m bridge db upgrade` with a DATABASE_URL of "
                "the role that owns the database"
            ) from error
        log.info("the store went from %s to revision %s", before or "nothing", HEAD)
    return before, HEAD


def _migrate(connection: Connection, before: str | None) -> None:
    # Says what its parts are at INFO as soon as they are imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Imported here: it costs a tenth of a second, and is needed once in a store's life.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory(str(SCRIPTS))
    known = [each.revision for each in script.walk_revisions()]
    if before is not None and before not in known:
        raise StoreUnavailable(
            f"the store is at revision {before}, made by a newer release of the bridge or another program; "
            f"this one knows up to {HEAD}. Deploy the newer release again, or give this one another "
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
