"""What `postroom backtest` prints: a line for each job as it is judged, what would change in it, and the sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from config.settings import Settings
from daemon.console import console, one_line, print_json
from daemon.evaluation.backtest import Backtest, Compared, Tally, told
from tasks.clock import iso, moment, now_ms
from tasks.errors import Permanent
from tasks.ledger import Ledger

INTERRUPTED = 130
SHOWN = 160
"""Characters of a value that are printed; with --json all of them are."""


@dataclass(frozen=True)
class Chosen:
    """Which jobs are judged anew."""

    since: str
    source: str = ""
    label: str = ""
    limit: int = 0


def run(settings: Settings, ledger: Ledger, chosen: Chosen, *, as_json: bool = False) -> int:
    """Judge them, and give the exit status: 1 when some could not be judged, 130 when stopped by Ctrl-C.

    Raises Permanent for a time that is none, ConfigError for wrong routes, Unavailable without a model.
    """
    try:
        since = moment(chosen.since, now_ms())
    except ValueError as error:
        raise Permanent(str(error)) from None
    test = Backtest(settings, ledger)
    out = Console(stderr=True, soft_wrap=True, highlight=False) if as_json else console()
    tally, found, stopped = Tally(), [], False
    try:
        for job in test.jobs(since, source=chosen.source, label=chosen.label, limit=chosen.limit):
            one = test.compare(job)
            tally.add(one)
            found.append(told(one))
            for line in _lines(one):
                out.print(line, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        stopped = True
    if as_json:
        print_json({"jobs": found, "changed": tally.changed, "problems": tally.problems, "by": tally.by_what})
    else:
        out.print(_sum(tally, chosen.since, stopped=stopped), markup=False, soft_wrap=True)
    return INTERRUPTED if stopped else 1 if tally.problems else 0


def _lines(one: Compared) -> Iterator[str]:
    head = f"{one.job.id}  {iso(one.job.received_at)}  {one_line(one.job.subject or one.job.name)[:60]}"
    if one.problem:
        yield f"{head}: not judged: {one_line(one.problem)}"
        return
    what = "as before" if not one.changes else f"{len(one.changes)} change(s)"
    yield f"{head}: {one.label} {one.confidence:.2f}, {what}"
    for change in one.changes:
        yield f"    {change.what}: {one_line(change.then)[:SHOWN]}  ->  {one_line(change.now)[:SHOWN]}"


def _sum(tally: Tally, since: str, *, stopped: bool) -> str:
    if not tally.jobs:
        return f"No judged job came since {since}."
    by = ", ".join(f"{what} {number}" for what, number in sorted(tally.by_what.items(), key=lambda item: -item[1]))
    early = " before it was stopped" if stopped else ""
    not_judged = f", {tally.problems} could not be judged" if tally.problems else ""
    return (
        f"{tally.jobs} job(s) judged anew{early}: {tally.changed} would change{f' ({by})' if by else ''}{not_judged}."
    )
