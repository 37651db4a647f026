"""Which route a job takes: first match wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from config.routes import Match, Route
from tasks.addresses import plain
from tasks.events.paths import event_of, find
from tasks.models import Document, Extracted, Job, Kind
from tasks.readers import sniff
from tasks.trust import holds


def choose(routes: Sequence[Route], job: Job, extracted: Extracted, raw: bytes) -> Route:
    """The first route that matches; configuration makes sure that the last one matches everything.

    An event that a route has taken apart stays with it, whatever its documents turned out to be.
    """
    return mapped_by(routes, job, raw) or next(route for route in routes if matches(route.match, job, extracted, raw))


def mapped_by(routes: Sequence[Route], job: Job, raw: bytes) -> Route | None:
    """The route whose [event] takes the job apart: the first that matches the event by itself, if it has one.

    Equal at every stage: it looks at nothing that a stage finds out, be it documents or the subject.
    """
    if job.kind is not Kind.EVENT or not any(route.event for route in routes):
        return None
    found = sniff(raw, "event", job.content_type or "application/json")
    alone = Extracted(documents=(Document(ordinal=0, name="event", content_type=found, size=len(raw), sha256=""),))
    itself = job.model_copy(update={"subject": job.name})
    route = next((route for route in routes if matches(route.match, itself, alone, raw)), None)
    return route if route and route.event else None


def matches(match: Match, job: Job, extracted: Extracted, raw: bytes) -> bool:
    """Whether all that `match` asks for holds."""
    mail = extracted.mail
    senders = [job.sender, *([mail.from_address] if mail else [])]
    named = [*job.recipients, *((*mail.to, *mail.cc) if mail else ())]
    recipients = [*named, *map(plain, named)]
    subject = mail.subject if mail else job.subject
    types = [document.content_type for document in extracted.documents]
    return (
        _like(match.source, [job.source])
        and _like(match.sender, senders)
        and _like(match.recipient, recipients)
        and _like(match.file_type, types)
        and (not match.subject or bool(re.search(match.subject, subject, re.IGNORECASE)))
        and (not match.trust or (mail is not None and all(holds(name, mail.trust) for name in match.trust)))
        and (not match.event or _event_matches(match.event, job, raw))
    )


def _like(pattern: str, values: Iterable[str]) -> bool:
    return not pattern or any(fnmatchcase(value.lower(), pattern.lower()) for value in values)


def _event_matches(wanted: dict[str, str], job: Job, raw: bytes) -> bool:
    if job.kind is not Kind.EVENT:
        return False
    event = event_of(job.content_type, raw)
    return event is not None and all(
        any(re.search(pattern, str(found)) for found in find(path, event)) for path, pattern in wanted.items()
    )
