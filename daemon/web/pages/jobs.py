"""The list of jobs: search, filters, pages, and retry or cancel for many at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from config.settings import Settings
from daemon.again import run_again
from daemon.web.pages.ask import PREFIX, Ask
from daemon.web.pages.frame import many as so_many
from daemon.web.pages.kept import Kept
from daemon.web.pages.site import Site, to
from tasks.ids import LENGTH
from tasks.ledger import Ledger
from tasks.ledger.listing import Page, Place, Wanted
from tasks.models import Job, State

LIMIT = 50
COUNTS_SECONDS = 5.0
MOST_AT_ONCE = LIMIT
_PLACE = re.compile(rf"([0-9]{{1,16}})-([0-9a-z]{{{LENGTH}}})?")


def install(site: Site, settings: Settings, ledger: Ledger) -> None:
    """The routes."""
    counts = Kept(ledger.jobs.counts, COUNTS_SECONDS)
    labels = Kept(lambda: ledger.figures.labels(0), 60.0)

    def listed(ask: Ask) -> Response:
        wanted = wanted_of(ask)
        page = ledger.listing.page(wanted, _place(ask.query("before")), LIMIT)
        named = ledger.listing.by_name(wanted.words.strip()) if wanted.words.strip() else None
        if named and named.id not in {job.id for job in page.jobs} and not ask.query("before"):
            page = Page((named, *page.jobs), page.following, page.looked_at)
        return site.frame.page(
            ask,
            "jobs",
            page=page,
            wanted=wanted,
            following=_following(ask, page),
            counts=counts(),
            labels=sorted(labels()),
            states=list(State),
            sources=_sources(settings),
            days=(ask.query("since", 10), ask.query("until", 10)),
            filtered=wanted != Wanted(),
            done=ask.query("done"),
        )

    def many(ask: Ask) -> Response:
        chosen = [one for one in ask.form.getlist("job") if isinstance(one, str)][:MOST_AT_ONCE]
        moves: dict[str, Callable[[Job], bool]] = {
            "retry": lambda job: run_again(ledger, job, None, f"{ask.visitor.who} asked", resend=False, alone=False),
            "cancel": lambda job: ledger.jobs.cancel(job.id, why=f"{ask.visitor.who} cancelled it"),
        }
        action = ask.sent("action")
        move = moves.get(action)
        found = ledger.search.jobs(chosen) if move else {}
        done = [job.id for job in found.values() if move and move(job)]
        for job_id in done:
            ledger.visitors.note(ask.visitor.who, ask.address, action, job_id, many=len(done))
        were = "was" if len(done) == 1 else "were"
        told = {"retry": "will run again", "cancel": f"{were} cancelled"}.get(action, f"{were} changed")
        left = len(chosen) - len(done)
        rest = f", {left} {'was' if left == 1 else 'were'} left as before" if left else ""
        return to(f"/jobs?{urlencode({'done': so_many(len(done), 'job') + ' ' + told + rest})}")

    site.get("/jobs", listed)
    site.post("/jobs", many, "admin")


def wanted_of(ask: Ask) -> Wanted:
    """What the address asks for; what makes no sense counts as not asked."""
    states = tuple(State(one) for one in ask.request.query_params.getlist("state") if one in set(State))
    since, until = _day(ask.query("since")), _day(ask.query("until"))
    return Wanted(
        states=states,
        label=ask.query("label"),
        source=ask.query("source"),
        route=ask.query("route"),
        words=ask.query("q"),
        since=_ms(since) if since else None,
        until=_ms(until + timedelta(days=1)) if until else None,
    )


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _place(text: str) -> Place | None:
    found = _PLACE.fullmatch(text)
    return (int(found[1]), found[2] or "") if found else None


def _following(ask: Ask, page: Page) -> str:
    if page.following is None:
        return ""
    kept = [pair for pair in ask.request.query_params.multi_items() if pair[0] not in {"before", "done"}]
    return f"{PREFIX}/jobs?{urlencode([*kept, ('before', f'{page.following[0]}-{page.following[1]}')])}"


def _sources(settings: Settings) -> list[str]:
    named: dict[str, Iterable[str]] = {"imap": settings.imap, "folder": settings.folder, "webhook": settings.webhook}
    return ["smtp", "lmtp", "api", "cli", *(f"{way}:{name}" for way, names in named.items() for name in sorted(names))]
