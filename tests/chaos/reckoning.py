"""What the ledger and the sinks say at the end, read without Postroom's own code."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENDED = frozenset({"done", "failed", "review", "cancelled"})
WANTED = {"mail": ("smtp", "webhook"), "event": ("webhook",)}
"""The ways out of a job that is done, by its kind; they are those of the campaign's routes."""
SENT = "source <> 'postroom'"
"""Jobs that somebody sent: those of Postroom's own are its alerts about long outages."""


@dataclass(frozen=True)
class Arrival:
    """One effect at a sink."""

    way: str
    key: str
    """Message-ID or Idempotency-Key."""
    sha256: str


@dataclass
class Reckoning:
    """The promise, counted. `broken` has a sentence for each breach."""

    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs by state."""
    alerts: int = 0
    """Jobs of Postroom's own, which tell of outages."""
    lost: int = 0
    doubled: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    """Deliveries that arrived, by way."""
    repeats: Counter[str] = field(default_factory=Counter)
    """Arrivals beyond the first of a delivery, by way."""
    in_doubt: int = 0
    taken_back: int = 0
    longest: float = 0.0
    """Seconds from accepted to ended, at the most."""
    broken: list[str] = field(default_factory=list)


@dataclass
class _Job:
    kind: str
    key: str
    state: str
    reason: str
    received_at: int


def mail_arrivals(mails: Iterable[bytes]) -> list[Arrival]:
    """What came to the mail sink."""
    return [Arrival("smtp", _message_id(raw), hashlib.sha256(raw).hexdigest()) for raw in mails]


def hook_arrivals(seen: Iterable[tuple[Mapping[str, str], bytes]]) -> list[Arrival]:
    """What came to the webhook sink."""
    return [Arrival("webhook", head["idempotency-key"], hashlib.sha256(body).hexdigest()) for head, body in seen]


def unended(path: Path, accepted: int) -> int:
    """How many of the accepted messages have not ended yet; the ledger may be locked, then all."""
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_reading(path)) as ledger:
        marks = ", ".join("?" * len(ENDED))
        query = f"SELECT count(*) FROM jobs WHERE state IN ({marks}) AND {SENT}"  # our own words
        return accepted - int(ledger.execute(query, tuple(ENDED)).fetchone()[0])
    return accepted


def reckon(path: Path, accepted: Iterable[str], arrivals: Iterable[Arrival]) -> Reckoning:
    """Compare what was accepted with what the ledger has, and that with what arrived."""
    found = Reckoning()
    with contextlib.closing(_reading(path)) as ledger:
        rows = ledger.execute(f"SELECT id, kind, key, state, reason, received_at FROM jobs WHERE {SENT}").fetchall()
        found.alerts = int(ledger.execute(f"SELECT count(*) FROM jobs WHERE NOT ({SENT})").fetchone()[0])
        jobs = {row[0]: _Job(*row[1:]) for row in rows}
        found.jobs = Counter(job.state for job in jobs.values())
        _each_once(found, jobs, set(accepted))
        _stages(found, jobs, ledger)
        _effects(found, jobs, ledger, list(arrivals))
    return found


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)


def _each_once(found: Reckoning, jobs: Mapping[str, _Job], accepted: set[str]) -> None:
    keys = Counter(job.key.partition(" ")[0] for job in jobs.values())
    lost = accepted - keys.keys()
    found.lost += len(lost)
    found.broken += [f"{key} was acknowledged and is no job" for key in sorted(lost)]
    found.broken += [f"{key} was sent by nobody and is a job" for key in sorted(keys.keys() - accepted)]
    for key, number in keys.items():
        if number > 1:
            found.doubled += number - 1
            found.broken.append(f"{key} is {number} jobs")
    for job_id, job in jobs.items():
        if job.state not in ENDED:
            found.lost += 1
            found.broken.append(f"job {job_id} has not ended: {job.state} ({job.reason})")


def _stages(found: Reckoning, jobs: Mapping[str, _Job], ledger: sqlite3.Connection) -> None:
    """No stage has two outcomes, and a job that is done has one of each."""
    told: dict[str, Counter[str]] = defaultdict(Counter)
    query = f"SELECT job_id, event, at FROM events WHERE job_id IN (SELECT id FROM jobs WHERE {SENT})"
    for job_id, event, at in ledger.execute(query):
        told[job_id][event] += 1
        if event in {"deliver done", "failed", "review"}:
            found.longest = max(found.longest, (at - jobs[job_id].received_at) / 1000)
    for job_id, job in jobs.items():
        events = told[job_id]
        found.taken_back += events["lease taken back"]
        ends = events["deliver done"] + events["failed"] + events["review"] + events["cancelled"]
        twice = [event for event, number in events.items() if event.endswith(" done") and number > 1]
        if twice or (ends > 1):
            found.doubled += 1
            found.broken.append(f"job {job_id} has a stage or an end twice: {dict(events)}")
        wanted = {f"{stage} done" for stage in ("extract", "classify", "reply", "deliver")}
        if job.state == "done" and not wanted <= events.keys():
            found.broken.append(f"job {job_id} is done without {sorted(wanted - events.keys())}")


def _effects(found: Reckoning, jobs: Mapping[str, _Job], ledger: sqlite3.Connection, arrivals: list[Arrival]) -> None:
    """Each delivery that was sent has arrived; what came twice came with the same name and bytes."""
    tries = Counter(
        {
            (row[0], row[1]): row[2]
            for row in ledger.execute("SELECT job_id, delivery, count(*) FROM attempts GROUP BY 1, 2")
        }
    )
    query = "SELECT count(*) FROM attempts WHERE outcome = 'in-doubt'"
    found.in_doubt = int(ledger.execute(query).fetchone()[0])
    came: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in arrivals:
        came[one.way, one.key].append(one.sha256)
    ways: dict[str, list[str]] = defaultdict(list)
    for job_id, ordinal, way, key, state in ledger.execute(
        "SELECT job_id, ordinal, transport, key, state FROM deliveries"
    ):
        ways[job_id].append(way)
        contents = came.pop((way, key), [])
        found.effects[way] += bool(contents)
        found.repeats[way] += max(0, len(contents) - 1)
        if state == "sent" and not contents:
            found.lost += 1
            found.broken.append(f"job {job_id}: {way} {key} counts as sent and never arrived")
        if len(set(contents)) > 1:
            found.broken.append(f"job {job_id}: {way} {key} came {len(contents)} times with different bytes")
        if len(contents) > tries[job_id, ordinal]:
            found.broken.append(
                f"job {job_id}: {way} {key} came {len(contents)} times in {tries[job_id, ordinal]} attempts"
            )
    found.broken += [f"{way} {key} arrived and is no delivery of the ledger" for way, key in came]
    for job_id, job in jobs.items():
        if job.state == "done" and tuple(sorted(ways[job_id])) != WANTED[job.kind]:
            found.broken.append(f"job {job_id} ({job.kind}) is done with {ways[job_id]} instead of {WANTED[job.kind]}")


def _message_id(raw: bytes) -> str:
    found = re.search(rb"(?im)^Message-ID:\s*(\S+)", raw)
    return found[1].decode() if found else ""
