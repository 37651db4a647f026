"""The first page: what came today, what was answered, what waits, and whether everything is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from config.settings import Settings
from daemon.web.pages.ask import Ask
from daemon.web.pages.charts import Bar, columns, rows
from daemon.web.pages.health import Health
from daemon.web.pages.kept import Kept
from daemon.web.pages.site import Site
from tasks.clock import DAY_MS, HOUR_MS, now_ms
from tasks.ledger import Ledger
from tasks.ledger.figures import SAMPLE
from tasks.ledger.listing import Wanted
from tasks.models import State

SECONDS = 5.0
WEEK = 7
MOST_LABELS, MOST_REASONS, WAITING_SEEN = 8, 6, 500
_SPANS = ((60_000, "1 min"), (300_000, "5 min"), (1_800_000, "30 min"), (7_200_000, "2 h"), (DAY_MS, "1 day"))
_UNDER_WAY = (State.RECEIVED, State.FETCHING, State.EXTRACTING, State.CLASSIFYING, State.REPLYING, State.DELIVERING)


def install(site: Site, settings: Settings, ledger: Ledger) -> None:
    """The route."""
    health = Health(settings, ledger)
    numbers = Kept(lambda: _numbers(ledger, datetime.fromtimestamp(now_ms() / 1000).astimezone()), SECONDS)

    def today(ask: Ask) -> Response:
        return site.frame.page(ask, "today", **numbers(), health=health.lines())

    site.get("/", today)


def _numbers(ledger: Ledger, now: datetime) -> dict[str, Any]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = int(midnight.timestamp() * 1000)
    today, counts = ledger.figures.states(since), ledger.jobs.counts()
    took = sorted(ledger.figures.ended(now_ms() - WEEK * DAY_MS))
    return {
        "arrived": sum(today.values()),
        "done": today.get(State.DONE.value, 0),
        "review": counts.get(State.REVIEW.value, 0),
        "failed": counts.get(State.FAILED.value, 0),
        "failed_today": today.get(State.FAILED.value, 0),
        "waiting": counts.get(State.WAITING.value, 0),
        "under_way": sum(counts.get(state.value, 0) for state in _UNDER_WAY),
        "hours": _hours(ledger, now),
        "days": _days(ledger, midnight),
        "times": _times(took),
        "typical": took[len(took) // 2] if took else None,
        "sampled": len(took) == SAMPLE,
        "labels": _labels(ledger.figures.labels(now_ms() - WEEK * DAY_MS)),
        "reasons": _reasons(ledger),
        "newest": ledger.listing.page(Wanted(), limit=8).jobs,
    }


def _hours(ledger: Ledger, now: datetime) -> Markup:
    """What came in each of the last 24 hours, and how much of it is done."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    start = int(first.timestamp() * 1000)
    came = ledger.figures.arrivals(start, HOUR_MS)
    done = ledger.figures.arrivals(start, HOUR_MS, State.DONE)
    bars = []
    for number in range(24):
        hour = first + timedelta(hours=number)
        bars.append(
            Bar(f"{hour:%H}" if number % 3 == 0 else "", f"{hour:%H}:00", (came.get(number, 0), done.get(number, 0)))
        )
    return columns("Last 24 hours", bars, ("arrived", "of them done"))


def _days(ledger: Ledger, midnight: datetime) -> Markup:
    first = midnight - timedelta(days=13)
    came = ledger.figures.arrivals(int(first.timestamp() * 1000), DAY_MS)
    days = [first + timedelta(days=number) for number in range(14)]
    bars = [Bar(f"{day.day}." if at % 2 else "", f"{day:%Y-%m-%d}", (came.get(at, 0),)) for at, day in enumerate(days)]
    return columns("Last 14 days", bars, ("arrived",))


def _times(took: Sequence[int]) -> Markup:
    """How long it took from accepted to done, in the last seven days."""
    edges = [0, *(edge for edge, _ in _SPANS)]
    bars = []
    for begin, (end, name) in zip(edges, _SPANS, strict=False):
        bars.append(Bar(f"up to {name}", f"up to {name}", (sum(begin <= one < end for one in took),)))
    bars.append(Bar("longer", "longer than a day", (sum(one >= DAY_MS for one in took),)))
    return columns("Time until done, last 7 days", bars, ("jobs",))


def _labels(counts: dict[str, int]) -> Markup | None:
    most = Counter(counts).most_common(MOST_LABELS)
    return rows("Labels, last 7 days", [Bar(label, label, (number,)) for label, number in most]) if most else None


def _reasons(ledger: Ledger) -> list[tuple[str, int]]:
    """Why jobs wait, the commonest reason first, by the newest of them."""
    page = ledger.listing.page(Wanted(states=(State.WAITING,)), limit=WAITING_SEEN)
    return Counter(job.reason or "for its turn" for job in page.jobs).most_common(MOST_REASONS)
