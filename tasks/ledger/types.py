"""The ledger's text columns: what comes in is cleaned, so that no message can be one that the database refuses."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.texts import clean, indexable


class _Clean(sa.types.TypeDecorator[str]):
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Called by SQLAlchemy for each value on its way into a statement, those that are asked for too."""
        return None if value is None else clean(value)


class Text(_Clean):
    """Text of any length."""

    impl = sa.Text
    cache_ok = True


class Name(_Clean):
    """A short text of ours, such as a job id or a digest."""

    impl = sa.String
    cache_ok = True


class Indexed(_Clean):
    """Text in an index: a long one is kept as its start and its hash, and is found again by the whole of it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Called by SQLAlchemy for each value on its way into a statement, those that are asked for too."""
        return None if value is None else indexable(value)
