"""Passwords of locked documents: the lists, and which of them a route tries."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from config.inbound import Section

MOST = 50
"""Passwords in one list: each is tried on each locked file."""


class PasswordList(Section):
    """Passwords that are tried on locked documents of the routes that name this list: [passwords.bank]."""

    secrets: tuple[SecretStr, ...] = Field(
        (), max_length=MOST, description="The passwords, in the order in which they are tried; at most 50."
    )

    @field_validator("secrets")
    @classmethod
    def _not_empty(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(one.get_secret_value() for one in value):
            raise ValueError("one of the passwords is empty; remove it")
        return value


class DocumentsSpec(Section):
    """How documents are read."""

    passwords: tuple[str, ...] = Field(
        (), description="Names of [passwords.NAME] in postroom.toml: what is tried on locked PDF, ZIP and Office files."
    )
