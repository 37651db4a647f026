"""Tokens at rest: found by id, known by hash only, ended at once."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa

from tasks.errors import Permanent
from tasks.ledger import Ledger, Scope
from tasks.ledger import tokens as module
from tasks.ledger.schema import tokens


def test_a_token_is_known_by_its_text(ledger: Ledger) -> None:
    """What create tells is what check takes; nothing near it."""
    token, text = ledger.tokens.create("scanner", [Scope.SUBMIT, Scope.READ, Scope.READ])
    found = ledger.tokens.check(text)
    assert found is not None
    assert (found.id, found.name, found.scopes) == (token.id, "scanner", (Scope.READ, Scope.SUBMIT))
    other = "A" if text[-2] != "A" else "B"
    for wrong in (text[:-2] + other + text[-1], text + "x", text[:-1], text.upper(), "", "pr_", f" {text}"):
        assert ledger.tokens.check(wrong) is None


def test_the_ledger_holds_no_secret(ledger: Ledger) -> None:
    """The row has the SHA-256 of 256 random bits; the text of the token stands nowhere."""
    _, text = ledger.tokens.create("scanner", [Scope.READ])
    secret = text.split("_", 2)[2]
    with ledger.database.read() as connection:
        row = connection.execute(sa.select(tokens)).one()
    assert row.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(tuple(row))
    assert len(secret) == 43  # 32 bytes in base64


def test_no_two_tokens_are_alike(ledger: Ledger) -> None:
    """The id of one with the secret of another opens nothing."""
    first, second = (ledger.tokens.create("twin", [Scope.READ])[1] for _ in range(2))
    assert first != second
    mixed = "_".join([*first.split("_", 2)[:2], second.split("_", 2)[2]])
    assert ledger.tokens.check(mixed) is None


def test_a_revoked_token_ends_at_once(ledger: Ledger) -> None:
    """It is still listed, with the time, and cannot be revoked twice."""
    token, text = ledger.tokens.create("scanner", [Scope.ADMIN])
    assert ledger.tokens.revoke(f"pr_{token.id}").revoked_at is not None
    assert ledger.tokens.check(text) is None
    assert [one.revoked_at is None for one in ledger.tokens.all()] == [False]
    with pytest.raises(Permanent, match="still works"):
        ledger.tokens.revoke(token.id)


def test_use_is_noted_to_the_minute(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests within a minute cost one write; a later one is noted again."""
    _, text = ledger.tokens.create("scanner", [Scope.READ])
    times = iter([1_000_000, 1_030_000, 1_070_000])
    monkeypatch.setattr(module, "now_ms", lambda: next(times))
    seen = []
    for _ in range(3):
        ledger.tokens.check(text)
        seen.append(ledger.tokens.all()[0].last_used_at)
    assert seen == [1_000_000, 1_000_000, 1_070_000]


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "two\nlines", "\x1b[31m"])
def test_a_name_has_to_be_shown(ledger: Ledger, name: str) -> None:
    """A list of tokens stays one line each."""
    with pytest.raises(Permanent, match="printable"):
        ledger.tokens.create(name, [Scope.READ])


@pytest.mark.parametrize(
    ("scopes", "may"),
    [([Scope.READ], {"read"}), ([Scope.SUBMIT], {"submit"}), ([Scope.ADMIN], {"read", "submit", "metrics", "admin"})],
)
def test_scopes_reach_as_far_as_they_say(ledger: Ledger, scopes: list[Scope], may: set[str]) -> None:
    """Only admin holds more than its own name."""
    token, _ = ledger.tokens.create("scanner", scopes)
    assert {scope.value for scope in Scope if token.may(scope)} == may
