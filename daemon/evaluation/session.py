"""One `postroom eval` from beginning to end: run, count, compare, print, write the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from config.settings import Settings
from daemon.console import console, one_line, print_json
from daemon.evaluation import page, running, store, words
from daemon.evaluation.calibrating import calibrate
from daemon.evaluation.cases import Case, Half, load_cases
from daemon.evaluation.page import Section
from daemon.evaluation.store import Run

INTERRUPTED = 130
SHOWN = 40
"""Misses that are printed; the report has all of them."""


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for."""

    folder: Path
    models: Sequence[str] = ()
    half: Half = "both"
    only: str = ""
    plain: bool = False
    against: Path | None = None
    report: Path | None = None
    calibrate: bool = False
    show_unseen: bool = False
    anew: bool = False
    as_json: bool = False


def evaluate(settings: Settings, wish: Wishes) -> int:
    """Do it, and give the exit status. Raises ConfigError for a wrong set, Unavailable without a model."""
    cases = load_cases(wish.folder, wish.half, wish.only)
    wanted = running.plan(settings, wish.folder, wish.half, cases, wish.models, beside=wish.plain)
    out = Console(stderr=True, soft_wrap=True, highlight=False) if wish.as_json else console()
    place = store.folder_of(settings.state_dir, wish.folder)
    run = store.begin(place, wanted.header(), anew=wish.anew)
    stopped = _run(out, wanted, run, show_unseen=wish.show_unseen)
    before = Run.read(wish.against) if wish.against else store.last(place, run)
    known = {case.name: case for case in cases}
    shown = page.sections(run, known, before, show_unseen=wish.show_unseen)
    path = wish.report or run.path.with_suffix(".html")
    page.write(path, settings.templates_dir, run, shown, before)
    if wish.as_json:
        print_json(_told(run, shown, path))
    else:
        _print(out, run, shown, before)
    out.print(f"Report: {path}\nRun: {run.path}", soft_wrap=True)
    if stopped:
        out.print("Stopped. The same command goes on where it was.")
        return INTERRUPTED
    if wish.calibrate:
        calibrate(out, settings, wanted, run, known)
    return 1 if any(one.error for one in run.outcomes) else 0


def _run(out: Console, wanted: running.Plan, run: Run, *, show_unseen: bool) -> bool:
    """Ask what is not known yet; whether it was stopped by Ctrl-C."""
    known: Mapping[str, Case] = {case.name: case for case in wanted.cases}
    if run.outcomes:
        out.print(f"Going on with {run.path}: {len(run.outcomes)} of {run.wanted} are known.", soft_wrap=True)
    try:
        for outcome in running.run(wanted, run.has):
            run.add(outcome)
            case = known[outcome.case]
            hidden = case.half == "unseen" and not show_unseen
            line = words.progress(len(run.outcomes), run.wanted, case, outcome, hidden=hidden)
            out.print(one_line(line), markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        return True
    return False


def _print(out: Console, run: Run, shown: list[Section], before: Run | None) -> None:
    for one in shown:
        compared = f"  (compared with the run of {page.when(before)})" if before else ""
        out.print(f"\n[bold]{one.title}[/], {len(run.header.cases)} documents, {run.header.half}{compared}")
        for line in one.lines:
            out.print(f"  {line.name:32} {line.value}{f'   {line.moved}' if line.moved else ''}", markup=False)
        _print_fields(out, one)
        for change in one.changed:
            how = "now right" if change.better else "now WRONG"
            out.print(f"  {how}: {change.case}, {change.before}, now {change.now}", markup=False)
        _print_misses(out, one)


def _print_fields(out: Console, one: Section) -> None:
    if one.fields:
        out.print("  where the label is right         precision  recall    F1  right  wrong  not stated")
    for name, of in one.fields:
        share = f"{of.precision:9.2f} {of.recall:7.2f} {of.f1:5.2f}"
        out.print(f"    {name:30} {share} {of.right:3} of {of.wanted:<3} {of.wrong:4} {of.unstated:6}", markup=False)


def _print_misses(out: Console, one: Section) -> None:
    if one.misses is None:
        out.print("  what is wrong in the unseen half is not shown, so that nothing is tuned on it (--show-unseen)")
        return
    for miss in one.misses[:SHOWN]:
        seen = "" if miss.seen else "  UNSEEN"
        line = f"{miss.case}: {miss.what} {miss.told!r}, right is {miss.wanted!r} ({miss.confidence:.2f}){seen}"
        out.print(f"  {one_line(line)}", markup=False)
    if len(one.misses) > SHOWN:
        out.print(f"  ... and {len(one.misses) - SHOWN} more in the report")


def _told(run: Run, shown: list[Section], path: Path) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "report": str(path),
        "whole": run.is_whole,
        "half": run.header.half,
        "results": [
            {
                "model": one.model,
                "way": one.way,
                "figures": {line.name.strip(): line.value for line in one.lines},
                "fields": {
                    name: {"precision": of.precision, "recall": of.recall, "f1": of.f1, "wanted": of.wanted}
                    for name, of in one.fields
                },
            }
            for one in shown
        ],
    }
