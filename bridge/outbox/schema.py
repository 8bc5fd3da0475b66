"""The outbox's tables. Times are seconds since the epoch; bodies and arguments are bytes of JSON."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# SQLite takes a partial index only for a query that spells its condition alike, as a literal.
#: A claim may take it once it is due.
IS_READY = text("state = 'waiting' AND NOT blocked")
#: Holds back the later jobs of its group.
BLOCKS_GROUP = text("group_name IS NOT NULL AND state IN ('waiting', 'sending', 'unknown')")
#: Keeps others of its route with the same key from running.
HOLDS_KEY = text("once_key IS NOT NULL AND state IN ('waiting', 'sending', 'accepted', 'unknown')")
#: Died, and nobody was told of it.
LACKS_ALERT = text("state = 'dead' AND NOT alerted")
_HAS_GROUP = text("group_name IS NOT NULL")

#: SQLite counts an id up by itself only where its type is spelled INTEGER; it is 64 bits wide all the same.
ID = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("id", ID, primary_key=True),
    Column("source", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("action", Text),
    Column("delivery_id", Text, nullable=False),
    # Stands for the delivery id where the sender has none.
    Column("fingerprint", Text),
    Column("headers", LargeBinary, nullable=False),
    Column("query", LargeBinary, nullable=False),
    # Compressed, where that makes it shorter; empty where it is not kept.
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Double, nullable=False),
    # What went wrong in conditions and loops: a JSON list of texts.
    Column("warnings", LargeBinary, nullable=False),
    # SHA-256 of what the sender sent.
    Column("digest", LargeBinary, nullable=False),
    # What was odd about its requests: a JSON list of texts. A redelivery replaces the warnings, not these.
    Column("notes", LargeBinary),
    UniqueConstraint("source", "delivery_id"),
    Index("events_by_fingerprint", "source", "fingerprint", "received_at"),
    Index("events_by_age", "received_at", "id"),
    Index("events_by_digest", "source", "digest", "id"),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("event_id", ID, ForeignKey("events.id"), nullable=False),
    Column("route", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("item_key", Text, nullable=False),
    Column("item_index", Integer),
    Column("replay", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("arguments", LargeBinary),
    Column("reason", Text),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("retry_window_start", Double, nullable=False),
    Column("window_attempts", Integer, nullable=False),
    Column("window_unknowns", Integer, nullable=False),
    # Attempts in its whole life: the number of the last one.
    Column("attempt_count", Integer, nullable=False),
    Column("theeye_job_id", Text),
    Column("claim_token", Text),
    Column("lease_until", Double),
    # Its group is this name among the jobs of its task.
    Column("group_name", Text),
    # Its place in the group, in the order of commits.
    Column("position", BigInteger),
    # Whether it replaces the earlier ones of its group that still wait.
    Column("latest", Boolean, nullable=False),
    # While it waits: whether an earlier one of its group has to end first.
    Column("blocked", Boolean, nullable=False),
    Column("once_key", Text),
    # When it came to a state that it leaves only by a person's or the sender's asking again.
    Column("ended_at", Double),
    # Since it died: whether somebody was told of it.
    Column("alerted", Boolean, nullable=False),
    # The routing table that built it; see job.TableVersion.
    Column("table_hash", Text),
    Column("table_commit", Text),
    UniqueConstraint("event_id", "route", "item_key", "replay"),
    Index("jobs_by_state", "state", "id"),
    # With the state first: without it, the planner takes jobs_by_state and sorts the whole backlog.
    Index(
        "jobs_ready",
        "state",
        "due_at",
        "id",
        "task_id",
        "route",
        sqlite_where=IS_READY,
        postgresql_where=IS_READY,
    ),
    Index(
        "jobs_by_group",
        "task_id",
        "group_name",
        "position",
        sqlite_where=_HAS_GROUP,
        postgresql_where=_HAS_GROUP,
    ),
    # Without those that have ended, which become many.
    Index(
        "jobs_blocking",
        "task_id",
        "group_name",
        "position",
        sqlite_where=BLOCKS_GROUP,
        postgresql_where=BLOCKS_GROUP,
    ),
    Index(
        "jobs_by_key",
        "route",
        "once_key",
        "ended_at",
        sqlite_where=HOLDS_KEY,
        postgresql_where=HOLDS_KEY,
    ),
    Index("jobs_without_alert", "state", "ended_at", sqlite_where=LACKS_ALERT, postgresql_where=LACKS_ALERT),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("job_id", ID, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seconds", Double),
    Column("outcome", Text),
    Column("status", Integer),
    Column("detail", Text),
    Column("theeye_job_id", Text),
    # Its job's, for the rate.
    Column("task_id", Text, nullable=False),
    UniqueConstraint("job_id", "number"),
    Index("attempts_by_task", "task_id", "started_at"),
    sqlite_autoincrement=True,
)

#: The last refused requests of each source; none of their bodies.
refused_requests = Table(
    "refused_requests",
    metadata,
    Column("id", ID, primary_key=True),
    Column("source", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("status", Integer, nullable=False),
    # The class of reason: never which secret.
    Column("reason", Text, nullable=False),
    # What the sender's header says, where there is one.
    Column("event", Text),
    # Bytes of the body, as far as it is known.
    Column("size", BigInteger),
    # The client's address, as far as it is known.
    Column("client", Text),
    Index("refused_requests_by_source", "source", "id"),
    sqlite_autoincrement=True,
)

#: Processes that deliver, each with the time when it last said so.
processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("heartbeat_at", Double, nullable=False),
    # What keeps it from sending.
    Column("trouble", Text),
)

#: Tasks and routes whose jobs wait until a person resumes them.
pauses = Table(
    "pauses",
    metadata,
    # "task" or "route".
    Column("kind", Text, primary_key=True),
    # A task's id, or a route's name.
    Column("name", Text, primary_key=True),
    Column("since", Double, nullable=False),
)

#: When somebody was last told of jobs that died, by their route.
dead_job_alerts = Table(
    "dead_job_alerts",
    metadata,
    Column("route", Text, primary_key=True),
    Column("at", Double, nullable=False),
)

#: What people did to jobs, events, tasks and routes.
audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
    # When it began.
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    # The account of the operating system that ran the command; null where no command did it.
    Column("account", Text),
    # Such as "jobs retry".
    Column("action", Text, nullable=False),
    # Numbers or a filter: a JSON object.
    Column("target", LargeBinary, nullable=False),
    # How many it was meant for; null where nobody counted.
    Column("selected", BigInteger),
    # How many it has changed. Each change counts itself, in its own transaction.
    Column("changed", BigInteger, nullable=False),
    # Null while it runs, and for ever where the process ended in the middle.
    Column("ended_at", Double),
    sqlite_autoincrement=True,
)
