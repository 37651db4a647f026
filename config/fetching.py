"""What the files that an event names by URL may be fetched from: [webhook.NAME.fetch]."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from config.signing import own_headers


class FetchPolicy(BaseModel):
    """Files that this source's events name by URL: which are fetched, if a route asks for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: tuple[str, ...] = Field(
        (),
        description="Hosts as shell patterns, `*.files.example` or, where the port is not the usual one,"
        " `files.example:8443`; empty: any public host.",
    )
    allow_private: bool = Field(False, description="Allow loopback and private addresses, for `hosts` only.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Request headers, a token for example; for `hosts` only, and https unless allow_private.",
    )
    ca_file: Path | None = Field(None, description="PEM authorities to trust instead of the system's.")
    types: tuple[str, ...] = Field(
        (), description="Content types that are taken, as shell patterns and by the bytes: `image/*`; empty: all."
    )
    max_size: int = Field(26_214_400, ge=1, description="Largest file in bytes.")
    max_total: int = Field(104_857_600, ge=1, description="Bytes that all files of one event may come to.")
    max_files: int = Field(20, ge=0, le=100, description="Files of one event; 0 fetches nothing.")
    timeout: float = Field(60, gt=0, le=600, description="Seconds for one file, name lookup included.")

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not host.strip() or re.search(r"[/@\s]", host):
                raise ValueError(f"{host!r} is no host; write files.example or *.files.example, without https://")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return own_headers(value)

    @model_validator(mode="after")
    def _names_hosts(self) -> FetchPolicy:
        if self.headers and not self.hosts:
            raise ValueError('headers would be sent to any host; write hosts = ["files.example"]')
        if self.allow_private and not self.hosts:
            raise ValueError('allow_private would open every private address; write hosts = ["files.internal"]')
        return self
