"""`postroom eval --calibrate`: which answers make a curve, and where it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from config.routes import Label, Route
from config.settings import Settings
from daemon.evaluation import running, store
from daemon.evaluation.calibrating import calibrate
from daemon.evaluation.cases import Case, Half
from daemon.evaluation.outcome import Outcome
from tasks.errors import Permanent
from tasks.judging import calibrations

ROUTE = Route(name="post", labels={"bill": Label(says="A bill to pay."), "other": Label(says="Anything else.")})


def cases_of(folder: Path, half: Half, number: int) -> list[Case]:
    made = (Case(f"c{n}", folder / f"c{n}.txt", "bill", "", "eval", {}, {}) for n in range(1000))
    chosen = [case for case in made if case.half == half][:number]
    for case in chosen:
        case.path.write_text("Pay 3 EUR.")
    return chosen


def run_of(folder: Path, settings: Settings, cases: list[Case]) -> tuple[running.Plan, store.Run]:
    """Every fourth answer is wrong, told almost as surely as the right ones."""
    plan = running.Plan(settings, folder, "both", tuple(cases), (ROUTE,), ("m",), ("postroom",))
    run = store.begin(folder, plan.header())
    for number, case in enumerate(cases):
        label, sure = ("other", 0.9) if number % 4 == 0 else ("bill", 0.95)
        run.add(
            Outcome(case=case.name, model="m", label=label, confidence=sure, raw_confidence=sure, method="logprobs")
        )
    return plan, run


def test_the_tuning_half_makes_a_curve(tmp_path: Path, settings: Settings) -> None:
    """It is kept for this model, question and method, and is nearer to the truth than what was told."""
    settings.state_dir.mkdir()
    cases = [*cases_of(tmp_path, "tuning", 40), *cases_of(tmp_path, "unseen", 8)]
    plan, run = run_of(tmp_path, settings, cases)
    calibrate(Console(quiet=True), settings, plan, run, {case.name: case for case in cases})
    [made] = calibrations.read(settings.calibration_file)
    assert (made.model, made.route, made.method, made.answers, made.right) == ("m", "post", "logprobs", 40, 30)
    assert made.ece_after < made.ece_before
    assert made.curve.apply(0.9) < 0.9


def test_the_unseen_half_makes_none(tmp_path: Path, settings: Settings) -> None:
    """Its answers do not count, so there are too few."""
    settings.state_dir.mkdir()
    cases = cases_of(tmp_path, "unseen", 60)
    plan, run = run_of(tmp_path, settings, cases)
    with pytest.raises(Permanent, match="in the tuning half"):
        calibrate(Console(quiet=True), settings, plan, run, {case.name: case for case in cases})
    assert not (settings.calibration_file).exists()
