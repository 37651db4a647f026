"""Runs the cases: each file is read as a worker reads it, judged as the stages judge, and written down at once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.routes import Route, read_route
from config.settings import Settings
from daemon import tryout
from daemon.evaluation import plain
from daemon.evaluation.cases import ROUTE, Case, Half, check_labels
from daemon.evaluation.outcome import Header, Outcome, Value, Way
from tasks.clock import now_ms
from tasks.configured import routes_of
from tasks.errors import NeedsReview, PostroomError, Unavailable
from tasks.model import Judge, Models
from tasks.models import Classification, Extracted
from tasks.stages.classify import classify


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    settings: Settings
    folder: Path
    half: Half
    cases: tuple[Case, ...]
    routes: tuple[Route, ...]
    """One alone is taken for every case; of several, each case's is chosen as a worker chooses it."""
    models: tuple[str, ...]
    ways: tuple[Way, ...]

    def header(self) -> Header:
        """The run's first line, with the hash of all that its answers depend on."""
        return Header(
            fingerprint=self._fingerprint(),
            folder=str(self.folder.resolve()),
            half=self.half,
            models=self.models,
            ways=self.ways,
            cases=tuple(case.name for case in self.cases),
            min_confidence=self.settings.model.min_confidence,
            started_at=now_ms(),
        )

    def _fingerprint(self) -> str:
        depends = [
            self.settings.model.model_dump_json(exclude={"host", "hosts"}),
            *(route.model_dump_json() for route in self.routes),
            *(_digest(path) for path in sorted((self.settings.templates_dir / "prompts").glob("*.j2"))),
            *(_digest(path) for path in [self.settings.calibration_file] if path.is_file()),
            *(f"{case.path.name} {_digest(case.path)}" for case in self.cases),
            *self.models,
            *self.ways,
        ]
        return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]

    def steps(self) -> Iterator[tuple[str, Case, Way]]:
        """Model by model, so that a server has to swap them once; within it, case by case."""
        for model in self.models:
            for case in self.cases:
                for way in self.ways:
                    yield model, case, way


def plan(
    settings: Settings, folder: Path, half: Half, cases: Sequence[Case], models: Sequence[str], *, beside: bool
) -> Plan:
    """The plan for a set: by its own route.toml where it has one, else by the configured routes. Raises ConfigError."""
    own = folder / ROUTE
    if own.is_file():
        routes: tuple[Route, ...] = (
            read_route(own, settings.templates_dir, frozenset(settings.endpoint), frozenset(settings.passwords)),
        )
    else:
        routes = routes_of(settings)
    check_labels(cases, routes)
    ways: tuple[Way, ...] = ("postroom", "plain") if beside else ("postroom",)
    return Plan(settings, folder, half, tuple(cases), routes, tuple(models) or (settings.model.name,), ways)


def run(wanted: Plan, done: Callable[[tuple[str, str, Way]], bool]) -> Iterator[Outcome]:
    """Every outcome that is not `done` yet, as soon as it is known. Raises Unavailable when the model cannot be asked."""
    reader = _Reader(wanted)
    judges = {model: judge_of(wanted.settings, model) for model in wanted.models}
    for model, case, way in wanted.steps():
        if not done((case.name, model, way)):
            yield _judged(wanted, reader, judges[model], model, case, way)


class _Reader:
    """Reads each file once, however many models and ways judge it one after the other."""

    def __init__(self, wanted: Plan) -> None:
        self._wanted = wanted
        self._last: tuple[str, Extracted, Route, float] | None = None

    def read(self, case: Case) -> tuple[Extracted, Route, float]:
        """The documents, the route, and the seconds that reading took. Raises Permanent."""
        if self._last is None or self._last[0] != case.name:
            started = time.monotonic()
            come = tryout.arrived(self._wanted.settings, case.path, case.source, self._wanted.routes)
            self._last = case.name, come.extracted, come.route, time.monotonic() - started
        return self._last[1:]


def judge_of(settings: Settings, model: str = "") -> Judge:
    """A judge as a worker has it, asking `model`, or that of the settings."""
    asked = settings.model.model_copy(update={"name": model}) if model else settings.model
    return Judge(asked, settings.templates_dir, calibrations=settings.calibration_file)


def _judged(wanted: Plan, reader: _Reader, judge: Judge, model: str, case: Case, way: Way) -> Outcome:
    settings = wanted.settings.model.model_copy(update={"name": model})
    try:
        extracted, route, reading = reader.read(case)
        route = route.model_copy(update={"model": route.model.model_copy(update={"name": model})})
        started = time.monotonic()
        if way == "plain":
            outcome = plain.ask(Models(settings), settings, route, extracted, case.name)
        else:
            found = classify(extracted, route, judge)
            outcome = outcome_of(case.name, model, found)
    except Unavailable:
        raise
    except NeedsReview as error:
        return Outcome(case=case.name, model=model, way=way, review=error.reason)
    except PostroomError as error:
        return Outcome(case=case.name, model=model, way=way, error=error.reason)
    spent = {"seconds_reading": round(reading, 3), "seconds_judging": round(time.monotonic() - started, 3)}
    return outcome.model_copy(update=spent)


def outcome_of(case: str, model: str, found: Classification) -> Outcome:
    """A classification as a line of a run."""
    return Outcome(
        case=case,
        model=model,
        label=found.label,
        confidence=found.confidence,
        raw_confidence=found.alternatives.get(found.label, found.confidence),
        method=found.method,
        values=tuple(Value(name=one.name, value=one.value, supported=one.supported) for one in found.fields),
        review=found.review,
        notes=found.notes,
        summary=found.summary,
        prompt_tokens=found.prompt_tokens,
        output_tokens=found.output_tokens,
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
