"""`postroom try FILE`: the whole trip in memory. Nothing is stored in the ledger and nothing is sent."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from config.fetching import FetchPolicy
from config.routes import Route
from config.settings import Settings
from tasks.clock import now_ms
from tasks.configured import message_id_secret, own_addresses, passwords_of, routes_of
from tasks.download import host_of
from tasks.errors import Permanent
from tasks.events.taking import take_apart
from tasks.ids import new_job_id
from tasks.mailhead import sender_of
from tasks.model import Judge, Progress
from tasks.models import Classification, Extracted, Job, Kind, Reply, State, first_stage
from tasks.readers import Piece
from tasks.routing import choose, mapped_by
from tasks.stages.classify import classify
from tasks.stages.extract import Tools, extract, extract_event
from tasks.stages.fetch import policy_for
from tasks.stages.reply import Answering, reply
from tasks.trust import Believing

KINDS = {".eml": Kind.MAIL, ".json": Kind.EVENT}
MAIL = "message/rfc822"
JUDGED = 80
"""Percent of the trip after which the model has judged, and the reply is left."""


@dataclass(frozen=True)
class Trip:
    """What became of the file at each stage."""

    job: Job
    route: Route
    extracted: Extracted
    classification: Classification
    reply: Reply


def kind_of(path: Path) -> tuple[Kind, str]:
    """Kind and content type by the file's name: .eml is a mail, .json an event, all else a file."""
    kind = KINDS.get(path.suffix.lower(), Kind.FILE)
    if kind is Kind.MAIL:
        return kind, MAIL
    return kind, mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def digest(raw: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(raw).hexdigest()


class Arrived(NamedTuple):
    """The file as a worker sees it before anybody judges."""

    job: Job
    route: Route
    extracted: Extracted


def arrived(settings: Settings, path: Path, source: str, routes: tuple[Route, ...]) -> Arrived:
    """Read `path` as if it had come from `source`, and choose its route; one route alone is taken whatever it matches.

    Files that an event names are not fetched. Raises Permanent for an unreadable file or an event that does not fit
    its template.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Permanent(f"{path} cannot be read: {error.strerror}") from None
    job = _job(path, raw, source)
    route = mapped_by(routes, job, raw)
    taken = take_apart(job, raw, route.event, settings.templates_dir) if route and route.event else None
    if route and taken:
        load = _would_fetch(policy_for(settings, job))
        extracted = extract_event(job, taken, load, passwords=passwords_of(settings, route))
        job = job.model_copy(update={"subject": taken.subject or job.name})
    else:
        believing = Believing(settings.trust, lambda _address, _job: False)
        passwords = partial(passwords_of, settings)
        extracted = extract(job, raw, Tools(own_addresses(settings), believing, routes, passwords))
    if extracted.mail:
        sender = extracted.mail.from_address
        job = job.model_copy(update={"subject": extracted.mail.subject, "sender": sender})
    return Arrived(job, routes[0] if len(routes) == 1 else choose(routes, job, extracted, raw), extracted)


def run(
    settings: Settings, path: Path, source: str = "try", progress: Callable[[Progress], None] | None = None
) -> Trip:
    """Take `path` through all stages, as if it had come from `source`; files that an event names are not fetched.

    Raises Permanent for an unreadable file or an event that does not fit its template, Unavailable without a model.
    """
    job, route, extracted = arrived(settings, path, source, routes_of(settings))
    judge = Judge(settings.model, settings.templates_dir, calibrations=settings.calibration_file)
    found = classify(extracted, route, judge, _share(progress, 0, JUDGED))
    answering = Answering(settings, judge, message_id_secret(settings), lambda _recipient: "")
    return Trip(
        job, route, extracted, found, reply(job, extracted, found, route, answering, _share(progress, JUDGED, 100))
    )


def _share(progress: Callable[[Progress], None] | None, first: int, last: int) -> Callable[[Progress], None] | None:
    """`progress` of one stage as its share of the percentage of all."""
    if progress is None:
        return None
    return lambda now: progress(now.model_copy(update={"percent": first + (last - first) * now.percent // 100}))


def _would_fetch(policy: FetchPolicy) -> Callable[[str], Piece]:
    """What becomes of a URL: refused already, or named without its query, which may be a key."""

    def load(url: str) -> Piece:
        try:
            host_of(url, policy)
        except Permanent as error:
            return Piece("", status="unreadable", reason=f"it would not be fetched: {error.reason}")
        return Piece("", status="skipped", reason=f"it would be fetched from {url.partition('?')[0][:200]}")

    return load


def _job(path: Path, raw: bytes, source: str) -> Job:
    kind, content_type = kind_of(path)
    now = now_ms()
    sha256 = digest(raw)
    return Job(
        id=new_job_id(),
        source=source,
        kind=kind,
        key=sha256,
        state=State.RECEIVED,
        stage=first_stage(kind),
        route=None,
        sender=sender_of(raw) if kind is Kind.MAIL else "",
        recipients=(),
        subject=path.name,
        message_id="",
        content_type=content_type,
        name=path.name,
        headers={},
        raw_sha256=sha256,
        raw_size=len(raw),
        label=None,
        confidence=None,
        reason="",
        attempts=0,
        lease_token=0,
        lease_owner="",
        lease_beat=0,
        due_at=None,
        received_at=now,
        updated_at=now,
    )
