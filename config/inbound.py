"""Settings of the ways in: SMTP/LMTP, drop folder, webhooks. Mailboxes: config/imap.py."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import parse as parse_json_path
from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, field_validator, model_validator

from config.signing import PRIVATE, SECRET, HmacOptions, MtlsOptions, SchemeName, decode_key, field_name


class Section(BaseModel):
    """A table of postroom.toml. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=0, le=65535)]
Network = IPvAnyNetwork


def is_loopback(host: str) -> bool:
    """Whether an address to bind or to connect to never leaves this machine (names other than localhost: no)."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
    tls_key: Path | None = Field(None, description="PEM key of tls_cert; leave out when it stands in the same file.")
    max_memory: int = Field(
        268_435_456, ge=1_048_576, description="Bytes of messages in the middle of DATA at once; more are answered 452."
    )
    authserv_id: str = Field(
        "",
        description="Name under which the mail server in front writes Authentication-Results (`m365`: without a name); "
        "mail that it says fails DMARC is not answered.",
    )

    @model_validator(mode="after")
    def _is_guarded(self) -> SmtpListener:
        if self.enabled and not self.recipients and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is reached by others while every recipient is accepted; "
                'write recipients = ["@your.domain"] or host = "127.0.0.1"'
            )
        for entry in self.recipients:
            if "@" not in entry or " " in entry:
                raise ValueError(f'recipients: {entry!r} is no address; write "name@domain" or "@domain"')
        if self.tls_key and not self.tls_cert:
            raise ValueError("tls_key stands without a certificate; set tls_cert too")
        return self


class FolderListener(Section):
    """A drop folder (`postroom folder`). The table's name is the folder's: [folder.scans]."""

    path: Path = Field(description="Files that appear here become jobs.")
    done: Path | None = Field(None, description="Where accepted files go; default: `.done` inside path.")
    failed: Path | None = Field(None, description="Where refused files go; default: `.failed` inside path.")
    poll: float = Field(2, gt=0, description="Seconds between looks.")
    settle: float = Field(2, ge=0, description="Seconds a file's size must stand still before it is taken.")
    max_size: int = Field(33_554_432, ge=1, description="Larger files go to `failed`.")
    sender: str = Field("", description="Address that replies go to; empty: no mail reply.")
    ignore: tuple[str, ...] = Field(
        ("*.tmp", "*.temp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*.download", "*.swp", "*~", "~$*"),
        description="Shell patterns of names still being written; names that start with a dot are left anyway.",
    )


class WebListener(Section):
    """The HTTP side: webhooks, health, jobs (`postroom web`)."""

    enabled: bool = Field(True, description="Listen for HTTP.")
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: Port = Field(8480, description="TCP port; 0 lets the system choose.")
    public_url: str = Field("", description="What others call this address, for links; default http://host:port.")
    max_body: int = Field(26_214_400, ge=1024, description="Largest request body in bytes; more is answered 413.")
    require_token: bool | Literal["remote"] = Field(
        "remote",
        description="Ask for a token (`postroom token create`) at /jobs. `remote`: of everybody but programs on this machine "
        "that connect to loopback themselves (no proxy, no web page, public_url empty); false: of nobody.",
    )


class WebhookSource(Section):
    """Who may post to /hooks/<name>: [webhook.shop]. docs/webhooks.md tells each scheme with an example."""

    scheme: SchemeName = Field("standard", description="How requests are verified; `none` lets anybody in.")
    secrets: tuple[SecretStr, ...] = Field(
        (),
        description="Shared secrets or keys; the old one stays listed while rotating. `basic`: user:password;"
        " `mtls`: certificate fingerprints or subjects.",
    )
    tolerance: float = Field(300, gt=0, description="Seconds a timestamp may lie in the past or the future.")
    key: str = Field(
        "", description="Where the idempotency key is found: `header:Name`, `json:$.path`, `body`; empty: the scheme's."
    )
    hmac: HmacOptions = Field(HmacOptions(), description="For scheme `hmac`: where the signature is and what it signs.")
    mtls: MtlsOptions = Field(MtlsOptions(), description="For scheme `mtls`: what the proxy tells.")
    allow: tuple[Network, ...] = Field((), description="Networks that may post, 192.0.2.0/24; empty: all.")
    proxies: tuple[Network, ...] = Field(
        (), description="Proxies whose X-Forwarded-For and certificate headers are believed, 127.0.0.1 for example."
    )
    rate: int = Field(0, ge=0, description="Accepted requests per rate_window and process; more is 429. 0: no limit.")
    rate_window: float = Field(10, gt=0, description="Seconds that `rate` counts over.")
    max_body: int | None = Field(None, ge=1, description="Largest body in bytes; default: [web] max_body.")
    body_timeout: float = Field(30, gt=0, description="Seconds in which the whole body has to arrive; else 408.")
    max_wait: float = Field(60, ge=0, description="Seconds a caller may ask to wait for the result (Prefer: wait=N).")

    @field_validator("key")
    @classmethod
    def _key_place(cls, value: str) -> str:
        place, _, rest = value.partition(":")
        if place == "header" and rest:
            return f"header:{field_name(rest.strip())}"
        if place == "json" and rest.startswith("$"):
            try:
                parse_json_path(rest)
            except (JSONPathError, AttributeError, TypeError) as error:
                raise ValueError(f"{rest!r} is no JSON path: {error}; write json:$.event.id") from None
            return value
        if value in {"", "body"}:
            return value
        raise ValueError(f"{value!r} tells no place; write header:Name, json:$.path or body")

    @model_validator(mode="after")
    def _usable(self) -> WebhookSource:
        if self.scheme != "none" and not self.secrets:
            raise ValueError(f'scheme {self.scheme!r} needs at least one entry in `secrets` (or scheme = "none")')
        values = [secret.get_secret_value() for secret in self.secrets]
        if not all(value.strip() for value in values):
            raise ValueError("an entry of `secrets` is empty; anybody could sign with it, take it out")
        encoded = [v for v in values if self.scheme == "standard" or (self.scheme == "gitlab" and v[:6] == SECRET)]
        if any(decode_key(value).kind == PRIVATE for value in encoded):
            raise ValueError("whsk_ is the sender's private key; write its public half, whpk_...")
        if self.scheme == "basic" and not all(":" in value for value in values):
            raise ValueError('basic needs user and password; write secrets = ["user:password"]')
        if self.scheme == "mtls" and not self.proxies:
            raise ValueError('mtls believes a header, so say who may send it; write proxies = ["127.0.0.1"]')
        return self

    def warnings(self) -> tuple[str, ...]:
        """What `postroom check` says about a source that works but is weak."""
        found = []
        if self.scheme == "none":
            found.append('scheme = "none": whoever reaches the port can post; set a scheme and secrets')
        elif self.scheme not in {"basic", "mtls"} and any(len(s.get_secret_value()) < 16 for s in self.secrets):
            found.append("a secret is shorter than 16 characters; make a longer one")
        if self.scheme == "hmac" and self.hmac.algorithm == "sha1":
            found.append("hmac uses sha1; ask the sender for sha256")
        return tuple(found)
