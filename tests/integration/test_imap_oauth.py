"""Logging in with tokens, against a real Dovecot that asks the token server of the test."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.imap import ImapAccount
from daemon.listeners import imap_folder
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_oauth import AccountTokens
from daemon.listeners.imap_session import ImapSession, LoginRefusedError
from tasks.errors import Unavailable
from tests.integration.doors import until
from tests.integration.dovecot import USER, Dovecot, running
from tests.integration.mailboxes import mail, watching
from tests.integration.token_server import Provider, providing


class HandClock(Clock):
    """Stands until it is moved."""

    at = 1_800_000_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing(Provider(USER)) as provider:
        yield provider


@pytest.fixture
def server(provider: Provider) -> Iterator[Dovecot]:
    with running(introspection=f"{provider.url}/introspect") as server:
        yield server


def oauth(provider: Provider, **changes: Any) -> dict[str, Any]:
    """The section [imap.support.oauth]."""
    given = {"token_url": f"{provider.url}/token", "client_id": "client", "client_secret": "secret"}
    return {**given, "refresh_token": "refresh-0", **changes}


def tokens(provider: Provider, home: Path, clock: Clock | None = None, **changes: Any) -> AccountTokens:
    """The tokens of the account `support`, as a process that has just been started has them."""
    account = ImapAccount(host="127.0.0.1", user=USER, oauth=oauth(provider, **changes))
    return AccountTokens("support", account, home, clock or Clock())


@pytest.mark.parametrize("grant", ["refresh_token", "client_credentials"])
def test_watches_with_tokens(
    provider: Provider, server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grant: str
) -> None:
    """Both grants log in; a token that the server does not take any more is renewed once and watching goes on."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.2)
    options = {"oauth": oauth(provider, grant=grant), "password": "", "folders": ["INBOX"]}
    server.deliver(mail(1))
    with watching(server, tmp_path, **options) as door:
        until(lambda: server.count("Postroom") == 1)
        provider.revoke_all()
        server.stop()
        server.start()
        server.deliver(mail(2))
        until(lambda: server.count("Postroom") == 2, 20)
        assert door.jobs() == 2
    assert [form["grant_type"] for form in provider.asked] == [grant, grant]


def test_a_login_that_is_refused_is_told(provider: Provider, server: Dovecot, tmp_path: Path) -> None:
    """A token for somebody else is asked for anew once, and then the reason is one line without the token."""
    account = ImapAccount(host="127.0.0.1", port=server.imap, security="none", user=USER, oauth=oauth(provider))
    provider.user = "another@example.test"
    with (
        pytest.raises(LoginRefusedError, match=r"login of 'support@example\.test' with a token refused") as raised,
        ImapSession(account, AccountTokens("support", account, tmp_path, Clock())),
    ):
        pytest.fail("let in")
    assert len(provider.asked) == 2
    assert "access-" not in str(raised.value)


def test_rotated_tokens_are_kept(provider: Provider, tmp_path: Path) -> None:
    """The new refresh token is on disk, for us alone, before its access token is used; a new process goes on with it."""
    for number in range(1, 4):
        assert tokens(provider, tmp_path)("") == f"access-{number}"
    kept = tmp_path / "imap" / "support.token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert "refresh-3" in kept.read_text()
    assert [form["refresh_token"] for form in provider.asked] == ["refresh-0", "refresh-1", "refresh-2"]


def test_a_newly_configured_token_replaces_the_kept_one(provider: Provider, tmp_path: Path) -> None:
    """An admin who authorizes the mailbox again is believed."""
    tokens(provider, tmp_path)("")
    provider.refresh_token = "refresh-new"
    assert tokens(provider, tmp_path, refresh_token="refresh-new")("") == "access-2"


def test_tokens_are_renewed_before_they_end(provider: Provider, tmp_path: Path) -> None:
    """One request for as long as a token is good; five minutes before its end the next one."""
    clock = HandClock()
    ask = tokens(provider, tmp_path, clock)
    assert [ask(""), ask("")] == ["access-1", "access-1"]
    clock.at += 3299
    assert ask("") == "access-1"
    clock.at += 2
    assert ask("") == "access-2"
    provider.life = 60
    clock.at += 3600
    assert ask("") == "access-3"
    clock.at += 50
    assert ask("") == "access-3", "a short life is used to nine tenths"
    clock.at += 5
    assert ask("") == "access-4"


def test_a_refused_token_is_renewed_once_for_all(provider: Provider, tmp_path: Path) -> None:
    """Two folders that were refused with the same token share the new one."""
    ask = tokens(provider, tmp_path)
    first = ask("")
    assert [ask(first), ask(first), ask("")] == ["access-2", "access-2", "access-2"]


def test_a_refused_token_is_not_used_again(provider: Provider, tmp_path: Path) -> None:
    """While the endpoint is out, nobody logs in with a token that the server has refused already."""
    ask = tokens(provider, tmp_path)
    first = ask("")
    provider.refuse = (503, {})
    for refused in (first, "", ""):
        with pytest.raises(Unavailable):
            ask(refused)
    provider.refuse = None
    assert ask("") != first


def test_a_new_token_that_cannot_be_kept_is_not_lost(provider: Provider, tmp_path: Path) -> None:
    """While the disk refuses it nothing goes on; when it takes it again, the newest refresh token is used."""
    ask = tokens(provider, tmp_path)
    (tmp_path / "imap" / "support.token").mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot keep the new refresh token"):
        ask("")
    (tmp_path / "imap" / "support.token").rmdir()
    assert ask("") == "access-2"
    assert "refresh-2" in (tmp_path / "imap" / "support.token").read_text()


@pytest.mark.parametrize(
    ("refuse", "error", "told"),
    [
        (
            (400, {"error": "invalid_grant"}),
            LoginRefusedError,
            "refused 'support@example.test': invalid_grant; authorize",
        ),
        ((401, {}), LoginRefusedError, "status 401"),
        ((503, {}), Unavailable, "answered 503 without a token"),
        ((429, {}), Unavailable, "answered 429"),
        ((200, {"access_token": 7}), Unavailable, "answered 200 without a token"),
    ],
)
def test_what_the_endpoint_says(
    provider: Provider, tmp_path: Path, refuse: tuple[int, dict[str, Any]], error: type[Exception], told: str
) -> None:
    """A no is for a person, an outage is waited for; neither sentence holds a secret."""
    provider.refuse = refuse
    with pytest.raises(error, match=told) as raised:
        tokens(provider, tmp_path)("")
    assert "secret" not in str(raised.value)
    assert "refresh-0" not in str(raised.value)


def test_redirects_are_not_followed(provider: Provider, tmp_path: Path) -> None:
    """Secrets go to the configured address and to no other."""
    with pytest.raises(Unavailable, match="answered 307"):
        tokens(provider, tmp_path, token_url=f"{provider.url}/elsewhere")("")
    assert provider.asked == []


def test_an_endpoint_that_does_not_answer_is_an_outage(provider: Provider, tmp_path: Path) -> None:
    """The listener says so once and tries again."""
    with pytest.raises(Unavailable, match="does not answer: ConnectError"):
        tokens(provider, tmp_path, token_url="http://127.0.0.1:1/token")("")


def test_no_secret_in_the_log(
    provider: Provider, server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither tokens nor the client's secret are logged, whatever goes wrong."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    provider.user = "another@example.test"
    with (
        capture_logs() as logs,
        watching(server, tmp_path, lines=0, oauth=oauth(provider), password="") as door,
    ):
        until(lambda: "with a token refused" in str(logs))
        assert door.said.empty(), "it cannot become ready"
    told = str(logs)
    assert "with a token refused" in told
    assert not any(word in told for word in ("access-", "refresh-", "'secret'"))
