"""Settings of a mailbox that is watched: where it is, how to log in, which mail to take, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from config.inbound import Port, Section, is_loopback

_ATOM = re.compile(r"""[^\s(){%*"\\\]\x00-\x1f\x7f-\U0010ffff]{1,60}""")
_FLAGS = ("\\Seen", "\\Flagged", "\\Answered")
IDLE_LONGEST = 540.0
"""Seconds after which IDLE is started anew at the latest."""


class ImapOauth(Section):
    """How to get access tokens for a mailbox (RFC 6749): [imap.support.oauth]. Used when token_url is set."""

    token_url: str = Field(
        "",
        description="Token endpoint, https://; Microsoft: https://login.microsoftonline.com/TENANT/oauth2/v2.0/token.",
    )
    grant: Literal["refresh_token", "client_credentials"] = Field(
        "refresh_token",
        description="A person's refresh token, or the rights of the application itself (Microsoft 365).",
    )
    client_id: str = Field("", description="The application's id at the provider.")
    client_secret: SecretStr = Field(
        SecretStr(""), description="The application's secret; a systemd credential is best."
    )
    refresh_token: SecretStr = Field(
        SecretStr(""), description="The first refresh token; those that follow are kept in state_dir/imap, mode 0600."
    )
    scope: str = Field(
        "",
        description="Scopes, with spaces; Google: https://mail.google.com/, "
        "Microsoft client_credentials: https://outlook.office365.com/.default.",
    )
    timeout: float = Field(20, gt=0, description="Seconds for one request to the token endpoint.")

    @model_validator(mode="after")
    def _is_whole(self) -> ImapOauth:
        if not self.token_url:
            return self
        parts = urlsplit(self.token_url)
        if not parts.hostname or parts.scheme not in {"https", "http"}:
            raise ValueError(f"token_url {self.token_url!r} is no URL; write https://host/path")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("token_url would send secrets in clear; write https://")
        if not self.client_id:
            raise ValueError("token_url stands without client_id; set the application's id")
        if self.grant == "refresh_token" and not self.refresh_token.get_secret_value():
            raise ValueError('grant "refresh_token" needs refresh_token; set it, or write grant = "client_credentials"')
        if self.grant == "client_credentials" and not self.client_secret.get_secret_value():
            raise ValueError('grant "client_credentials" needs client_secret; set it')
        return self


class ImapFilter(Section):
    """Which mail is taken: [imap.support.filter]. All that is set must fit; the rest is passed over, not downloaded."""

    sender: tuple[str, ...] = Field((), description="Shell patterns of the address in From, such as `*@example.com`.")
    recipient: tuple[str, ...] = Field((), description="Shell patterns of an address in To, Cc or Delivered-To.")
    subject: tuple[str, ...] = Field((), description="Shell patterns of the decoded subject, such as `*invoice*`.")
    max_size: int = Field(0, ge=0, description="Larger messages are passed over where they are; 0: no limit.")
    has_attachment: bool | None = Field(None, description="Only mail with (true) or without (false) attachments.")

    @property
    def reads_header(self) -> bool:
        """Whether header or structure have to be asked for before a message may be fetched."""
        return bool(self.sender or self.recipient or self.subject) or self.has_attachment is not None


class ImapAccount(Section):
    """A mailbox that is watched (`postroom imap`). The table's name is the account's: [imap.support]."""

    host: str = Field(description="IMAP server.")
    port: Port = Field(993, description="IMAP port.")
    security: Literal["tls", "starttls", "none"] = Field(
        "tls", description="`none` only on loopback, unless allow_plaintext says otherwise."
    )
    allow_plaintext: bool = Field(
        False, description='Let security = "none" send password and mail in clear to another machine.'
    )
    user: str = Field(description="Login name.")
    password: SecretStr = Field(
        SecretStr(""), description="Better as systemd credential or POSTROOM_IMAP__<NAME>__PASSWORD than in the file."
    )
    oauth: ImapOauth = Field(ImapOauth(), description="Log in by XOAUTH2 instead of with a password.")
    address: str = Field("", description="The mailbox's own address, when `user` is not one; replies come from it.")
    folders: tuple[str, ...] = Field(("INBOX",), min_length=1, description="Folders to read, a connection each.")
    filter: ImapFilter = Field(ImapFilter(), description="Which mail is taken; all when nothing is set.")
    after: Literal["move", "seen", "flag", "delete", "nothing"] = Field(
        "move", description="What is done with a message once it is accepted."
    )
    move_to: str = Field("Postroom", description='Where accepted messages are moved with after = "move".')
    keyword: str = Field("Postroom", description='Keyword, or \\Flagged, that after = "flag" sets.')
    done_folder: str = Field("", description="Where a message is moved when its job is done; empty: it stays.")
    review_folder: str = Field(
        "", description="Where a message is moved when its job waits for a person; empty: it stays."
    )
    failed_folder: str = Field(
        "Postroom-Failed",
        description="Where messages are moved that cannot be accepted or whose job failed; empty: they stay.",
    )
    poll: float = Field(60, gt=0, description="Seconds between searches at the most; IDLE wakes it sooner.")
    idle: bool = Field(True, description="Use IDLE when the server has it (RFC 2177).")
    max_size: int = Field(33_554_432, ge=1024, description="Larger messages go to failed_folder, unread.")
    timeout: float = Field(60, gt=0, description="Seconds for one IMAP command.")
    max_age_days: int = Field(
        0, ge=0, description="Messages that arrived more days ago are left alone; 0 takes all that is in the folder."
    )
    stale_after: float = Field(
        900,
        gt=0,
        description="Seconds without a complete search, or with mail that cannot be taken, after which /readyz fails and "
        "systemd is not fed.",
    )
    alert_after: float = Field(600, gt=0, description="Seconds of an outage after which one alert goes out.")
    canary: float = Field(
        0, ge=0, description="Seconds between mails that Postroom sends to the mailbox to time the way in; 0: none."
    )
    ca_file: Path | None = Field(None, description="PEM certificates to trust instead of the system's.")
    authserv_id: str = Field(
        "",
        description="Name under which this mail server writes Authentication-Results (`m365`: without a name); "
        "mail that it says fails DMARC is not answered.",
    )

    @model_validator(mode="before")
    @classmethod
    def _names_folders(cls, values: Any) -> Any:
        """Names what replaced `folder`, and writes INBOX as RFC 3501 section 5.1 does, whatever its case."""
        if not isinstance(values, dict):
            return values
        if "folder" in values:
            raise ValueError(f'`folder` became a list; write folders = ["{values["folder"]}"]')
        if isinstance(folders := values.get("folders"), list | tuple):
            values = {**values, "folders": [_inbox(name) for name in folders]}
        return values

    @model_validator(mode="after")
    def _hides_password(self) -> ImapAccount:
        if self.security == "none" and not is_loopback(self.host) and not self.allow_plaintext:
            raise ValueError(
                f'security "none" would send the password of {self.user!r} in clear to {self.host}; '
                'write security = "tls" (port 993) or "starttls" (port 143), or say so with allow_plaintext = true'
            )
        return self

    @model_validator(mode="after")
    def _moves_out(self) -> ImapAccount:
        if "" in self.folders or len(set(self.folders)) < len(self.folders):
            raise ValueError("folders holds an empty or a repeated name; name each folder once")
        if self.after == "move" and not self.move_to:
            raise ValueError('after = "move" needs move_to; name a folder, or write after = "seen"')
        if self.after == "flag" and self.keyword not in _FLAGS and not _ATOM.fullmatch(self.keyword):
            raise ValueError(f"keyword {self.keyword!r} is none; write one word of ASCII, or \\Flagged")
        for option in self.targets:
            if (target := getattr(self, option)) in self.folders:
                raise ValueError(f"{option} is a folder that is read ({target!r}); name another one")
        return self

    @model_validator(mode="after")
    def _waits_less(self) -> ImapAccount:
        if self.stale_after <= self.poll:
            raise ValueError(
                f"stale_after = {self.stale_after:g} s is over before the next search (poll = {self.poll:g} s); "
                "make it at least twice poll"
            )
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The options that name a folder messages are moved to, and are used."""
        wanted = ("done_folder", "review_folder", "failed_folder", *(("move_to",) if self.after == "move" else ()))
        return tuple(option for option in wanted if getattr(self, option))


def _inbox(name: Any) -> Any:
    return "INBOX" if isinstance(name, str) and name.upper() == "INBOX" else name
