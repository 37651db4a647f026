"""What the tests of events share: a route, settings, a judge, and a house in which a job is run by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from config.routes import Route
from config.settings import Settings
from tasks import pipeline
from tasks.configured import routes_of
from tasks.evidence import Source
from tasks.intake import Intake
from tasks.judging import fields
from tasks.ledger import Ledger
from tasks.ledger.schema import jobs
from tasks.model import FreeText
from tasks.models import Classification, Document, Job, Kind, MailFacts
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.integration.webhook_parts import Answer, Seen

ROUTE = """
[match]
source = "webhook:shop"
[event]
subject = "$.title"
[[event.documents]]
each = "$.files[*]"
base64 = "$.data"
name = "$.name"
[[event.documents]]
each = "$.links[*]"
url = "$.url"
name = "$.name"
[[event.documents]]
text = "$.note"
[labels.invoice]
says = "A bill that asks for payment."
[labels.invoice.fields.total]
type = "decimal"
description = "total amount to pay"
[[deliver]]
webhook = "books"
"""
REST = "[labels]\n"


class StandIn:
    """Reads the total that a test tells it, if the documents have it."""

    total = "1.234,56"

    def classify(self, documents: Sequence[Document], _mail: MailFacts | None, route: Route, _p: Any) -> Classification:
        spec = route.labels["invoice"].fields["total"]
        found = fields.read("total", spec, self.total, [Source.of(one) for one in documents]).field
        return Classification(label="invoice", confidence=0.9, fields=(found,))

    def free_text(self, *_: Any) -> FreeText:
        return FreeText(text="", output_tokens=0)


def configured(tmp_path: Path, route: str = ROUTE, template: str = "", **fetch: Any) -> Settings:
    routes, templates = tmp_path / "routes", tmp_path / "templates" / "event"
    routes.mkdir(exist_ok=True)
    templates.mkdir(parents=True, exist_ok=True)
    (routes / "10-shop.toml").write_text(route)
    (routes / "90-rest.toml").write_text(REST)
    (templates / "shop.txt.j2").write_text(template)
    here = {"hosts": ["127.0.0.1:*"], "allow_private": True, **fetch}
    return Settings.model_validate(
        {
            "state_dir": tmp_path / "state",
            "routes_dir": routes,
            "templates_dir": tmp_path / "templates",
            "webhook": {"shop": {"scheme": "none", "fetch": here}},
            "endpoint": {"books": {"url": "https://books.example/in"}},
        }
    )


class House:
    """A ledger, a door and a worker's workshop under some settings."""

    def __init__(self, settings: Settings, ledger: Ledger, intake: Intake) -> None:
        self.ledger, self.intake = ledger, intake
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Restart the worker with other settings."""
        routes = routes_of(settings)
        self.shop = Workshop(settings, routes, self.ledger, StandIn())  # type: ignore[arg-type]
        self.shop.heart.stop()

    def post(self, event: object, content_type: str = "application/json", source: str = "webhook:shop") -> str:
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        came = envelope(
            str(len(self.ledger.jobs.page())), source=source, kind=Kind.EVENT, content_type=content_type, sender=""
        )
        return self.intake.accept(came, raw).job_id

    def job(self, job_id: str) -> Job:
        job = self.ledger.jobs.get(job_id)
        assert job is not None
        return job

    def run(self, job_id: str) -> Job:
        """Go on with the job as far as it goes, now."""
        with self.ledger.database.write() as connection:
            waiting = (jobs.c.id == job_id) & (jobs.c.state == "waiting")
            connection.execute(sa.update(jobs).where(waiting).values(due_at=1))
        for step in pipeline.STAGES:
            if not pipeline.run(self.shop, job_id, step):
                break
        return self.job(job_id)

    def documents(self, job_id: str) -> list[Document]:
        return self.ledger.jobs.documents(job_id)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def one_after_another(*answers: Answer) -> Answer:
    """The first request gets the first answer, ...; the last one for all that follow."""
    left = list(answers)

    def answer(connection: Any, seen: Seen) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection, seen)

    return answer
