"""The ledger's tables. Times are milliseconds since the epoch; nothing here that PostgreSQL cannot do."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from tasks.ledger.types import Indexed, Name, Text

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)
_row_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself only with INTEGER

DONE_SENDERS = "state = 'done' AND sender <> ''"
"""What `ix_jobs_known` holds, in the words that a query has to repeat for it to be used."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Name(26), primary_key=True),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("key_until", BigInteger),  # null: as long as the job is here
    Column("state", Text, nullable=False),
    Column("stage", Text),
    Column("route", Text),
    Column("sender", Text, nullable=False, default=""),
    Column("recipients", JSON, nullable=False),
    Column("subject", Text, nullable=False, default=""),
    Column("message_id", Indexed, nullable=False, default=""),
    Column("thread", Indexed, nullable=False, default="", server_default=""),
    Column("content_type", Text, nullable=False),
    Column("name", Text, nullable=False, default=""),
    Column("headers", JSON, nullable=False),
    Column("raw_sha256", Name(64), nullable=False),
    Column("raw_size", BigInteger, nullable=False),
    Column("raw", LargeBinary),  # null: in the blob store
    Column("label", Text),
    Column("confidence", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("approved", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("outages", Integer, nullable=False, default=0),
    Column("lease_token", Integer, nullable=False, default=0),
    Column("lease_owner", Text, nullable=False, default=""),
    Column("lease_beat", Integer, nullable=False, default=0),
    Column("progress", JSON, nullable=False),
    Column("due_at", BigInteger),
    Column("enqueued_at", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("source", "key"),
    Index(None, "received_at"),
    Index(None, "state", "received_at"),
    Index(None, "message_id", sqlite_where=text("message_id <> ''"), postgresql_where=text("message_id <> ''")),
    Index(None, "thread", sqlite_where=text("thread <> ''"), postgresql_where=text("thread <> ''")),
    # only of jobs that were judged, so that accepting costs nothing more
    Index(
        None,
        "label",
        "received_at",
        sqlite_where=text("label IS NOT NULL"),
        postgresql_where=text("label IS NOT NULL"),
    ),
    # who has written before: only of jobs that are done, so that accepting costs nothing more
    Index("ix_jobs_known", text("lower(sender)"), sqlite_where=text(DONE_SENDERS), postgresql_where=text(DONE_SENDERS)),
    # what the rescue looks at: open jobs only, so that its cost does not grow with the archive
    Index(
        "ix_jobs_open",
        "due_at",
        "received_at",
        sqlite_where=text("stage IS NOT NULL"),
        postgresql_where=text("stage IS NOT NULL"),
    ),
    Index(
        "ix_jobs_leased",
        "lease_owner",
        sqlite_where=text("lease_owner <> ''"),
        postgresql_where=text("lease_owner <> ''"),
    ),
)

job_blobs = Table(  # what a job needs of the blob store beside its raw message
    "job_blobs",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", Name(64), primary_key=True),
    Index(None, "sha256"),
)

documents = Table(
    "documents",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Name(64), nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("language", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Index(None, "sha256"),  # which readings are still needed
)

results = Table(
    "results",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("token", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("transport", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # pending, sent, failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", BigInteger),
    Column("reason", Text, nullable=False, default=""),
    Column("sent_at", BigInteger),
    Column("tried_since", BigInteger),  # the first attempt since it was planned or asked for again
    Column("failed_at", BigInteger),
    Index(None, "target", "sent_at"),
    Index(None, "key"),
    # what an endpoint still gets, and what it did not (UNSENT): its cost does not grow with the archive
    Index(
        "ix_deliveries_unsent",
        "target",
        "state",
        sqlite_where=text("state <> 'sent'"),
        postgresql_where=text("state <> 'sent'"),
    ),
)

UNSENT = text("deliveries.state <> 'sent'")
"""Written out in a query, so that the planner can take ix_deliveries_unsent."""

attempts = Table(
    "attempts",
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("delivery", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("code", Integer),
    Column("detail", Text, nullable=False, default=""),
    Column("response", Text, nullable=False, default=""),
    Index(None, "job_id", "delivery"),
)

events = Table(
    "events",
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("stage", Text, nullable=False, default=""),
    Column("detail", JSON, nullable=False),
    Index(None, "job_id"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Name(10), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("sha256", Name(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("failing_since", BigInteger),
    Column("last_failure", Text, nullable=False, default=""),
    Column("last_failure_at", BigInteger),
    Column("last_success_at", BigInteger),
    Column("disabled_at", BigInteger),
    Column("disabled_because", Text, nullable=False, default=""),
)

outages = Table(  # the last one of each dependency: a handful of rows
    "outages",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("last_failure_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("open_until", BigInteger),  # the breaker that opened last
    Column("ended_at", BigInteger),
    Column("told_at", BigInteger),
    Column("end_told_at", BigInteger),
)

rescues = Table(  # what each rescue last found (rescues.Look)
    "rescues",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("tick_ms", Integer, nullable=False),
    Column("slowest_ms", Integer, nullable=False),
    Column("looks", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("taken_back", BigInteger, nullable=False),
    Column("open_jobs", Integer, nullable=False),
    Column("oldest_at", BigInteger),
    Column("unpublished", Integer, nullable=False),
    Column("queued", Integer),
    Column("longest_since", BigInteger),
)
