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
    TextClause,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# SQLite uses a partial index only for a query that repeats its condition literally.
#: A job that can be claimed once it is due.
IS_READY = text("state = 'waiting' AND NOT blocked")
#: A job that blocks the later ones of its group.
BLOCKS_GROUP = text("group_name IS NOT NULL AND state IN ('waiting', 'sending', 'unknown')")
#: A job that may hold its `once_within` key.
HOLDS_KEY = text("once_key IS NOT NULL AND state IN ('waiting', 'sending', 'accepted', 'unknown')")
#: A dead job without an alert.
LACKS_ALERT = text("state = 'dead' AND NOT alerted")
#: Every row. Only the page's lists have this condition, so that their indexes change no other plan.
#: SQLite uses only the first of several lower bounds of an index: write this one last.
IS_LISTED = text("id > 0")
#: A job about which a person must decide.
NEEDS_PERSON = text("state IN ('dead', 'unknown')")
_HAS_GROUP = text("group_name IS NOT NULL")

#: SQLite assigns ids only to a column of type INTEGER, which has 64 bits there.
ID = BigInteger().with_variant(Integer, "sqlite")


def _partial(name: str, condition: TextClause, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


events = Table(
    "events",
    metadata,
    Column("id", ID, primary_key=True),
    Column("source", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("action", Text),
    Column("delivery_id", Text, nullable=False),
    Column("fingerprint", Text),  # identifies the webhook if the sender sends no delivery id
    Column("headers", LargeBinary, nullable=False),
    Column("query", LargeBinary, nullable=False),
    # Compressed if that makes it shorter; empty if it is not stored.
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Double, nullable=False),
    # Problems in conditions and loops: a JSON list of texts. A redelivery replaces them.
    Column("warnings", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of what the sender sent
    Column("notes", LargeBinary),  # problems of its requests: a JSON list of texts. A redelivery leaves them
    UniqueConstraint("source", "delivery_id"),
    Index("events_by_fingerprint", "source", "fingerprint", "received_at"),
    Index("events_by_age", "received_at", "id"),
    Index("events_by_digest", "source", "digest", "id"),
    _partial("events_by_source", IS_LISTED, "source", "id"),
    sqlite_autoincrement=True,
)

# The row mapping reads and writes Job's fields by the columns' names. Job.table is stored in two columns;
# replay, attempt_count and alerted have no field.
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
    # The number of the replay that created it; 0 for a webhook's own jobs.
    Column("replay", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("arguments", LargeBinary),
    Column("reason", Text),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("retry_window_start", Double, nullable=False),
    Column("window_attempts", Integer, nullable=False),
    Column("window_unknowns", Integer, nullable=False),
    Column("attempt_count", Integer, nullable=False),  # all attempts, which is the number of the last one
    Column("theeye_job_id", Text),
    Column("claim_token", Text),
    Column("lease_until", Double),
    Column("group_name", Text),  # Job.group: the name is a keyword of SQL
    Column("position", BigInteger),  # in the order of commits
    Column("latest", Boolean, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("once_key", Text),
    Column("ended_at", Double),
    Column("alerted", Boolean, nullable=False),  # whether a job of on_dead reports its death
    Column("table_hash", Text),
    Column("table_commit", Text),
    UniqueConstraint("event_id", "route", "item_key", "replay"),
    Index("jobs_by_state", "state", "id"),
    _partial("jobs_by_route", IS_LISTED, "route", "id"),
    _partial("jobs_by_task", IS_LISTED, "task_id", "id"),
    _partial("jobs_for_person", NEEDS_PERSON, "state", "route", "id"),
    # The state comes first: otherwise the planner uses jobs_by_state and sorts all waiting jobs.
    _partial("jobs_ready", IS_READY, "state", "due_at", "id", "task_id", "route"),
    _partial("jobs_ready_by_task", IS_READY, "state", "task_id", "due_at", "id"),
    _partial("jobs_by_group", _HAS_GROUP, "task_id", "group_name", "position"),
    # Without ended jobs, of which there are many.
    _partial("jobs_blocking", BLOCKS_GROUP, "task_id", "group_name", "position"),
    _partial("jobs_by_key", HOLDS_KEY, "route", "once_key", "ended_at"),
    _partial("jobs_without_alert", LACKS_ALERT, "state", "ended_at"),
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
    Column("task_id", Text, nullable=False),  # copied from the job, for rate limits
    UniqueConstraint("job_id", "number"),
    Index("attempts_by_task", "task_id", "started_at"),
    sqlite_autoincrement=True,
)

#: The last refused requests of each source, without their bodies.
refused_requests = Table(
    "refused_requests",
    metadata,
    Column("id", ID, primary_key=True),
    Column("source", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Text, nullable=False),  # never says which secret
    Column("event", Text),  # from the sender's header, if it has one
    Column("size", BigInteger),  # bytes of the body, if known
    Column("client", Text),  # the client's address, if known
    Index("refused_requests_by_source", "source", "id"),
    sqlite_autoincrement=True,
)

#: The processes that deliver.
processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("heartbeat_at", Double, nullable=False),
    Column("trouble", Text),  # why it cannot send
)

#: The tasks and routes whose jobs wait until a person resumes them.
pauses = Table(
    "pauses",
    metadata,
    Column("kind", Text, primary_key=True),  # "task" or "route"
    Column("name", Text, primary_key=True),  # a task's id, or a route's name
    Column("since", Double, nullable=False),
)

#: When the last alert for dead jobs of a route was created.
dead_job_alerts = Table(
    "dead_job_alerts", metadata, Column("route", Text, primary_key=True), Column("at", Double, nullable=False)
)

#: The sources and routes with `expect_every`; route is empty for the source itself.
expectations = Table(
    "expectations",
    metadata,
    Column("source", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("since", Double, nullable=False),  # when a process first expected it
    Column("seen_at", Double),  # the last webhook, or the last job of the route
    Column("alerted", Boolean, nullable=False),  # whether a job of on_silence reports the silence
)

#: The counts of /metrics; see counters.
counters = Table(
    "counters",
    metadata,
    # Each process has a writer or several. None adds to the rows of another, for whose lock it would wait.
    Column("writer", Text, primary_key=True),
    Column("series", Text, primary_key=True),  # a metric's name and the values of its labels: a JSON list
    Column("value", Double, nullable=False),
    Column("at", Double, nullable=False),  # when it last grew
    sqlite_with_rowid=False,
)

#: Actions of people on jobs, events, tasks and routes.
audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("account", Text),  # the operating system's account that ran the command; null without a command
    Column("action", Text, nullable=False),  # such as "jobs retry"
    Column("target", LargeBinary, nullable=False),  # ids or a filter: a JSON object
    Column("selected", BigInteger),  # how many it selected; null if they were not counted
    # How many it changed: each transaction of the action adds its own.
    Column("changed", BigInteger, nullable=False),
    Column("ended_at", Double),  # null while it runs, and if the process ended before it did
    Column("reason", Text),  # what the person wrote; null from a command
    Column("reached", BigInteger),  # the last id of an action that is done in parts
    sqlite_autoincrement=True,
)
