"""Golden cases: labelled files beside a route (`50-post.toml`, `50-post.cases/`) that it has to judge right.

`postroom check --cases` runs them, so that a change of prompt, route or model is seen before it answers people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.errors import ConfigError
from config.routes import Route
from config.settings import Settings
from daemon import tryout
from daemon.checks import Finding
from daemon.evaluation.cases import Case, check_labels, load_cases
from daemon.evaluation.figures import right_value
from daemon.evaluation.outcome import Value
from daemon.evaluation.running import judge_of
from tasks.configured import routes_of
from tasks.errors import PostroomError, Unavailable
from tasks.model import Judge
from tasks.models import Classification
from tasks.stages.classify import classify

ENDING = ".cases"
MEND = "mend the route or its model, or what the case expects"


def folders(settings: Settings, routes: tuple[Route, ...]) -> dict[Path, Route]:
    """The folders of golden cases that are there, with their routes. Raises ConfigError for one without a route."""
    files = sorted(settings.routes_dir.glob("*.toml"))
    return {
        folder: route
        for file, route in zip(files, routes, strict=True)
        if (folder := file.with_suffix(ENDING)).is_dir()
    }


def findings(settings: Settings) -> Iterator[Finding]:
    """One for each case. Raises ConfigError for a case that is written wrong, Unavailable without a model."""
    routes = routes_of(settings)
    found = [(route, load_cases(folder)) for folder, route in folders(settings, routes).items()]
    for route, cases in found:
        check_labels(cases, [route])
    if not found:
        yield Finding("cases", "warning", "no route has any", f"put some into {settings.routes_dir}/NAME{ENDING}")
    judge = judge_of(settings)
    for route, cases in found:
        for case in sorted(cases, key=lambda one: one.name):
            yield _finding(settings, routes, route, case, judge)


def _finding(settings: Settings, routes: tuple[Route, ...], route: Route, case: Case, judge: Judge) -> Finding:
    what = f"case {route.name}/{case.name}"
    try:
        come = tryout.arrived(settings, case.path, case.source, routes)
        if come.route.name != route.name:
            instead = 'write source = "..." into its expected.toml, or mend [match]'
            return Finding(what, "failed", f"the route {come.route.name} takes it", instead)
        told = classify(come.extracted, come.route, judge)
    except Unavailable:
        raise
    except (PostroomError, ConfigError) as error:
        return Finding(what, "failed", str(error), MEND)
    if wrong := list(differences(case, told)):
        return Finding(what, "failed", "; ".join(wrong), MEND)
    held = f"; a person would look: {told.review}" if told.review else ""
    return Finding(what, "ok", f"{told.label} at {told.confidence:.2f}, {len(case.fields)} value(s){held}")


def differences(case: Case, told: Classification) -> Iterator[str]:
    """What a case expects and what came instead. Values that it does not speak of are not looked at."""
    if told.label != case.label:
        yield f"it is {case.label}, and was taken for {told.label} at {told.confidence:.2f}"
        return
    values = told.values()
    for name, wanted in case.fields.items():
        value = values.get(name)
        if value is None:
            yield f"{name} {wanted[0]!r} was not read"
        elif not right_value(case, Value(name=name, value=value, supported=True)):
            yield f"{name} is {wanted[0]!r}, and {value!r} was read"
    for name, wanted in case.may.items():
        value = values.get(name)
        if (
            value is not None
            and name not in case.fields
            and not right_value(case, Value(name=name, value=value, supported=True))
        ):
            yield f"{name} may be {wanted[0]!r}, and {value!r} was read"
