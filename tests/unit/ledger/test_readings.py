"""What documents were read to: kept while some job has them, and believed only as it was written."""

from __future__ import annotations

import sqlalchemy as sa

from config.engine import RetentionSettings
from config.settings import Settings
from tasks.blobs import Blobs
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.readings import readings
from tasks.ledger.schema import documents, jobs
from tasks.retention import READ_MS, preview, sweep
from tests.conftest import envelope


def test_a_value_is_found_as_it_was_written(ledger: Ledger) -> None:
    """The last one that was put; one that was changed by another hand is none."""
    assert ledger.readings.get("k") is None
    ledger.readings.put("k", "s", b"one")
    ledger.readings.put("k", "s", b"two")
    assert ledger.readings.get("k") == b"two"
    with ledger.database.write() as connection:
        connection.execute(sa.update(readings).values(value=b"three"))
    assert ledger.readings.get("k") is None


def test_texts_go_with_the_last_job_that_has_them(settings: Settings, ledger: Ledger, intake: Intake) -> None:
    """Whoever has the mails removed has their texts removed; a young one waits for its job to be written."""
    job_id = intake.accept(envelope("a"), b"raw").job_id
    document = {"job_id": job_id, "ordinal": 0, "name": "a", "content_type": "text/plain", "size": 1, "sha256": "had"}
    document |= {"status": "read", "reason": "", "text": "t", "pages": 1, "language": "", "parent": ""}
    for key, sha256 in (("1", "had"), ("2", "gone"), ("3", "young")):
        ledger.readings.put(key, sha256, b"text")
    with ledger.database.write() as connection:
        connection.execute(sa.insert(documents).values(document))
        connection.execute(sa.update(readings).where(readings.c.key != "3").values(at=now_ms() - READ_MS - 1))
    blobs, rules = Blobs(settings.blobs_dir), RetentionSettings(done=1)
    assert [step.readings for step in preview(ledger, blobs, rules) if step.readings] == [1]
    assert sum(step.readings for step in sweep(ledger, blobs, rules)) == 1
    assert [ledger.readings.get(key) for key in "123"] == [b"text", None, b"text"]
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).values(state="done", received_at=1, updated_at=1, key_until=None))
    steps = list(sweep(ledger, blobs, rules))
    assert (sum(step.jobs for step in steps), sum(step.readings for step in steps)) == (1, 1)
    assert ledger.readings.get("1") is None
