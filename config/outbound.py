"""Settings of the ways out: SMTP and webhook endpoints."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from config.inbound import Port, Section


class SmtpOut(Section):
    """The smarthost that replies are handed to, and who they come from."""

    host: str = Field("127.0.0.1", description="SMTP server.")
    port: Port = Field(25, description="SMTP port.")
    security: Literal["none", "starttls", "tls"] = Field(
        "none", description="`starttls` and `tls` verify the certificate."
    )
    user: str = Field("", description="Login name; empty: no login.")
    password: SecretStr = Field(SecretStr(""), description="Better as systemd credential than in the file.")
    sender: str = Field("Postroom <postroom@localhost>", description="From of replies when the route names none.")
    domain: str = Field("localhost", description="Domain of Message-IDs.")
    helo: str = Field("localhost", description="Name given in EHLO.")
    connect_timeout: float = Field(30, gt=0, description="Seconds to connect and for the greeting.")
    data_timeout: float = Field(
        600, gt=0, description="Seconds to wait after the final dot (RFC 5321 section 4.5.3.2.6)."
    )
    own_addresses: tuple[str, ...] = Field((), description="Our own addresses: mail from them is never answered.")
    max_replies_per_hour: int = Field(
        10, ge=1, description="Replies to one correspondent in an hour; more rest in review."
    )


class WebhookEndpoint(Section):
    """A URL that results are posted to: [endpoint.accounting]."""

    url: str = Field(description="https:// (or http://) address; never taken from a message.")
    secrets: tuple[SecretStr, ...] = Field(
        (), description="Standard Webhooks secrets (`whsec_...`); all of them sign while rotating."
    )
    allow_private: bool = Field(False, description="Allow loopback and private addresses for this endpoint.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Extra request headers, `Authorization` for example."
    )
    connect_timeout: float = Field(5, gt=0, description="Seconds to connect.")
    timeout: float = Field(15, gt=0, description="Seconds for the whole exchange.")
    template: str = Field("", description="Template in templates/webhook; empty: the full documented payload.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{value!r} is no URL that can be posted to; write https://host/path")
        return value
