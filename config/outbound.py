"""Settings of the ways out: SMTP and webhook endpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.inbound import Port, Section, is_loopback
from config.signing import PUBLIC, decode_key, is_field_value, own_headers

_ADDRESS = re.compile(r"[^\s\"<>()\[\]:;,\\@]+@[^\s\"<>()\[\]:;,\\@]+")


def mail_addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    """The same, when each of them is a mail address. Raises ValueError."""
    for address in value:
        if not _ADDRESS.fullmatch(address) or not address.isprintable():
            raise ValueError(f'{address!r} is no mail address; write mail = ["admin@example.org"]')
    return value


class SmtpOut(Section):
    """The smarthost that replies are handed to, and who they come from."""

    host: str = Field("127.0.0.1", description="SMTP server.")
    port: Port = Field(25, description="SMTP port.")
    security: Literal["none", "starttls", "tls"] = Field(
        "none", description="`starttls` and `tls` verify the certificate."
    )
    protocol: Literal["smtp", "lmtp"] = Field(
        "smtp", description="`lmtp` hands mail to a local delivery agent such as Dovecot (RFC 2033)."
    )
    ca_file: Path | None = Field(None, description="PEM certificates to trust instead of the system's.")
    user: str = Field("", description="Login name; empty: no login.")
    password: SecretStr = Field(SecretStr(""), description="Better as systemd credential than in the file.")
    sender: str = Field("Postroom <postroom@localhost>", description="From of replies when the route names none.")
    domain: str = Field("localhost", description="Domain of Message-IDs.")
    helo: str = Field("localhost", description="Name given in EHLO.")
    envelope_sender: str = Field(
        "", description="MAIL FROM of replies, where bounces go; empty: the null sender <> (RFC 3834 section 3.3)."
    )
    connect_timeout: float = Field(30, gt=0, description="Seconds to connect, for the greeting, STARTTLS and login.")
    command_timeout: float = Field(
        300, gt=0, description="Seconds for the answer to MAIL, RCPT and DATA (RFC 5321 section 4.5.3.2)."
    )
    data_timeout: float = Field(
        600, gt=0, description="Seconds to wait after the final dot (RFC 5321 section 4.5.3.2.6)."
    )
    give_up_after_days: float = Field(
        5,
        ge=0,
        description="Days after its first attempt that a mail fails (RFC 5321 section 4.5.4.1); 0: an outage has no end.",
    )
    own_addresses: tuple[str, ...] = Field((), description="Our own addresses: mail from them is never answered.")
    max_replies_per_hour: int = Field(
        10, ge=1, description="Replies to one correspondent in an hour; more rest in review."
    )

    @model_validator(mode="after")
    def _hides_password(self) -> SmtpOut:
        if self.user and self.security == "none" and not is_loopback(self.host):
            raise ValueError(
                f'security "none" would send the password of {self.user!r} in clear to {self.host}; '
                'write security = "starttls" (port 587) or "tls" (port 465)'
            )
        if self.protocol == "lmtp" and self.security == "tls":
            raise ValueError('LMTP knows no security "tls"; write security = "starttls", or "none" on loopback')
        return self


class WebhookEndpoint(Section):
    """A URL that results are posted to: [endpoint.accounting]."""

    url: str = Field(description="https:// (or http://) address; never taken from a message.")
    secrets: tuple[SecretStr, ...] = Field(
        (),
        description="Standard Webhooks secrets (`whsec_...`, or `whsk_...` for ed25519); all sign while rotating.",
    )
    allow_private: bool = Field(False, description="Allow loopback and private addresses for this endpoint.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Extra request headers, `X-Tenant` for example."
    )
    bearer: SecretStr = Field(SecretStr(""), description="Token for `Authorization: Bearer`.")
    basic: SecretStr = Field(SecretStr(""), description="`user:password` for `Authorization: Basic`.")
    client_cert: Path | None = Field(None, description="PEM certificate chain that we show (mTLS).")
    client_key: Path | None = Field(None, description="PEM key of client_cert; leave out when it is in the same file.")
    ca_file: Path | None = Field(None, description="PEM authorities to trust instead of the system's.")
    connect_timeout: float = Field(5, gt=0, description="Seconds to connect, TLS included.")
    read_timeout: float = Field(15, gt=0, description="Seconds of silence while waiting for the answer.")
    timeout: float = Field(20, gt=0, description="Seconds for the whole exchange, name lookup included.")
    max_connections: int = Field(10, ge=1, description="Connections at once, per worker process.")
    disable_after_days: float = Field(
        5, ge=0, description="Days without one success after which it is disabled, with one alert; 0: never."
    )
    template: str = Field(
        "", description="Template templates/webhook/<name>.json.j2; empty: the full documented payload."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or re.search(r"[\s\\]", value):
            raise ValueError(f"{value!r} is no URL that can be posted to; write https://host/path")
        if parts.username or parts.password:
            raise ValueError('url holds a user or password; write basic = "user:password" instead')
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if signed := next((name for name in value if name.lower().startswith("webhook-")), ""):
            raise ValueError(f"header {signed} is written by Postroom itself; take it out")
        return own_headers(value)

    @model_validator(mode="after")
    def _usable(self) -> WebhookEndpoint:
        if not is_field_value(self.bearer.get_secret_value()):
            raise ValueError(
                "bearer holds characters that HTTP forbids, or a blank at an end; use plain ASCII on one line"
            )
        for secret in self.secrets:
            if decode_key(secret.get_secret_value()).kind == PUBLIC:
                raise ValueError("whpk_ is a public key and cannot sign; write the private half, whsk_...")
        named = [name for name in ("bearer", "basic") if getattr(self, name).get_secret_value()]
        named += [name for name in self.headers if name.lower() == "authorization"]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} all write the Authorization header; keep one")
        if (credentials := self.basic.get_secret_value()) and ":" not in credentials:
            raise ValueError('basic needs user and password; write basic = "user:password"')
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert; add it")
        return self

    def warnings(self) -> tuple[str, ...]:
        """What `postroom check` says about an endpoint that works but is weak."""
        found = []
        if not self.secrets:
            found.append("no secrets: the receiver cannot tell that a request is ours; add a whsec_... secret")
        if self.url.startswith("http://") and not self.allow_private:
            found.append("http:// sends documents' contents in the clear; use https://")
        return tuple(found)


class Alerts(Section):
    """Who is told once of what a person has to look at, such as an endpoint that was disabled; else it is only logged."""

    mail: tuple[str, ...] = Field((), description="Addresses that get each alert as a mail, through [smtp_out].")
    webhook: str = Field("", description="Name of the [endpoint.NAME] that gets each alert as JSON.")
    outage_after: float = Field(
        60,
        ge=0,
        description="Seconds that model server, mail relay, broker or ledger are away before that is told, and are back.",
    )
    per_hour: int = Field(20, ge=1, description="Alerts sent within an hour at most; more are stored, and one says so.")

    _addresses = field_validator("mail")(mail_addresses)
