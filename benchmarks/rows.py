"""Ledgers of a given size, made in one go, and looks at them that the ledger itself has no use for."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

ENDED = """
INSERT INTO jobs (id, source, kind, key, state, sender, recipients, subject, message_id, thread, content_type, name, headers,
    raw_sha256, raw_size, raw, route, label, confidence, reason, approved, attempts, outages, lease_token, lease_owner,
    lease_beat, progress, received_at, updated_at)
SELECT printf('00%024d', n), 'smtp', 'mail', 'old-' || n, 'done', 'a' || (n % 5000) || '@sender.example', '["b@post.example"]',
    'Invoice ' || n, '<' || n || '@sender.example>', '<' || (n / 3) || '@sender.example>', 'message/rfc822', '', '{}',
    printf('%064x', n), 2000, NULL, 'default', 'invoice', 0.9, '', 0, 0, 0, 4, '', 0, '{}', 1700000000000 + n * 1000,
    1700000004000 + n * 1000
FROM numbers"""
RESULTS = """
INSERT INTO results (job_id, stage, value, token, started_at, ended_at)
SELECT printf('00%024d', n), stage, '{"summary": "what a stage found, in a few words"}', 1, 1700000000000, 1700000001000
FROM numbers, (SELECT 'extract' AS stage UNION SELECT 'classify' UNION SELECT 'reply' UNION SELECT 'deliver')"""
EVENTS = """
INSERT INTO events (job_id, at, event, stage, detail)
SELECT printf('00%024d', n), 1700000000000, stage || ' done', stage, '{}'
FROM numbers, (SELECT 'extract' AS stage UNION SELECT 'classify' UNION SELECT 'reply' UNION SELECT 'deliver')"""
NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
STEP = 20_000


def fill(database: Path, wanted: int) -> None:
    """Add ended jobs, with values and events, until there are `wanted`."""
    with contextlib.closing(_connect(database)) as connection:
        have = connection.execute("SELECT count(*) FROM jobs WHERE id < '01'").fetchone()[0]
        for start in range(have, wanted, STEP):
            connection.execute("BEGIN IMMEDIATE")
            for statement in (ENDED, RESULTS, EVENTS):
                target, _, select = statement.partition("\nSELECT")
                connection.execute(f"{target} {NUMBERS} SELECT{select}", (start, min(start + STEP, wanted)))
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def ends(database: Path, ids: Sequence[str]) -> dict[str, int]:
    """When each of these jobs, which have ended, was written last (milliseconds)."""
    with contextlib.closing(_connect(database)) as connection:
        query = "SELECT id, updated_at FROM jobs WHERE id BETWEEN ? AND ? AND stage IS NULL AND state = 'done'"
        found = dict(connection.execute(query, (min(ids), max(ids))))
    return {one: found[one] for one in ids if one in found}


def size(database: Path) -> int:
    """Bytes of the ledger's file, with all that was committed in it."""
    with contextlib.closing(_connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database.stat().st_size


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, isolation_level=None, timeout=60)
