"""Settings of the ways in: SMTP/LMTP, IMAP, drop folder, webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Section(BaseModel):
    """A table of postroom.toml. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=0, le=65535)]


class SmtpListener(Section):
    """Where mail may be delivered to Postroom (`postroom smtp`)."""

    enabled: bool = Field(True, description="Listen for SMTP or LMTP.")
    host: str = Field(
        "127.0.0.1", description="Address to bind; put Postfix or chasquid in front before using a public one."
    )
    port: Port = Field(8025, description="TCP port for SMTP; 0 lets the system choose.")
    lmtp_port: Port | None = Field(8024, description="TCP port for LMTP; leave out for none.")
    recipients: tuple[str, ...] = Field(
        (), description="Addresses or @domains that are accepted; empty accepts every recipient (loopback only)."
    )
    max_size: int = Field(33_554_432, ge=1024, description="Largest message in bytes (RFC 1870).")
    max_recipients: int = Field(100, ge=1, description="Recipients per message.")
    max_connections: int = Field(100, ge=1, description="Connections at once; more are answered 421.")
    max_line: int = Field(
        1_048_576, ge=1000, description="Longest line in bytes; real mail breaks the 998 of RFC 5322."
    )
    timeout: float = Field(300, gt=0, description="Seconds a silent client may stay (RFC 5321 section 4.5.3.2.7).")
    tls_cert: Path | None = Field(None, description="PEM certificate chain; offers STARTTLS.")
    tls_key: Path | None = Field(None, description="PEM key of tls_cert.")


class ImapAccount(Section):
    """A mailbox that is watched (`postroom imap`). The table's name is the account's: [imap.support]."""

    host: str = Field(description="IMAP server.")
    port: Port = Field(993, description="IMAP port.")
    security: Literal["tls", "starttls", "none"] = Field("tls", description="`none` only on loopback.")
    user: str = Field(description="Login name.")
    password: SecretStr = Field(
        SecretStr(""), description="Better as systemd credential or POSTROOM_IMAP__<NAME>__PASSWORD than in the file."
    )
    address: str = Field("", description="The mailbox's own address, when `user` is not one; replies come from it.")
    folder: str = Field("INBOX", description="Folder to read.")
    done_folder: str = Field(
        "Postroom", description="Where accepted messages are moved; empty leaves them, marked \\Seen."
    )
    failed_folder: str = Field("Postroom-Failed", description="Where messages go that cannot be accepted.")
    poll: float = Field(60, gt=0, description="Seconds between searches; IDLE wakes it sooner.")
    idle: bool = Field(True, description="Use IDLE when the server has it (RFC 2177).")
    max_size: int = Field(33_554_432, ge=1024, description="Larger messages go to failed_folder, unread.")
    timeout: float = Field(60, gt=0, description="Seconds for one IMAP command.")


class FolderListener(Section):
    """A drop folder (`postroom folder`). The table's name is the folder's: [folder.scans]."""

    path: Path = Field(description="Files that appear here become jobs.")
    done: Path | None = Field(None, description="Where accepted files go; default: `.done` inside path.")
    failed: Path | None = Field(None, description="Where refused files go; default: `.failed` inside path.")
    poll: float = Field(2, gt=0, description="Seconds between looks.")
    settle: float = Field(2, ge=0, description="Seconds a file's size must stand still before it is taken.")
    max_size: int = Field(33_554_432, ge=1, description="Larger files go to `failed`.")
    sender: str = Field("", description="Address that replies go to; empty: no mail reply.")


class WebListener(Section):
    """The HTTP side: webhooks, health, jobs (`postroom web`)."""

    enabled: bool = Field(True, description="Listen for HTTP.")
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: Port = Field(8480, description="TCP port; 0 lets the system choose.")
    public_url: str = Field("", description="What others call this address, for links; default http://host:port.")
    max_body: int = Field(26_214_400, ge=1024, description="Largest request body in bytes; more is answered 413.")
    jobs_without_token: bool = Field(
        True, description="Let anybody who reaches the port read /jobs; set false when it leaves loopback."
    )


class WebhookSource(Section):
    """Who may post to /hooks/<name>: [webhook.shop]."""

    scheme: str = Field("standard", description="How requests are verified; docs/webhooks.md lists the schemes.")
    secrets: tuple[SecretStr, ...] = Field(
        (), description="Shared secrets or keys; the old one stays listed while rotating."
    )
    tolerance: float = Field(300, gt=0, description="Seconds a timestamp may lie in the past or the future.")
    key: str = Field(
        "", description="Where the idempotency key is found: `header:Name`, `json:$.path`, `body`; empty: the scheme's."
    )
    keep_days: int = Field(30, ge=1, description="Days a key is remembered.")
    options: dict[str, str] = Field(
        default_factory=dict, description="For scheme `hmac`: header, algorithm, encoding, prefix, signed."
    )

    @model_validator(mode="after")
    def _needs_secret(self) -> WebhookSource:
        if self.scheme != "none" and not self.secrets:
            raise ValueError(f'scheme {self.scheme!r} needs at least one entry in `secrets` (or scheme = "none")')
        return self
