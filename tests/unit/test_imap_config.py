"""What [imap.NAME] refuses, and what it says to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.imap import ImapAccount

HOME: dict[str, Any] = {"host": "127.0.0.1", "user": "u"}
OAUTH: dict[str, Any] = {"token_url": "https://login.example/token", "client_id": "c"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"folder": "Invoices"}, r'`folder` became a list; write folders = \["Invoices"\]'),
        ({"folders": []}, "at least 1 item"),
        ({"folders": ["INBOX", "inbox"]}, "name each folder once"),
        ({"folders": ["A", ""]}, "an empty or a repeated name"),
        ({"folders": ["Postroom"]}, r"move_to is a folder that is read \('Postroom'\)"),
        ({"folders": ["Done"], "done_folder": "Done"}, "done_folder is a folder that is read"),
        ({"move_to": ""}, 'write after = "seen"'),
        ({"after": "flag", "keyword": "two words"}, "keyword 'two words' is none; write one word"),
        ({"after": "flag", "keyword": "\\Deleted"}, "keyword"),
        ({"poll": 1000}, "make it at least twice poll"),
        ({"host": "mail.example", "security": "none"}, "would send the password of 'u' in clear"),
        ({"oauth": {**OAUTH, "client_id": ""}}, "token_url stands without client_id"),
        ({"oauth": OAUTH}, "needs refresh_token"),
        ({"oauth": {**OAUTH, "grant": "client_credentials"}}, "needs client_secret"),
        ({"oauth": {**OAUTH, "token_url": "http://login.example/token"}}, "secrets in clear; write https"),
        ({"oauth": {**OAUTH, "token_url": "login.example"}}, "is no URL; write https://host/path"),
    ],
)
def test_a_wrong_account_is_told(options: dict[str, Any], told: str) -> None:
    """Each mistake is one sentence with what to write instead."""
    with pytest.raises(ValidationError, match=told):
        ImapAccount(**{**HOME, **options})


def test_folders_that_are_not_used_may_be_named_anything() -> None:
    """move_to counts only where it is used; INBOX is one folder whatever its case."""
    account = ImapAccount(**HOME, folders=["inbox", "Postroom"], after="seen")
    assert account.folders == ("INBOX", "Postroom")
    assert account.targets == ("failed_folder",)
