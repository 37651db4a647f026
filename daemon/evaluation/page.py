"""The report as one HTML file: figures, confusion matrix, reliability and misses, with nothing loaded from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from daemon.evaluation import pictures
from daemon.evaluation.cases import Case
from daemon.evaluation.figures import Counts, figures
from daemon.evaluation.outcome import Way
from daemon.evaluation.store import Run
from daemon.evaluation.words import Changed, Miss, changes, difference, lines, misses
from tasks.files import replacing


@dataclass(frozen=True)
class Moved:
    """A figure and how it moved since the run before."""

    name: str
    value: str
    moved: str


@dataclass(frozen=True)
class Section:
    """One model in one way."""

    model: str
    way: Way
    title: str
    lines: Sequence[Moved]
    confusion: Markup
    reliability: Markup
    fields: Sequence[tuple[str, Counts]]
    groups: Sequence[tuple[str, int, int]]
    changed: Sequence[Changed]
    misses: Sequence[Miss] | None
    """None: those of the unseen half, which nobody is to tune on."""


def sections(run: Run, cases: Mapping[str, Case], before: Run | None, *, show_unseen: bool = False) -> list[Section]:
    """All that a run has to tell, model by model and way by way."""
    asked = [(model, way) for model in run.header.models for way in run.header.ways]
    return [_section(run, cases, before, model, way, show_unseen) for model, way in asked if run.of(model, way)]


def _section(
    run: Run, cases: Mapping[str, Case], before: Run | None, model: str, way: Way, show_unseen: bool
) -> Section:
    outcomes = run.of(model, way)
    told = figures(cases, outcomes)
    answered = {one.case for one in outcomes}
    old = [one for one in before.of(model, way) if one.case in answered] if before else []
    threshold = run.header.min_confidence
    then = lines(figures(cases, old), threshold) if old else []
    figured = lines(told, threshold)
    moved = [difference(now, past) for now, past in zip(figured, then, strict=True)] if then else [""] * len(figured)
    open_cases = {name: case for name, case in cases.items() if show_unseen or case.half == "tuning"}
    hidden = not open_cases and bool(outcomes)
    return Section(
        model=model,
        way=way,
        title=f"{model}, the plain way" if way == "plain" else model,
        lines=[Moved(one.name, one.value, step) for one, step in zip(figured, moved, strict=True)],
        confusion=pictures.confusion(told.confusion),
        reliability=pictures.reliability(told.seen),
        fields=sorted(told.fields.items()),
        groups=[(name, *share) for table in (told.by_label, told.by_language) for name, share in sorted(table.items())],
        changed=changes(open_cases, outcomes, old),
        misses=None if hidden else list(misses(open_cases, outcomes)),
    )


def write(path: Path, templates: Path, run: Run, shown: Sequence[Section], before: Run | None) -> None:
    """Write the report. Raises Permanent when that is not possible."""
    environment = Environment(loader=FileSystemLoader(templates / "eval"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("report.html.j2").render(
        name=run.header.folder,
        header=run.header,
        begun=when(run),
        whole=run.is_whole,
        known=len(run.outcomes),
        wanted=run.wanted,
        before=when(before) if before else "",
        sections=shown,
    )
    with replacing(path) as file:
        file.write(html.encode())


def when(run: Run) -> str:
    """When a run began, in words: UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.header.started_at / 1000))
