"""The golden cases that ship with the routes: they are written right and reach their route. A model judges them elsewhere."""

from __future__ import annotations

import pytest

from config.routes import Route, load_routes
from config.settings import SHIPPED, TEMPLATES, Settings
from daemon import tryout
from daemon.evaluation import golden
from daemon.evaluation.cases import Case, check_labels, load_cases

ROUTES = load_routes(SHIPPED / "routes", TEMPLATES, frozenset())
FOLDERS = golden.folders(Settings(), ROUTES)
CASES = [(route, case) for folder, route in FOLDERS.items() for case in load_cases(folder)]


def test_the_routes_that_ask_a_model_have_cases() -> None:
    """One label alone is no question; all others have some."""
    asked = {route.name for route in ROUTES if len(route.labels) > 1}
    assert {route.name for route in FOLDERS.values()} == asked


@pytest.mark.parametrize(("route", "case"), CASES, ids=[f"{route.name}-{case.name}" for route, case in CASES])
def test_a_case_reaches_its_route(route: Route, case: Case, settings: Settings) -> None:
    """Its label and fields are the route's, it can be read, and no other route takes it."""
    check_labels([case], [route])
    come = tryout.arrived(settings, case.path, case.source, ROUTES)
    assert come.route.name == route.name
    assert all(document.status == "read" for document in come.extracted.documents)
