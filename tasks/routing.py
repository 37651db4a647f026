"""Which route a job takes: first match wins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from jsonpath_ng.parser import parse as parse_json_path

from config.routes import Match, Route
from tasks.addresses import plain
from tasks.models import Extracted, Job, Kind
from tasks.trust import holds


def choose(routes: Sequence[Route], job: Job, extracted: Extracted, raw: bytes) -> Route:
    """The first route that matches; configuration makes sure that the last one matches everything."""
    return next(route for route in routes if matches(route.match, job, extracted, raw))


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
    try:
        event: Any = json.loads(raw)
    except ValueError:
        return False
    return all(
        any(re.search(pattern, str(found.value)) for found in parse_json_path(path).find(event))
        for path, pattern in wanted.items()
    )
