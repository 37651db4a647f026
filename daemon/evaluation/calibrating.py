"""`postroom eval --calibrate`: a curve for the confidence from the answers of a run, kept for later jobs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from config.settings import Settings
from daemon.evaluation.cases import Case
from daemon.evaluation.outcome import Outcome
from daemon.evaluation.running import Plan
from daemon.evaluation.store import Run
from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.judging import calibrations
from tasks.judging.calibration import NotEnough, ece, fit, held_out
from tasks.prompts import Prompts


def calibrate(out: Console, settings: Settings, wanted: Plan, run: Run, cases: Mapping[str, Case]) -> None:
    """Fit and keep one curve for each model and each method. Answers of the unseen half do not count.

    Raises Permanent when there is more than one route (each asks another question), when there are too few answers,
    and when the file cannot be written.
    """
    if len(wanted.routes) != 1:
        raise Permanent("a calibration is of one route: put its file into the set as route.toml")
    route = wanted.routes[0]
    question = calibrations.question_of(Prompts(settings.templates_dir / "prompts"), route, settings.model.evening)
    for model in wanted.models:
        answered = [one for one in run.of(model) if one.method and cases[one.case].half == "tuning"]
        if not answered:
            raise Permanent(
                f"no calibration was made: {model} has no answers in the tuning half; run it with --half both"
            )
        for method in sorted({one.method for one in answered}):
            curve = _made(model, question, route.name, method, [one for one in answered if one.method == method], cases)
            path = settings.calibration_file
            try:
                calibrations.keep(path, curve)
            except ValueError as error:
                raise Permanent(str(error)) from None
            out.print(
                f"Calibrated {model} for {route.name}: error {curve.ece_before:.3f}, now {curve.ece_after:.3f} "
                f"on answers that the curve had not seen ({path})",
                soft_wrap=True,
            )


def _made(
    model: str, question: str, route: str, method: str, answered: list[Outcome], cases: Mapping[str, Case]
) -> calibrations.Calibration:
    seen = [(one.raw_confidence, one.label == cases[one.case].label) for one in answered]
    try:
        curve, unseen = fit(seen), held_out(seen)
    except NotEnough as error:
        raise Permanent(f"no calibration was made: {error}") from None
    return calibrations.Calibration(
        model=model,
        question=question,
        method=method,
        route=route,
        curve=curve,
        answers=len(seen),
        right=sum(right for _, right in seen),
        ece_before=ece(seen),
        ece_after=ece(unseen),
        made_at=now_ms(),
    )
