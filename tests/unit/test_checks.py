"""What `postroom check` points at though it works: weak sources, and a web process that others reach without a token."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.imap import ImapAccount
from config.settings import Settings
from daemon.checks import Finding, canaries, ledger, weaknesses
from tasks.clock import now_ms
from tasks.ledger import Ledger

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def found(**sections: Any) -> list[Finding]:
    return list(weaknesses(Settings.model_validate(sections)))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"scheme": "none"}, "whoever reaches the port can post"),
        ({"scheme": "bearer", "secrets": ["hunter2"]}, "shorter than 16 characters"),
        ({"scheme": "github", "secrets": ["a long shared secret", "short"]}, "shorter than 16 characters"),
        ({"scheme": "basic", "secrets": ["a-long-user-name-here:pass"]}, "shorter than 16 characters"),
        (
            {"scheme": "hmac", "secrets": ["a long shared secret"], "hmac": {"algorithm": "sha1"}},
            "ask the sender for sha256",
        ),
    ],
)
def test_a_weak_source_is_pointed_at(section: dict[str, Any], said: str) -> None:
    """One warning that names the section and says what to do, without the secret in it."""
    (finding,) = found(webhook={"shop": section})
    assert (finding.what, finding.state) == ("webhook.shop", "warning")
    assert said in finding.detail
    assert "hunter2" not in finding.detail


@pytest.mark.parametrize(
    "section",
    [
        {"secrets": [SECRET]},
        {"scheme": "bearer", "secrets": ["a long shared secret"]},
        {"scheme": "basic", "secrets": ["u:a long shared secret"]},
    ],
)
def test_a_strong_source_is_not(section: dict[str, Any]) -> None:
    """No warning where there is nothing to mend."""
    assert found(webhook={"shop": section}) == []


PROXIED = {"till": {"scheme": "mtls", "secrets": ["CN=till"], "proxies": ["127.0.0.1"]}}


@pytest.mark.parametrize(
    ("web", "webhook", "why"),
    [
        ({"host": "0.0.0.0"}, {}, "host 0.0.0.0 is reached by other machines"),
        ({"host": "::"}, {}, "host :: is reached by other machines"),
        ({}, PROXIED, "[webhook.till] names proxies"),
        ({"require_token": False, "host": "192.0.2.7"}, {}, "host 192.0.2.7 is reached"),
        ({"require_token": False, "public_url": "https://post.example"}, {}, "public_url tells that others come"),
        ({"require_token": False}, PROXIED, "[webhook.till] names proxies"),
    ],
)
def test_an_api_that_others_may_reach_without_a_token_is_pointed_at(
    web: dict[str, Any], webhook: dict[str, Any], why: str
) -> None:
    """It says by which setting others come, and what to write."""
    (finding,) = found(web=web, webhook=webhook)
    assert (finding.what, finding.state) == ("web", "warning")
    assert why in finding.detail
    assert finding.instead == "write require_token = true in [web]"


@pytest.mark.parametrize(
    ("web", "webhook"),
    [
        ({}, {}),
        ({"host": "::1"}, {}),
        ({"require_token": False}, {}),
        ({"public_url": "https://post.example"}, PROXIED),
        ({"host": "0.0.0.0", "require_token": True}, PROXIED),
        ({"host": "0.0.0.0", "enabled": False}, {}),
    ],
)
def test_an_api_that_is_guarded_is_not(web: dict[str, Any], webhook: dict[str, Any]) -> None:
    """Loopback alone, tokens for everybody, or no web process: nothing to say."""
    assert found(web=web, webhook=webhook) == []


def test_a_mailbox_tells_of_its_canary(ledger: Ledger) -> None:
    """How long the last mail to itself took; a warning when none has come, or none for twice its interval."""
    accounts = {
        "support": ImapAccount(host="mail.example", user="u", folders=("INBOX", "Spam"), canary=600),
        "quiet": ImapAccount(host="mail.example", user="u"),
    }

    def said() -> tuple[str, str, str]:
        (finding,) = canaries(accounts, ledger)
        return finding.what, finding.state, finding.detail

    assert said() == ("imap.support canary", "warning", "no mail to itself has come back yet")
    ledger.imap_folders.update("support", "INBOX", canary_ms=900, canary_at=now_ms() - 9_000_000)
    assert said()[1] == "warning"
    assert said()[2].endswith("none has come since")
    ledger.imap_folders.update("support", "Spam", canary_ms=1530, canary_at=now_ms() - 600_000)
    assert said()[1] == "ok"
    assert said()[2].startswith("the mail to itself took 1.5 s, the last one at 2")


def test_mail_in_clear_has_to_be_said() -> None:
    """Without TLS to another machine the configuration is refused; said outright it is taken, with a warning."""
    section = {"host": "mail.example", "user": "u", "security": "none"}
    with pytest.raises(ValidationError, match="allow_plaintext = true"):
        found(imap={"support": section})
    (finding,) = found(imap={"support": {**section, "allow_plaintext": True}})
    assert (finding.what, finding.state) == ("imap.support", "warning")
    assert "in clear to mail.example" in finding.detail
    assert found(imap={"support": {**section, "host": "127.0.0.1"}}) == []


def test_postgresql_that_is_away_is_told_in_one_line() -> None:
    """libpq says it in several; and the remedy is not that of a file."""
    told = ledger(Settings(ledger_url="postgresql+psycopg:///postroom?host=/nowhere")).sentence
    assert told.startswith("ledger: the ledger does not answer: ")
    assert told.endswith("?; start PostgreSQL, or mend ledger_url"), told
    assert told.isprintable()
