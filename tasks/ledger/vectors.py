"""What documents mean, as a model's vectors: which are missing, and which are near a given one."""

from __future__ import annotations

import heapq
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import mul

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.ledger.engine import Database
from tasks.ledger.schema import documents, jobs, metadata
from tasks.ledger.types import Name, Text

PAGE = 500
"""Vectors in memory at once while all are compared: 500 of 1024 dimensions are 2 MiB."""

vectors = sa.Table(
    "vectors",
    metadata,
    sa.Column("job_id", Name(26), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("dims", sa.Integer, nullable=False),  # 0: the model has none for this text
    sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little endian, of length one
    sa.Column("characters", sa.Integer, nullable=False),  # of the text's start, that it was made of
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.ForeignKeyConstraint(["job_id", "ordinal"], ["documents.job_id", "documents.ordinal"], ondelete="CASCADE"),
)


@dataclass(frozen=True)
class Near:
    """A job, and how near its nearest document is: the cosine, at most 1."""

    job_id: str
    ordinal: int
    """Of that document."""
    cosine: float


class Vectors:
    """One row a document at most; a document that is read anew loses its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lacking(self, model: str, before: str, most: int) -> tuple[str, list[tuple[str, int]]]:
        """Documents without a vector of `model`, of the `most` jobs that are next before a job id (empty: the newest).

        Returns the id to go on before, empty when there is no older job, and the documents by job and ordinal.
        """
        some = sa.select(jobs.c.id).order_by(jobs.c.id.desc()).limit(most)
        if before:
            some = some.where(jobs.c.id < before)
        joined = documents.outerjoin(
            vectors, sa.and_(vectors.c.job_id == documents.c.job_id, vectors.c.ordinal == documents.c.ordinal)
        )
        query = (
            sa.select(documents.c.job_id, documents.c.ordinal)
            .select_from(joined)
            .where(documents.c.status == "read", documents.c.text != "")
            .where(sa.or_(vectors.c.model.is_(None), vectors.c.model != model))
            .order_by(documents.c.job_id.desc(), documents.c.ordinal)
        )
        with self._database.read() as connection:
            ids = connection.execute(some).scalars().all()
            rows = connection.execute(query.where(documents.c.job_id.in_(ids))).all() if ids else []
        return (ids[-1] if len(ids) == most else ""), [(row.job_id, row.ordinal) for row in rows]

    def text(self, job_id: str, ordinal: int) -> str:
        """A document's text; empty when it is not there any more."""
        query = sa.select(documents.c.text).where(documents.c.job_id == job_id, documents.c.ordinal == ordinal)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or ""

    def keep(self, job_id: str, ordinal: int, model: str, vector: Sequence[float], characters: int) -> None:
        """Write a document's vector in the place of the one that was there; an empty one says that it has none.

        Does nothing for a document that has gone meanwhile.
        """
        same = (vectors.c.job_id == job_id, vectors.c.ordinal == ordinal)
        there = sa.select(documents.c.job_id).where(documents.c.job_id == job_id, documents.c.ordinal == ordinal)
        row = {"job_id": job_id, "ordinal": ordinal, "model": model, "dims": len(vector), "made_at": now_ms()}
        row |= {"vector": packed(unit(vector)), "characters": characters}
        with self._database.write() as connection:
            if connection.execute(there).first() is not None:
                connection.execute(sa.delete(vectors).where(*same))
                connection.execute(sa.insert(vectors).values(row))

    def of(self, job_id: str, model: str) -> list[array[float]]:
        """The vectors of a job's documents."""
        query = sa.select(vectors.c.vector).where(
            vectors.c.job_id == job_id, vectors.c.model == model, vectors.c.dims > 0
        )
        with self._database.read() as connection:
            return [unpacked(blob) for blob in connection.execute(query.order_by(vectors.c.ordinal)).scalars()]

    def count(self, model: str) -> int:
        """Documents that have a vector of `model`."""
        query = sa.select(sa.func.count()).select_from(vectors).where(vectors.c.model == model, vectors.c.dims > 0)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def near(self, wanted: Sequence[float], model: str, most: int, without: str = "") -> list[Near]:
        """The jobs with a document nearest to `wanted`, the nearest first; `without` is a job that is left out."""
        direction, best = unit(wanted), dict[str, Near]()
        for page in self._pages(model, len(direction)):
            for job_id, ordinal, blob in page:
                cosine = sum(map(mul, direction, unpacked(blob)))
                if job_id != without and (job_id not in best or best[job_id].cosine < cosine):
                    best[job_id] = Near(job_id, ordinal, cosine)
            if len(best) > 4 * most:
                best = {one.job_id: one for one in _first(best.values(), most)}
        return _first(best.values(), most)

    def _pages(self, model: str, dims: int) -> Iterator[list[tuple[str, int, bytes]]]:
        place = ("", -1)
        while True:
            query = (
                sa.select(vectors.c.job_id, vectors.c.ordinal, vectors.c.vector)
                .where(sa.tuple_(vectors.c.job_id, vectors.c.ordinal) > sa.tuple_(*(sa.literal(one) for one in place)))
                .where(vectors.c.model == model, vectors.c.dims == dims)
                .order_by(vectors.c.job_id, vectors.c.ordinal)
                .limit(PAGE)
            )
            with self._database.read() as connection:
                page = [(row.job_id, row.ordinal, row.vector) for row in connection.execute(query)]
            if page:
                yield page
            if len(page) < PAGE:
                return
            place = page[-1][:2]


def _first(found: Iterable[Near], most: int) -> list[Near]:
    return heapq.nsmallest(most, found, key=lambda one: (-one.cosine, one.job_id))


def unit(vector: Sequence[float]) -> list[float]:
    """The vector of length one in the same direction; one without a direction stays as it is."""
    length = math.sqrt(sum(map(mul, vector, vector)))
    return [value / length for value in vector] if length > 0 and math.isfinite(length) else list(vector)


def packed(vector: Sequence[float]) -> bytes:
    """As it stands in the ledger."""
    values = array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def unpacked(blob: bytes) -> array[float]:
    """What `packed` made."""
    values = array("f")
    values.frombytes(blob)
    if sys.byteorder == "big":
        values.byteswap()
    return values
