"""How webhook secrets are written, and what the configurable schemes may be told. Shared by both ways of a webhook."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

SchemeName = Literal[
    "standard",
    "github",
    "gitlab",
    "stripe",
    "slack",
    "shopify",
    "hmac",
    "bearer",
    "basic",
    "mtls",
    "none",
]

SECRET, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
OUR_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "idempotency-key", "user-agent", "te"}
    | {"upgrade", "expect", "trailer", "accept-encoding"}
)
"""Lower-case names of the request headers that no configuration may set."""
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}")


@dataclass(frozen=True)
class Key:
    """A decoded Standard Webhooks secret: `kind` is its prefix, `data` the key itself."""

    kind: str
    data: bytes


@lru_cache(maxsize=256)
def decode_key(secret: str) -> Key:
    """Decode `whsec_`, `whsk_` or `whpk_` and base64 (Standard Webhooks 1.0.0, "Signature scheme").

    Raises ValueError, worded for the configuration's reader, without the secret in it.
    """
    kind = next((prefix for prefix in (SECRET, PRIVATE, PUBLIC) if secret.startswith(prefix)), "")
    if not kind:
        raise ValueError("a secret has no known prefix; write whsec_... (or whpk_/whsk_... for ed25519)")
    text = secret.removeprefix(kind)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a {kind} secret is not base64; copy it whole from where it was made") from None
    if kind == SECRET and not 24 <= len(data) <= 64:
        raise ValueError(f"a whsec_ secret holds {len(data)} bytes; make one of 24 to 64 bytes")
    if kind == PUBLIC and len(data) != 32:
        raise ValueError(f"a whpk_ key holds {len(data)} bytes; an ed25519 public key has 32")
    if kind == PRIVATE and len(data) not in {32, 64}:
        raise ValueError(
            f"a whsk_ key holds {len(data)} bytes; an ed25519 private key has 32, or 64 with its public half"
        )
    return Key(kind, data[:32] if kind == PRIVATE else data)


def field_name(value: str) -> str:
    """`value` in lower case when it can name an HTTP field (RFC 9110 section 5.1); raises ValueError otherwise."""
    if not _FIELD_NAME.fullmatch(value):
        raise ValueError(f"{value!r} cannot name a header; write letters, digits and hyphens, X-Signature for example")
    return value.lower()


def is_field_value(value: str) -> bool:
    """Whether `value` can be sent as a header's value (RFC 9110 section 5.5), in plain ASCII; an empty one can."""
    return bool(re.fullmatch(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?", value))


def own_headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Request headers that an admin may set, as they are; raises ValueError for others, without their values in it."""
    for name, content in value.items():
        if field_name(name) in OUR_HEADERS:
            raise ValueError(f"header {name} is written by Postroom itself; take it out")
        if not is_field_value(content.get_secret_value()):
            raise ValueError(
                f"header {name} holds characters that HTTP forbids, or begins or ends with a blank; use plain ASCII on one line"
            )
    return value


def signed_parts(template: str) -> tuple[str, ...]:
    """The parts of a `signed` template: literal text, and `{body}`, `{id}`, `{timestamp}` with their braces.

    Raises ValueError for anything else in braces.
    """
    parts = tuple(part for part in re.split(r"(\{[^{}]*\})", template) if part)
    for part in parts:
        if part not in {"{body}", "{id}", "{timestamp}"} and re.search(r"[{}]", part):
            raise ValueError(f"signed holds {part!r}; use {{body}}, {{id}} and {{timestamp}} only")
    return parts


class HmacOptions(BaseModel):
    """Scheme `hmac`: a keyed hash of parts of the request (RFC 2104), in a header."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: str = Field("x-signature", description="Header that carries the signature.")
    algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = Field("sha256", description="Hash function.")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written.")
    prefix: str = Field("", description="What stands before the signature, `sha256=` for example.")
    separator: str = Field("", description="What separates several signatures; empty: there is one.")
    signed: str = Field("{body}", description="What is signed: text with {body}, {id} and {timestamp}.")
    timestamp_header: str = Field("", description="Header with the Unix time in seconds; needed by {timestamp}.")
    id_header: str = Field("", description="Header with the message's id; needed by {id}.")

    @field_validator("header", "timestamp_header", "id_header")
    @classmethod
    def _names(cls, value: str) -> str:
        return field_name(value) if value else value

    @model_validator(mode="after")
    def _complete(self) -> HmacOptions:
        parts = signed_parts(self.signed)
        if "{body}" not in parts:
            raise ValueError("signed leaves out the body, so anybody could change it; put {body} into it")
        for part, header in (("{timestamp}", self.timestamp_header), ("{id}", self.id_header)):
            name = part.strip("{}")
            if part in parts and not header:
                raise ValueError(f"signed uses {part} but nothing says where it is; set {name}_header")
        if self.timestamp_header and "{timestamp}" not in parts:
            raise ValueError("timestamp_header is not signed, so it proves nothing; put {timestamp} into signed")
        return self


class MtlsOptions(BaseModel):
    """Scheme `mtls`: a proxy in front checks the client's certificate and tells it in headers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: str = Field(
        "client-cert",
        description="Header with the certificate (RFC 9440, or nginx's $ssl_client_escaped_cert), its SHA-256"
        " fingerprint, or its subject; `secrets` lists the fingerprints or subjects that may post.",
    )
    verified_header: str = Field("", description="Header in which the proxy says that it verified the certificate.")
    verified_value: str = Field("SUCCESS", description="What that header has to say.")

    @field_validator("header", "verified_header")
    @classmethod
    def _names(cls, value: str) -> str:
        return field_name(value) if value else value
