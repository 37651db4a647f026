"""One of several hosts on one ledger, as a process: `python -m tests.integration.host SETTINGS.json FIRST LAST`.

It accepts mails FIRST to LAST, and runs a rescue and a worker on every queue until SIGTERM. All that moves and writes is
real: intake, ledger, broker, nudger, rescue, Celery, leases. What the stages think out is a stand-in's, at no cost.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from config.settings import Settings
from daemon import rescue
from daemon.process import open_intake
from tasks import log, pipeline, sending, worker, workshop
from tasks.app import QUEUES
from tasks.models import Classification, Delivery, Document, Extracted, Job, MailFacts, Outcome, Reply
from tests.conftest import envelope
from tests.unit.test_pipeline import ROUTE, StandIn


def _accept(settings: Settings, numbers: range) -> None:
    with open_intake(settings) as intake:
        for number in numbers:
            intake.accept(envelope(f"m{number}"), b"Subject: Bill\r\n\r\nPay.")


def _extract(job: Job, _raw: bytes, _tools: object) -> Extracted:
    text = Document(ordinal=0, name="body", content_type="text/plain", size=4, sha256=job.raw_sha256, text="Pay.")
    return Extracted(mail=MailFacts(subject="Bill"), documents=(text,))


def _classify(*_: object) -> Classification:
    return Classification(label="invoice", confidence=0.9)


def _reply(job: Job, *_: object) -> Reply:
    delivery = Delivery(ordinal=0, transport="smtp", target="a@x.example", key=f"<{job.id}@x.example>", body=b"thanks")
    return Reply(text="thanks", deliveries=(delivery,))


def _deliver(_delivery: Delivery, _settings: Settings) -> Outcome:
    return Outcome(detail="250 ok", code=250)


def main(settings: Settings, numbers: range) -> int:
    """Run until SIGTERM; the exit status."""
    log.configure(settings, "host")
    workshop.judge_of = lambda _settings: StandIn()  # type: ignore[assignment,return-value]
    workshop.routes_of = lambda _settings: (ROUTE,)
    pipeline.extract, pipeline.classify, pipeline.reply = _extract, _classify, _reply  # type: ignore[assignment]
    sending.deliver = _deliver
    stop = threading.Event()
    threading.Thread(target=rescue.run, args=(settings, stop, lambda _: None), daemon=True).start()
    threading.Thread(target=_accept, args=(settings, numbers), daemon=True).start()
    return worker.run_worker(settings, QUEUES, 4, lambda: None)


if __name__ == "__main__":
    made = Settings.model_validate_json(Path(sys.argv[1]).read_text("utf-8"))
    raise SystemExit(main(made, range(int(sys.argv[2]), int(sys.argv[3]))))
