"""Raw bytes -> the mail's facts and the text of every document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from tasks.errors import Permanent
from tasks.events.paths import FORM, is_form
from tasks.events.taking import Taken, with_name
from tasks.loops import no_reply_because
from tasks.models import Envelope, Extracted, Fetched, Job
from tasks.readers import Piece, read_message, read_pieces
from tasks.stores import Store
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


def extract_event(job: Job, taken: Taken, load: Callable[[str], Piece]) -> Extracted:
    """Read an event that its route has taken apart: its text first, then its documents. `load` brings what has a URL."""
    documents = (with_name(piece, load(url)) if url else piece for piece, url in taken.documents)
    event, *others = read_pieces(chain([taken.event], documents))
    content_type = FORM if is_form(job.content_type) else "application/json"
    told = {"content_type": content_type, "size": job.raw_size, "sha256": job.raw_sha256}
    return Extracted(documents=(event.model_copy(update=told), *others))


def stored(files: Mapping[str, Fetched], blobs: Store) -> Callable[[str], Piece]:
    """Loads what the fetch stage has put into the blob store; what is not there says why."""

    def load(url: str) -> Piece:
        again = "`postroom retry JOB --from fetch` fetches it"
        one = files.get(url)
        if one is None:
            return Piece("", status="unreadable", reason=f"it was not fetched; {again}")
        if one.status == "refused":
            return Piece("", status="unreadable", reason=f"it was not fetched: {one.reason}")
        try:
            return Piece("", blobs.get(one.sha256), one.claimed)
        except Permanent:
            return Piece("", status="unreadable", reason=f"its bytes are gone from the blob store; {again}")

    return load
