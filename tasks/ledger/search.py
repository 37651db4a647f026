"""Finding jobs by words: subject, sender, Message-ID, file names, text and field values. SQLite FTS5, PostgreSQL tsvector.

Both get the same plain words (`words_of`), so both find the same. A job is indexed when it was read and again when it
was judged, in the transaction that ends the stage: accepting costs nothing. `backfill` finds those that came before.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from tasks.ledger.engine import Database
from tasks.ledger.rows import JOB_COLUMNS, job_of
from tasks.ledger.schema import documents, jobs, metadata, results
from tasks.models import Job, Stage, State

MOST_CHARACTERS = 60_000
"""Of one job; what is longer is found by its beginning."""
MOST_WORDS = 12
"""Words of a query; more are left out."""
MOST_ENDINGS = 50
"""Words that a beginning may stand for to be looked for by name."""
_WORD = re.compile(r"[^\W_]+")
_UNREAD = (State.RECEIVED.value, State.FETCHING.value, State.EXTRACTING.value)

search_docs = sa.Table(
    "search_docs",
    metadata,
    sa.Column("n", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    sa.UniqueConstraint("job_id"),
)
search_words = sa.table("search_words", sa.column("n"), sa.column("rowid"), sa.column("words"))
"""A virtual table on SQLite (by rowid), an ordinary one on PostgreSQL; made by hand in migration 0013."""
_COLUMNS = [jobs.c[name] for name in JOB_COLUMNS]


def words_of(text: str) -> list[str]:
    """Letters and digits in one form: without case, accents and punctuation."""
    folded = unicodedata.normalize("NFKD", text[:MOST_CHARACTERS]).casefold()
    if not folded.isascii():
        folded = "".join(one for one in folded if one < "\u0300" or not unicodedata.combining(one))  # the first of them
    return _WORD.findall(folded)


class Search:
    """The index and what is asked of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def matching(
        self, query: str, before: int | None, most: int, fits: Sequence[sa.ColumnElement[bool]] = (), limit: int = 0
    ) -> list[tuple[int, str]]:
        """The newest `most` jobs with all words of `query`, as (place in the index, job id), below `before`.

        Of these, where conditions on jobs are given, the newest `limit` that fit. What is written together (`INV-2026`,
        an address) has to stand together. A last word that is found nowhere as it is is taken for a beginning.
        """
        with self._database.read() as connection:
            asked = self._asked(connection, query)
            if not asked:
                return []
            found = self._newest(before, most).subquery()
            wanted = sa.select(found.c.n, search_docs.c.job_id).join(search_docs, search_docs.c.n == found.c.n)
            if fits:
                wanted = wanted.join(jobs, jobs.c.id == search_docs.c.job_id).where(*fits).limit(limit)
            return [(row.n, row.job_id) for row in connection.execute(wanted.order_by(found.c.n.desc()), asked)]

    def last_of(self, query: str, before: int | None, most: int) -> int | None:
        """The lowest place of the newest `most` matches below `before`; None when there are fewer."""
        with self._database.read() as connection:
            asked = self._asked(connection, query)
            last = self._newest(before, most).offset(most - 1).limit(1)
            lowest: int | None = connection.execute(last, asked).scalar_one_or_none() if asked else None
        return lowest

    def jobs(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """These jobs, by id."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).where(jobs.c.id.in_(job_ids))).all()
        return {row.id: job_of(row) for row in rows}

    def backfill(self, before: str, most: int) -> tuple[str, int]:
        """Look at `most` jobs older than `before` (a job id; empty: the newest) and index those that are not.

        Returns the id of the oldest that was looked at, empty when there are no more, and how many were indexed.
        """
        listed = sa.select(jobs.c.id, jobs.c.state, search_docs.c.n).select_from(
            jobs.outerjoin(search_docs, search_docs.c.job_id == jobs.c.id)
        )
        if before:
            listed = listed.where(jobs.c.id < before)
        with self._database.read() as connection:
            rows = connection.execute(listed.order_by(jobs.c.id.desc()).limit(most)).all()
        missing = [row.id for row in rows if row.n is None and row.state not in _UNREAD]
        if missing:
            with self._database.write() as connection:
                for job_id in reversed(missing):
                    index(connection, self._database.is_sqlite, job_id)
        return (rows[-1].id if len(rows) == most else ""), len(missing)

    def _newest(self, before: int | None, most: int) -> sa.Select[int]:
        place = search_words.c.rowid if self._database.is_sqlite else search_words.c.n
        condition = "search_words MATCH :asked" if self._database.is_sqlite else "words @@ to_tsquery('simple', :asked)"
        inner = sa.select(place.label("n")).where(sa.text(condition)).order_by(place.desc()).limit(most)
        return inner if before is None else inner.where(place < before)

    def _asked(self, connection: sa.Connection, query: str) -> dict[str, str]:
        """The query in the database's own language, its last word as a beginning if need be; empty: nothing fits."""
        phrases = [" ".join(words) for part in query.split() if (words := words_of(part))][:MOST_WORDS]
        if not phrases:
            return {}
        if not self._database.is_sqlite:
            lexemes = [" <-> ".join(f"'{word}'" for word in one.split()) for one in phrases]
            whole = {"asked": " & ".join(f"({one})" for one in lexemes)}
            return whole if self._any(connection, whole) else {"asked": whole["asked"][:-1] + ":*)"}
        whole = {"asked": " ".join(f'"{one}"' for one in phrases)}
        return whole if self._any(connection, whole) else self._beginning(connection, phrases)

    def _any(self, connection: sa.Connection, asked: dict[str, str]) -> bool:
        return connection.execute(self._newest(None, 1), asked).first() is not None

    def _beginning(self, connection: sa.Connection, phrases: list[str]) -> dict[str, str]:
        """SQLite: the last word as any of the words that begin so.

        FTS5 gathers all jobs that have one of them before it gives the newest; of words that are named it reads the
        newest only.
        """
        start, _, word = phrases[-1].rpartition(" ")
        endings = _endings(connection, word)
        if len(endings) > MOST_ENDINGS:
            return {"asked": " ".join(f'"{one}"' for one in phrases) + "*"}
        any_of = " OR ".join(f'"{f"{start} {one}".strip()}"' for one in endings)
        return {"asked": " AND ".join([*(f'"{one}"' for one in phrases[:-1]), f"({any_of})"])} if endings else {}


def _endings(connection: sa.Connection, beginning: str) -> list[str]:
    """The words of the index that begin so, one more than MOST_ENDINGS at most; each is found by one step in it."""
    found: list[str] = []
    at = beginning
    query = sa.text("SELECT term FROM search_words_terms WHERE term >= :at LIMIT 1")
    while len(found) <= MOST_ENDINGS:
        term = connection.execute(query, {"at": at}).scalar_one_or_none()
        if term is None or not term.startswith(beginning):
            break
        found.append(term)
        at = term + "0"  # no word has a character that sorts before it
    return found


def index(connection: sa.Connection, is_sqlite: bool, job_id: str) -> None:
    """Write what the job can be found by, in the place of what was written before."""
    words = _words(connection, job_id)
    known = sa.select(search_docs.c.n).where(search_docs.c.job_id == job_id)
    place = connection.execute(known).scalar_one_or_none()
    if place is None:
        place = connection.execute(sa.insert(search_docs).values(job_id=job_id).returning(search_docs.c.n)).scalar_one()
    row = search_words.c.rowid if is_sqlite else search_words.c.n
    connection.execute(sa.delete(search_words).where(row == place))
    kept = words if is_sqlite else sa.func.to_tsvector("simple", words)
    connection.execute(sa.insert(search_words).values({row.name: place, "words": kept}))


def _words(connection: sa.Connection, job_id: str) -> str:
    columns = (jobs.c.id, jobs.c.sender, jobs.c.subject, jobs.c.message_id, jobs.c.name, jobs.c.source, jobs.c.label)
    job = connection.execute(sa.select(*columns).where(jobs.c.id == job_id)).one()
    judged = sa.select(results.c.value).where(results.c.job_id == job_id, results.c.stage == Stage.CLASSIFY.value)
    value: dict[str, Any] = connection.execute(judged).scalar_one_or_none() or {}
    read = sa.select(documents.c.name, documents.c.text).where(documents.c.job_id == job_id)
    parts = [str(one or "") for one in job]
    parts += [str(field["value"]) for field in value.get("fields", ())]
    texts = connection.execute(read.order_by(documents.c.ordinal)).all()
    parts += [row.name for row in texts]
    return " ".join(_bounded([*parts, *(row.text for row in texts)]))


def _bounded(parts: Iterable[str]) -> list[str]:
    left, words = MOST_CHARACTERS, []
    for part in parts:
        words += words_of(part[:left])
        left -= len(part)
        if left <= 0:
            break
    return words
