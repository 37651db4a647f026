"""A team's day for the tests of the pages: the demo's inputs, taken through the real stages.

Only the model is a stand-in: it says what expected.toml says, and the real search for evidence finds where it stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from config.routes import Route
from config.settings import SHIPPED, Settings
from daemon.demo.inputs import Drop, Expected, Input, Mail, read_inputs
from daemon.demo.run import INPUTS
from daemon.listeners.webhook_protocol import GuardedProtocol
from daemon.web.app import make_app
from tasks import pipeline
from tasks.errors import Permanent
from tasks.evidence import Source
from tasks.intake import Intake
from tasks.judging.fields import located
from tasks.ledger import Ledger
from tasks.mailhead import sender_of
from tasks.model import FreeText
from tasks.models import Classification, Delivery, Document, Envelope, Field, Job, Kind, Outcome
from tasks.workshop import Workshop
from tests.integration.webhook_parts import served

DOUBTFUL = {"05-resume-pdf": 0.58, "07-two-attachments": 0.61}
"""Inputs that the stand-in is not sure about."""
SLOW = frozenset({"12-scanned-letter"})


class Expecting:
    """Judges as expected.toml says."""

    def __init__(self) -> None:
        self.expected: Expected = Expected()
        self.confidence = 0.93
        self.thinks: Callable[[], object] = lambda: None
        """Called for each judgement."""

    def classify(self, documents: list[Document], _mail: object, route: Route, _progress: object) -> Classification:
        self.thinks()
        label = self.expected.label or "other"
        rest = [other for other in route.labels if other != label]
        shares = {
            label: self.confidence,
            **{other: (1 - self.confidence) / 2 ** (n + 1) for n, other in enumerate(rest)},
        }
        sources = [Source.of(document) for document in documents]
        fields = tuple(self._field(route, label, name, value, sources) for name, value in self.expected.fields.items())
        doubt = f"confidence {self.confidence:.2f} is below 0.70" if self.confidence < 0.7 else ""
        summary = (
            f"{label.capitalize()} of {self.expected.fields.get('vendor', 'the sender')}."
            if self.expected.fields
            else ""
        )
        return Classification(
            label=label, confidence=self.confidence, alternatives=shares, summary=summary, fields=fields,
            model="stand-in", review=doubt,
        )  # fmt: skip

    def free_text(self, *_: Any) -> FreeText:
        return FreeText(text="", output_tokens=0)

    def _field(self, route: Route, label: str, name: str, value: str, sources: list[Source]) -> Field:
        kinds = route.labels[label].fields if label in route.labels else {}
        spec = kinds.get(name)
        place = located(name, spec, value, value, sources) if spec else None
        if place is None:
            return Field(name=name, value=value)
        return Field(
            name=name, value=value, quote=place.quote, document=place.document, page=place.page, line=place.line,
            supported=True,
        )  # fmt: skip


@dataclass
class Desk:
    """Postroom with a day's work in its ledger."""

    settings: Settings
    intake: Intake
    shop: Workshop
    judge: Expecting
    refuse: set[str] = field(default_factory=set)
    """Targets that take nothing."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Job ids by the name of the input."""

    @property
    def ledger(self) -> Ledger:
        return self.intake.ledger

    def take(self, name: str, envelope: Envelope, raw: bytes, expected: Expected, confidence: float = 0.93) -> Job:
        """Accept a message and run its stages until it rests."""
        self.judge.expected, self.judge.confidence = expected, confidence
        self.jobs[name] = self.intake.accept(envelope, raw).job_id
        return self.go_on(name)

    def mail(self, name: str, raw: bytes, expected: Expected | None = None, confidence: float = 0.93) -> Job:
        """Take a mail."""
        envelope = Envelope(
            source="smtp", kind=Kind.MAIL, key=name, sender=sender_of(raw), recipients=("office@harbourlane.example",),
            content_type="message/rfc822",
        )  # fmt: skip
        return self.take(name, envelope, raw, expected or Expected(), confidence)

    def go_on(self, name: str) -> Job:
        """Run the stages that are left."""

        def send(delivery: Delivery, _settings: Settings) -> Outcome:
            if delivery.target in self.refuse:
                raise Permanent("HTTP 404: there is no such endpoint")
            detail = "250 2.0.0 queued" if delivery.transport == "smtp" else "HTTP 200"
            return Outcome(detail=detail, response='{"taken": true}', code=250)

        with mock.patch("tasks.sending.deliver", send):
            for step in pipeline.STAGES:
                pipeline.run(self.shop, self.jobs[name], step)
        return self.job(name)

    def job(self, name: str) -> Job:
        found = self.ledger.jobs.get(self.jobs[name])
        assert found is not None
        return found


@contextlib.contextmanager
def desk(folder: Path, **sections: Any) -> Iterator[Desk]:
    """An empty desk in `folder`, with these sections of postroom.toml."""
    given: dict[str, Any] = {
        "state_dir": folder / "state",
        "routes_dir": routes_in(folder),
        "broker_url": "redis://127.0.0.1:9/0",
        "smtp_out": {"sender": "office@harbourlane.example", "domain": "harbourlane.example"},
        "endpoint": {"results": {"url": "http://127.0.0.1:9/none", "allow_private": True}},
        "webhook": {"shop": {"scheme": "none"}, "github": {"scheme": "none"}},
        **sections,
    }
    settings = Settings.model_validate(given)
    intake, judge = Intake.open(settings), Expecting()
    shop = Workshop.open(settings)
    shop.judge = judge  # type: ignore[assignment]  # a stand-in
    object.__setattr__(shop.answering, "judge", judge)
    try:
        yield Desk(settings, intake, shop, judge)
    finally:
        shop.close()
        intake.close()


@contextlib.contextmanager
def web(made: Desk) -> Iterator[str]:
    """The web process over a desk; its address."""
    with served(make_app(made.settings, made.intake), http=GuardedProtocol, proxy_headers=False) as url:
        yield url


def a_day(made: Desk, *, slow: bool = False, before: Callable[[], object] = lambda: None) -> None:
    """The demo's inputs: two rest in review, one delivery fails. `before` is called before each comes."""
    for one in read_inputs(INPUTS):
        if one.expected.duplicate_of or (one.name in SLOW and not slow):
            continue
        before()
        made.refuse = {"results"} if one.name == "04-rechnung-pdf" else set()
        made.take(one.name, _envelope(one), one.payload, one.expected, DOUBTFUL.get(one.name, 0.93))
    made.refuse = set()


def _envelope(one: Input) -> Envelope:
    delivery = one.delivery
    if isinstance(delivery, Mail):
        to = (delivery.to,)
        sender = sender_of(one.payload)
        return Envelope(
            source="smtp", kind=Kind.MAIL, key=one.name, sender=sender, recipients=to, content_type="message/rfc822"
        )
    if isinstance(delivery, Drop):
        return Envelope(
            source="folder:scans", kind=Kind.FILE, key=one.name, content_type="image/png", name=delivery.file
        )
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    source = f"webhook:{delivery.source}"
    return Envelope(source=source, kind=Kind.EVENT, key=one.name, content_type="application/json", headers=headers)


def routes_in(folder: Path) -> Path:
    """The shipped routes, with deliveries as the demo adds them."""
    target = folder / "routes"
    target.mkdir(parents=True)
    ways = '\n[[deliver]]\nsmtp = "sender"\n\n[[deliver]]\nwebhook = "results"\n'
    for path in sorted((SHIPPED / "routes").glob("*.toml")):
        text = path.read_text("utf-8")
        (target / path.name).write_text(text if "[[deliver]]" in text else text + ways, "utf-8")
    return target
