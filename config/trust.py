"""Settings of what is believed about senders."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from config.inbound import Section


class TrustSettings(Section):
    """Whom mail is believed to come from. `authserv_id` of [smtp] and [imap.NAME] belongs to it; docs/mail.md tells more."""

    verify_dkim: bool = Field(False, description="Verify DKIM signatures here too (RFC 6376); asks the DNS for keys.")
    alignment: Literal["relaxed", "strict"] = Field(
        "relaxed",
        description="Whose DKIM signature speaks for From: any of the same organization, or of the same domain only.",
    )
    dns_timeout: float = Field(5, gt=0, description="Seconds that the DNS may take for one mail.")
    allow: tuple[str, ...] = Field(
        (),
        description='The allow-list of `match.trust = "allowed"`: addresses as shell patterns, `*@supplier.example`.',
    )

    @field_validator("allow")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if "@" not in entry or " " in entry:
                raise ValueError(f'{entry!r} is no address; write "name@domain" or "*@domain"')
        return value
