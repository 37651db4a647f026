"""`/metrics` for Prometheus: what stands in the ledger and in the broker, told for all processes at once.

Nothing is counted in this process. What the workers and the rescue count stands in the ledger (tasks/meters.py), and how
many jobs are where is asked there. Scrapes within a few seconds share one look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import exposition
from prometheus_client.metrics_core import Metric

from config.settings import Settings
from daemon.web import openapi
from daemon.web.auth import BEARER, Guard
from daemon.web.gauges import standing
from tasks.app import make_app
from tasks.errors import Unavailable
from tasks.ledger import Ledger, Scope, Tally
from tasks.meters import CATALOGUE, END, SUM, Meter, labels_of

KEEP = 5.0
"""Seconds for which an answer is kept."""


class Answers:
    """The newest look at everything, shared by those who ask within KEEP seconds. `registry` of prometheus_client."""

    def __init__(self, look: Callable[[], Iterable[Metric]], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._until = -1.0
        self._families: list[Metric] = []

    def collect(self) -> list[Metric]:
        """The families. One asker looks, the others wait for it."""
        with self._lock:
            if self._clock() >= self._until:
                self._families = list(self._look())
                self._until = self._clock() + KEEP
            return self._families


def router(settings: Settings, ledger: Ledger, guard: Guard) -> APIRouter:
    """The one route. Programs on this machine may read it, others need a token of the scope `metrics`."""
    routes = APIRouter(tags=["health"], dependencies=[Depends(BEARER), Depends(guard.needs(Scope.METRICS))])
    told = standing(settings, ledger, make_app(settings))
    answers = Answers(lambda: [*told(), *counted(ledger)])

    @routes.get("/metrics", response_class=Response, responses=openapi.METRICS)
    def metrics(request: Request) -> Response:
        """Everything in the format that is asked for: OpenMetrics 1.0, or Prometheus' older text format."""
        encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encode(answers), headers={"Content-Type": content_type})

    return routes


def counted(ledger: Ledger) -> Iterator[Metric]:
    """What all processes have counted. Nothing when the ledger does not answer: a counter must not fall back to 0."""
    from_ledger = _by_name(ledger)
    if from_ledger is None:
        return
    for meter in CATALOGUE:
        yield _family(meter, from_ledger.get(meter.name, []))


def _by_name(ledger: Ledger) -> dict[str, list[Tally]] | None:
    found: dict[str, list[Tally]] = {}
    try:
        for one in ledger.tallies.all():
            found.setdefault(one.name, []).append(one)
    except Unavailable:
        return None
    return found


def _family(meter: Meter, tallies: Iterable[Tally]) -> Metric:
    family = Metric(meter.name, meter.says, meter.kind)
    series: dict[str, dict[str, float]] = {} if meter.labels else {"{}": {}}
    for one in tallies:
        series.setdefault(one.labels, {})[one.part] = one.value
    for key, parts in series.items():
        labels = dict(labels_of(key))
        if meter.kind == "counter":
            family.add_sample(f"{meter.name}_total", labels, parts.get("", 0.0))
        else:
            _histogram(family, meter, labels, parts)
    return family


def _histogram(family: Metric, meter: Meter, labels: dict[str, str], parts: dict[str, float]) -> None:
    number = 0.0
    for bound in (*(f"{one:g}" for one in meter.buckets), END):
        number += parts.get(bound, 0.0)
        le = bound if bound == END else str(float(bound))
        family.add_sample(f"{meter.name}_bucket", {**labels, "le": le}, number)
    family.add_sample(f"{meter.name}_count", labels, number)
    family.add_sample(f"{meter.name}_sum", labels, parts.get(SUM, 0.0))
