"""The daily digest: what came, what was answered, what waits for a person, what failed, and what to do about it.

It is a job of Postroom's own, as an alert is, so it is sent with the retries and the story of every other one. Its key is
the day, so that a day has one, however often and on however many hosts it is asked for.
"""

from __future__ import annotations

from datetime import datetime

from config.settings import Settings
from tasks.alerts import AlertPart, AlertPayload, mail_of
from tasks.clock import DAY_MS, iso
from tasks.errors import Permanent
from tasks.ids import new_job_id
from tasks.ledger import Ledger, Notice
from tasks.ledger.digests import Day
from tasks.letters import filled

PREFIX = "digest:"
FILE = "digest/digest.txt.j2"
LISTED = 20
"""Jobs in a list; the mail says when there are more."""
LONGEST_MS = 7 * DAY_MS
"""What is told of at most, when no digest was made for long."""


def written(settings: Settings, ledger: Ledger, now: int, since: int | None = None) -> tuple[str, str]:
    """Subject and text of what happened until `now`.

    From `since` on (milliseconds), or from the last digest, a week back at most; a day when there was none. Raises
    Permanent when the template cannot be filled, Unavailable when the ledger does not answer.
    """
    if since is None:
        last = ledger.digests.last(PREFIX)
        since = max(last, now - LONGEST_MS) if last is not None else now - DAY_MS
    day = ledger.digests.day(since, now, LISTED, PREFIX)
    return _subject(day), _text(settings, day, _disabled(ledger))


def send(settings: Settings, ledger: Ledger, now: int, since: int | None = None) -> str:
    """Put the digest of `now`'s day, by this machine's calendar, on its way to everybody in [alerts] mail.

    Its job's id; empty when the day has one already. Raises as `written` does, and Permanent when there is nobody to
    tell.
    """
    if not settings.alerts.mail:
        raise Permanent('nobody is told: write mail = ["admin@example.org"] into [alerts]')
    subject, text = written(settings, ledger, now, since)
    job_id, key = new_job_id(), f"{PREFIX}{datetime.fromtimestamp(now / 1000).astimezone():%Y-%m-%d}"
    told = AlertPayload(timestamp=iso(now), data=AlertPart(job=job_id, url="", key=key, subject=subject, text=text))
    planned = tuple(mail_of(settings, told, target, place, now) for place, target in enumerate(settings.alerts.mail))
    return job_id if ledger.notices.add(Notice(job_id, key, subject, text, planned, now)) else ""


def _subject(day: Day) -> str:
    came = sum(day.came.values())
    parts = [f"{came} came", f"{day.states.get('done', 0)} done"]
    if day.review:
        parts.append(f"{day.review} in review")
    if day.failed:
        parts.append(f"{day.failed} failed")
    return ", ".join(parts)


def _disabled(ledger: Ledger) -> list[dict[str, str]]:
    return [
        {"name": one.name, "since": iso(one.disabled_at), "because": one.disabled_because}
        for one in ledger.endpoints.all()
        if one.disabled_at is not None
    ]


def _text(settings: Settings, day: Day, disabled: list[dict[str, str]]) -> str:
    url = settings.web.public_url.rstrip("/")
    return filled(settings.templates_dir, FILE, day=day, disabled=disabled, url=url)
