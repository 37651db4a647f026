"""Taking old mail where the server does not give all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners.imap_session import ImapSession, RefusedError
from daemon.mailbox_import import run
from tasks.errors import Unavailable
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import account, mail


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


def test_a_fetch_answered_with_bad_is_refused(server: Dovecot) -> None:
    """BAD is an answer like NO: the connection goes on, and nothing of it turns up in the next answer."""
    server.empty()
    server.deliver(mail(1))
    with ImapSession(ImapAccount(**account(server))) as session:
        session.select("INBOX")
        with pytest.raises(RefusedError, match=r"FETCH refused: .*BAD"):
            session._fetch([1], "(UID NONSENSE)")
        assert list(session.sizes([1])) == [1]


def test_one_refused_mail_costs_no_other(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused, and what is silently left out, is counted as failed; the rest of its bulk is taken."""
    original = ImapSession.fetch
    refusal = ["FETCH refused: cannot convert"]

    def fetch(session: ImapSession, wanted: list[int]) -> dict[int, bytes]:
        if 2 in wanted:
            raise RefusedError(refusal[0])
        return {uid: raw for uid, raw in original(session, wanted).items() if uid != 3}

    monkeypatch.setattr(ImapSession, "fetch", fetch)
    server.empty()
    server.deliver(*(mail(number) for number in range(1, 6)))
    settings = Settings(state_dir=tmp_path)
    section = ImapAccount(**account(server))
    given = (Console(quiet=True), settings, "support", section, "INBOX", datetime(2020, 1, 1, tzinfo=UTC))
    told = run(*given)
    assert (told.taken, told.repeats, told.failed) == (3, 0, 2)
    refusal[:] = ["FETCH refused: [OVERQUOTA] come back tomorrow"]
    with pytest.raises(Unavailable, match="come back tomorrow"):
        run(*given)
