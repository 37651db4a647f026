"""Settings of reviews by mail."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from config.inbound import Section
from config.outbound import mail_addresses
from config.routes import TrustName, one_or_more


class ReviewSettings(Section):
    """Reviews by mail: who is asked when a job rests in review, and whose answer counts. docs/pages.md tells more."""

    mail: tuple[str, ...] = Field(
        (), description="Addresses of persons that are asked, each in a mail of its own; empty: nobody is."
    )
    sender: str = Field(
        "", description="From of these mails; answers have to reach Postroom there. Empty: that of [smtp_out]."
    )
    trust: Annotated[tuple[TrustName, ...], BeforeValidator(one_or_more)] = Field(
        (), description='What must be known of an answer\'s sender for it to count, as in `match.trust`: `["dmarc"]`.'
    )
    per_hour: int = Field(60, ge=1, description="Jobs asked about within an hour at most; what is more is asked later.")

    _addresses = field_validator("mail")(mail_addresses)
