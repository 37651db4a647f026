"""What tests of endpoints over days share: jobs at their deliveries, and workers by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.settings import Settings
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Delivery, Job, Kind, Stage, State
from tasks.pipeline import from_stage, run
from tasks.workshop import Workshop
from tests.conftest import envelope

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Post:
    """Postroom with webhook endpoints, without its model: what a worker and the rescue do is done by hand."""

    def __init__(self, settings: Settings, intake: Intake, urls: Mapping[str, str], **more: Any) -> None:
        endpoints = {name: {"url": url, "allow_private": True, "secrets": [SECRET]} for name, url in urls.items()}
        given = {"state_dir": settings.state_dir, "ledger_url": settings.ledger_url}
        values = {**given, "endpoint": endpoints, **more}
        self.settings = Settings.model_validate(values)
        self.intake = intake
        self.shop = Workshop.open(self.settings)
        self.ledger: Ledger = self.shop.ledger
        self.made: list[str] = []

    def close(self) -> None:
        self.shop.close()

    def event(self, *targets: str) -> str:
        """A job whose next stage is deliver, to these endpoints or addresses."""
        name = f"event {len(self.made)}"
        arrived = envelope(name, source="webhook:shop", kind=Kind.EVENT, content_type="application/json", sender="")
        job_id = self.intake.accept(arrived, b"{}").job_id
        claimed = self.ledger.leases.claim(job_id, Stage.FETCH, State.FETCHING, "tester")
        assert claimed is not None
        planned = [self._delivery(job_id, number, target) for number, target in enumerate(targets)]
        self.ledger.deliveries.plan(claimed[1], planned)
        row = {"stage": "deliver", "state": "delivering"}
        self.ledger.leases.finish(claimed[1], value={}, job=row, event="planned", detail={})
        self.made.append(job_id)
        return job_id

    def work(self) -> int:
        """Run the deliver stage of every job that is due, as rescue and workers do; how many there were."""
        due = self.ledger.backlog.not_enqueued(1000, older_than_ms=0)
        for one in due:
            run(self.shop, one.job_id, from_stage(Stage.DELIVER)[0])
        return len(due)

    def next_due(self) -> int | None:
        """When the first job that waits is due."""
        waiting = self.ledger.jobs.page(states=[State.WAITING], limit=1000)
        return min((job.due_at for job in waiting if job.due_at), default=None)

    def job(self, job_id: str) -> Job:
        found = self.ledger.jobs.get(job_id)
        assert found is not None
        return found

    def alerts(self) -> list[Job]:
        return self.ledger.jobs.page(source="postroom")

    def config(self, folder: Path) -> Path:
        """The same endpoints as a file, for the command line."""
        path = folder / "postroom.toml"
        path.write_text(
            "\n".join(
                f'[endpoint.{name}]\nurl = "{endpoint.url}"\nallow_private = true\nsecrets = ["{SECRET}"]'
                for name, endpoint in self.settings.endpoint.items()
            )
        )
        return path

    @staticmethod
    def _delivery(job_id: str, number: int, target: str) -> Delivery:
        mail = "@" in target
        body = b"Subject: x\r\n\r\nhello\r\n" if mail else b'{"job": "%s"}' % job_id.encode()
        return Delivery(
            ordinal=number,
            transport="smtp" if mail else "webhook",
            target=target,
            key=f"<{job_id}.{number}@post.example>" if mail else f"{job_id}-{number}",
            content_type="message/rfc822" if mail else "application/json",
            body=body,
        )
