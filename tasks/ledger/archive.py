"""Jobs that ended long ago: what may go, removing it, and which blobs are still referred to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.schema import job_blobs, jobs
from tasks.models import State


@dataclass(frozen=True)
class Rule:
    """Jobs in `state` that ended before `before`, those of the API before `api_before`, whose keys run out by `now`."""

    state: State
    before: int
    api_before: int
    now: int


class Archive:
    """The jobs that are over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, rule: Rule) -> int:
        """How many jobs a rule would remove now."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(jobs).where(_fits(rule))).scalar_one())

    def remove(self, rule: Rule, limit: int) -> int:
        """Remove the oldest jobs that fit, with their texts, values, deliveries, attempts and events; how many."""
        oldest = sa.select(jobs.c.id).where(_fits(rule)).order_by(jobs.c.received_at).limit(limit)
        with self._database.write() as connection:
            ids = connection.execute(oldest.with_for_update(skip_locked=True)).scalars().all()
            if ids:
                connection.execute(sa.delete(jobs).where(jobs.c.id.in_(ids)))
        return len(ids)

    def referred_to(self, digests: Sequence[str]) -> set[str]:
        """Those of the blobs that some job still needs."""
        raw = sa.select(jobs.c.raw_sha256).where(jobs.c.raw_sha256.in_(digests), jobs.c.raw.is_(None))
        query = sa.union(raw, sa.select(job_blobs.c.sha256).where(job_blobs.c.sha256.in_(digests)))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())


def _fits(rule: Rule) -> sa.ColumnElement[bool]:
    return sa.and_(
        jobs.c.state == rule.state.value,
        jobs.c.received_at < rule.before,  # what ended before came before: the index on (state, received_at) helps
        jobs.c.updated_at < rule.before,
        jobs.c.lease_owner == "",
        sa.or_(jobs.c.key_until.is_(None), jobs.c.key_until < rule.now),
        sa.or_(sa.not_(jobs.c.source.startswith("api")), jobs.c.updated_at < rule.api_before),
    )
