"""Raw bytes -> the mail's facts and the text of every document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from config.routes import Route
from tasks.errors import Permanent
from tasks.events.paths import FORM, is_form
from tasks.events.taking import Taken, with_name
from tasks.loops import no_reply_because
from tasks.models import Envelope, Extracted, Fetched, Job
from tasks.readers import Known, Piece, read_message, read_pieces
from tasks.routing import choose
from tasks.stores import Store
from tasks.trust import Believing


@dataclass(frozen=True)
class Tools:
    """What the stage needs besides the message."""

    own_addresses: frozenset[str]
    believing: Believing
    routes: Sequence[Route] = ()
    passwords: Callable[[Route], tuple[str, ...]] = lambda _: ()
    """What a route tries on locked documents."""
    known: Known = field(default_factory=Known)


def extract(job: Job, raw: bytes, tools: Tools) -> Extracted:
    """Read a message, say who sent it and whether it may be answered. A document that cannot be read says why.

    Locked documents are tried with the passwords of the route that the message takes as it was read without any.
    """

    def unlocking(read: Extracted) -> tuple[str, ...]:
        itself = job if read.mail else job.model_copy(update={"subject": job.name})
        if not any(route.documents.passwords for route in tools.routes):
            return ()
        return tools.passwords(choose(tools.routes, itself, _judged(itself, raw, read, tools), raw))

    extracted = read_message(
        raw, kind=job.kind, name=job.name, content_type=job.content_type, known=tools.known, unlocking=unlocking
    )
    return _judged(job, raw, extracted, tools)


def _judged(job: Job, raw: bytes, extracted: Extracted, tools: Tools) -> Extracted:
    """With what is known about the sender of a mail."""
    if extracted.mail is None:
        return extracted
    envelope = Envelope(
        source=job.source, kind=job.kind, key=job.key, sender=job.sender, recipients=job.recipients, headers=job.headers
    )
    headers = {name: list(values) for name, values in extracted.mail.headers.items()}
    reason = no_reply_because(headers, envelope, extracted.mail, tools.own_addresses)
    trust = tools.believing.about(job, raw, extracted.mail)
    mail = extracted.mail.model_copy(update={"no_reply_because": reason, "trust": trust})
    return extracted.model_copy(update={"mail": mail})


def extract_event(
    job: Job, taken: Taken, load: Callable[[str], Piece], known: Known | None = None, passwords: Sequence[str] = ()
) -> Extracted:
    """Read an event that its route has taken apart: its text first, then its documents. `load` brings what has a URL."""
    documents = (with_name(piece, load(url)) if url else piece for piece, url in taken.documents)
    event, *others = read_pieces(chain([taken.event], documents), known=known, passwords=passwords)
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
