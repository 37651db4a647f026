"""Settings of the ways in: SMTP/LMTP, drop folder, webhooks. Mailboxes: config/imap.py."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.parser import parse as parse_json_path
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
    model_validator,
)

from config.fetching import FetchPolicy
from config.passwords import problem
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


def _none(value: Any) -> Any:
    """TOML has no null: `false` says that there is none."""
    return None if value is False or value in ("false", "none", "") else value


OptionalPort = Annotated[Port | None, BeforeValidator(_none)]


class SmtpListener(Section):
    """Where mail may be delivered to Postroom (`postroom smtp`)."""

    enabled: bool = Field(True, description="Listen for SMTP or LMTP.")
    host: str = Field(
        "127.0.0.1", description="Address to bind; put Postfix or chasquid in front before using a public one."
    )
    port: OptionalPort = Field(8025, description="TCP port for SMTP; 0 lets the system choose, false: none.")
    lmtp_port: OptionalPort = Field(8024, description="TCP port for LMTP; false: none.")
    lmtp_socket: Annotated[Path | None, BeforeValidator(_none)] = Field(
        None, description="Unix socket for LMTP, beside or instead of the port."
    )
    lmtp_socket_mode: str = Field(
        "0660", pattern=r"^0?[0-7]{3}$", description="Its access rights, octal; who may write may deliver."
    )
    lmtp_socket_group: str = Field("", description="Its group, `postfix` for example; empty: Postroom's own.")
    recipients: tuple[str, ...] = Field(
        (),
        description="Addresses or @domains that are accepted, with any detail after a +; empty accepts every recipient "
        "(loopback only).",
    )
    max_size: int = Field(33_554_432, ge=1024, description="Largest message in bytes (RFC 1870).")
    max_recipients: int = Field(100, ge=1, description="Recipients per message.")
    max_connections: int = Field(100, ge=1, description="Connections at once; more are answered 421.")
    max_connections_per_address: int = Field(
        50, ge=0, description="Connections at once of one IPv4 address or one IPv6 /64; 0: no limit of its own."
    )
    max_line: int = Field(
        1_048_576, ge=1000, description="Longest line in bytes; real mail breaks the 998 of RFC 5322."
    )
    timeout: float = Field(300, gt=0, description="Seconds a silent client may stay (RFC 5321 section 4.5.3.2.7).")
    tls: Literal["starttls", "implicit"] = Field(
        "starttls", description="`implicit`: the SMTP port speaks TLS from the first byte (RFC 8314)."
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain; offers STARTTLS.")
    tls_key: Path | None = Field(None, description="PEM key of tls_cert; leave out when it stands in the same file.")
    users: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Who may log in: name and `postroom hash-password`, or the password itself from a systemd "
        "credential or POSTROOM_SMTP__USERS. Only over TLS or from this machine.",
    )
    auth_required: bool = Field(False, description="Take mail over TCP only from those who have logged in.")
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
        by_tcp = self.port is not None or self.lmtp_port is not None
        if self.enabled and not by_tcp and self.lmtp_socket is None:
            raise ValueError("port, lmtp_port and lmtp_socket are all left out; set one, or write enabled = false")
        if self.enabled and by_tcp and not self.recipients and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is reached by others while every recipient is accepted; "
                'write recipients = ["@your.domain"] or host = "127.0.0.1"'
            )
        for entry in self.recipients:
            if "@" not in entry or " " in entry:
                raise ValueError(f'recipients: {entry!r} is no address; write "name@domain" or "@domain"')
        return self

    @model_validator(mode="after")
    def _can_be_encrypted(self) -> SmtpListener:
        if self.tls_key and not self.tls_cert:
            raise ValueError("tls_key stands without a certificate; set tls_cert too")
        if self.tls == "implicit" and not self.tls_cert:
            raise ValueError('tls = "implicit" needs a certificate; set tls_cert')
        if self.users and not self.tls_cert and not is_loopback(self.host):
            raise ValueError(f"users could not log in at {self.host}, since nothing is encrypted; set tls_cert")
        if self.auth_required and not self.users:
            raise ValueError('auth_required without users lets nobody in; write [smtp.users] name = "HASH"')
        for name, stored in self.users.items():
            if found := problem(stored.get_secret_value()):
                raise ValueError(f"users: the password of {name!r} {found}")
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

    @field_validator("public_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[\x21-\x7e]+", value):
            raise ValueError(
                f"{value!r} is no address in ASCII; write https://post.example, names with other letters as xn--..."
            )
        return value


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
    keep_days: int = Field(
        30, ge=0, description="Days in which a key that came before is a repeat; 0: as long as its job is kept."
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
    fetch: FetchPolicy = Field(
        FetchPolicy(), description="What may be fetched when a route asks for files that an event names by URL."
    )

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

    def _guessed(self, secret: str) -> str:
        """The part of an entry of `secrets` that a stranger would have to guess."""
        return secret.partition(":")[2] if self.scheme == "basic" else secret

    def warnings(self) -> tuple[str, ...]:
        """What `postroom check` says about a source that works but is weak."""
        found = []
        if self.scheme == "none":
            found.append('scheme = "none": whoever reaches the port can post; set a scheme and secrets')
        elif self.scheme != "mtls" and any(len(self._guessed(s.get_secret_value())) < 16 for s in self.secrets):
            found.append("a secret is shorter than 16 characters and can be guessed; make a longer one")
        if self.scheme == "hmac" and self.hmac.algorithm == "sha1":
            found.append("hmac uses sha1; ask the sender for sha256")
        return tuple(found)
