"""Raw bytes -> the mail's facts and the text of every document."""

from __future__ import annotations

from tasks.loops import no_reply_because
from tasks.models import Envelope, Extracted, Job
from tasks.readers import read_message
from tasks.trust import Believing


def extract(job: Job, raw: bytes, own_addresses: frozenset[str], believing: Believing) -> Extracted:
    """Read a message, say who sent it and whether it may be answered. A document that cannot be read says why."""
    extracted = read_message(raw, kind=job.kind, name=job.name, content_type=job.content_type)
    if extracted.mail is None:
        return extracted
    envelope = Envelope(
        source=job.source, kind=job.kind, key=job.key, sender=job.sender, recipients=job.recipients, headers=job.headers
    )
    headers = {name: list(values) for name, values in extracted.mail.headers.items()}
    reason = no_reply_because(headers, envelope, extracted.mail, own_addresses)
    trust = believing.about(job, raw, extracted.mail)
    mail = extracted.mail.model_copy(update={"no_reply_because": reason, "trust": trust})
    return extracted.model_copy(update={"mail": mail})
