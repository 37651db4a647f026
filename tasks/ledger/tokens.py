"""Tokens of people's own programs: what they may do, never what they are.

A token is `pr_<id>_<secret>`: the id finds the row, the secret is 256 random bits, of which the ledger keeps a SHA-256.
A slow hash would add nothing: nobody guesses 256 bits, and the check runs at every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from enum import StrEnum

import sqlalchemy as sa

from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.ledger.engine import Database
from tasks.ledger.schema import tokens
from tasks.models import Noun

PREFIX = "pr_"
MAX_NAME = 80
USE_NOTED_EVERY_MS = 60_000
"""How exact `last_used_at` is: a write for every request would cost more than the request."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 10
_FORM = re.compile(rf"{PREFIX}([{_ALPHABET}]{{{_ID_LENGTH}}})_([A-Za-z0-9_-]{{43}})")
_NOBODY = "0" * 64


class Scope(StrEnum):
    """What a token may do; `admin` may do everything."""

    READ = "read"
    SUBMIT = "submit"
    METRICS = "metrics"
    ADMIN = "admin"


class Token(Noun):
    """What is known of a token; its secret is not."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    last_used_at: int | None
    """Milliseconds, to the minute; None when it was never used."""
    revoked_at: int | None

    def may(self, scope: Scope) -> bool:
        """Whether it reaches that far."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


_COLUMNS = [tokens.c[name] for name in Token.model_fields]


class Tokens:
    """The tokens' rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scopes: Iterable[Scope]) -> tuple[Token, str]:
        """Make a token; its text is told here and never again. Raises Permanent for a name that cannot be shown."""
        name = name.strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise Permanent(f"a token's name is 1 to {MAX_NAME} printable characters; tell which program it is for")
        identity = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
        secret = secrets.token_urlsafe(32)
        token = Token(
            id=identity,
            name=name,
            scopes=tuple(sorted(set(scopes))),
            created_at=now_ms(),
            last_used_at=None,
            revoked_at=None,
        )
        with self._database.write() as connection:
            connection.execute(sa.insert(tokens).values(sha256=_digest(secret), **token.model_dump(mode="json")))
        return token, f"{PREFIX}{identity}_{secret}"

    def check(self, text: str) -> Token | None:
        """The token that `text` is, when it is known and not revoked; notes that it was used."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(sa.select(tokens).where(tokens.c.id == found[1])).one_or_none()
        same = hmac.compare_digest(_digest(found[2]), row.sha256 if row else _NOBODY)
        if row is None or not same or row.revoked_at is not None:
            return None
        token = _token(row)
        self._note_use(token)
        return token

    def all(self) -> list[Token]:
        """Every token, revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).order_by(tokens.c.created_at, tokens.c.id)).all()
        return [_token(row) for row in rows]

    def revoke(self, identity: str) -> Token:
        """End a token for good; at once, in every process. Raises Permanent when there is none, or it has ended."""
        identity = identity.strip().removeprefix(PREFIX)[:_ID_LENGTH]
        with self._database.write() as connection:
            row = connection.execute(
                sa.update(tokens)
                .where(tokens.c.id == identity, tokens.c.revoked_at.is_(None))
                .values(revoked_at=now_ms())
                .returning(*_COLUMNS)
            ).one_or_none()
        if row is None:
            raise Permanent(f"no token {identity!r} that still works; `postroom token list` shows their ids")
        return _token(row)

    def _note_use(self, token: Token) -> None:
        now = now_ms()
        if token.last_used_at is not None and now - token.last_used_at < USE_NOTED_EVERY_MS:
            return
        with self._database.write() as connection:
            connection.execute(sa.update(tokens).where(tokens.c.id == token.id).values(last_used_at=now))


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(**{name: getattr(row, name) for name in Token.model_fields})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
