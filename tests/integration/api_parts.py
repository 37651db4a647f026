"""What the tests of the API share: the web application under uvicorn on the real ledger, and a job's trip by hand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from config.settings import Settings
from daemon.listeners.webhook_protocol import GuardedProtocol
from daemon.web.app import make_app
from tasks.intake import Intake
from tasks.ledger import Lease, Ledger
from tasks.models import Classification, Document, Field, Job, Reply, Stage, State
from tests.integration.webhook_parts import served

PDF = ("scan.pdf", b"%PDF-1.4 one", "application/pdf")
TEXT = ("note.txt", b"Please pay by Friday.", "text/plain")
MAIL = b"From: Ada <ada@sender.example>\r\nTo: us@team.example\r\nSubject: Hello\r\n\r\nPlease call me.\r\n"


@dataclass
class House:
    """A running web process and what stands behind it."""

    url: str
    intake: Intake
    http: httpx.Client
    stop: threading.Event

    @property
    def ledger(self) -> Ledger:
        return self.intake.ledger

    def post(self, path: str = "/jobs", **options: Any) -> httpx.Response:
        return self.http.post(path, **options)

    def job(self, answer: httpx.Response) -> Job:
        found = self.ledger.jobs.get(answer.json()["job"])
        assert found is not None
        return found

    def number(self) -> int:
        return sum(self.ledger.jobs.counts().values())


@contextlib.contextmanager
def running(settings: Settings, webhook: dict[str, Any] | None = None, **web: Any) -> Iterator[House]:
    """The web application under uvicorn, with these options in [web] and these sources of webhooks."""
    sections = {"web": {"max_body": 400_000, **web}, "webhook": webhook or {}}
    given = {"state_dir": settings.state_dir, "ledger_url": settings.ledger_url}
    configured = Settings.model_validate({**given, **sections})
    intake, stop = Intake.open(configured), threading.Event()
    app = make_app(configured, intake, stop=stop)
    with (
        served(app, http=GuardedProtocol, proxy_headers=False) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=20) as http,
    ):
        yield House(url, intake, http, stop)
        stop.set()
    intake.close()


def claim(ledger: Ledger, job_id: str, stage: Stage, running: State) -> Lease:
    claimed = ledger.leases.claim(job_id, stage, running, "tester")
    assert claimed is not None
    return claimed[1]


def finish(ledger: Ledger, job_id: str, stage: Stage, running: State, value: dict[str, Any], **row: Any) -> None:
    """Take a job through one stage, as a worker does."""
    lease = claim(ledger, job_id, stage, running)
    following = list(Stage)[list(Stage).index(stage) + 1 :]
    job = {"stage": following[0].value if following else None, "reason": "", **row}
    ledger.leases.finish(lease, value=value, job=job, event=f"{stage.value} done", detail={})


def take_to_the_end(ledger: Ledger, job_id: str) -> None:
    """The whole trip, with an invoice's number as its result."""
    text = Document(ordinal=0, name="note.txt", content_type="text/plain", size=4, sha256="0" * 64, text="hi")
    job = ledger.jobs.get(job_id)
    if job and job.stage is Stage.FETCH:
        finish(ledger, job_id, Stage.FETCH, State.FETCHING, {"files": []}, state="extracting")
    lease = claim(ledger, job_id, Stage.EXTRACT, State.EXTRACTING)
    row = {"stage": "classify", "state": "classifying", "reason": ""}
    ledger.leases.finish(lease, value={"mail": None}, job=row, event="extract done", detail={}, texts=[text])
    found = Classification(label="invoice", confidence=0.9, fields=(Field(name="number", value="42", supported=True),))
    named = {"state": "replying", "route": "invoices", "label": "invoice"}
    finish(ledger, job_id, Stage.CLASSIFY, State.CLASSIFYING, found.model_dump(), **named)
    reply = Reply(subject="Re: note", text="Thank you.").model_dump(exclude={"deliveries"})
    finish(ledger, job_id, Stage.REPLY, State.REPLYING, reply, state="delivering")
    finish(ledger, job_id, Stage.DELIVER, State.DELIVERING, {"sent": 0}, state="done")


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
