"""What senders write and databases refuse: it is kept as near as can be, and never stops a job."""

from __future__ import annotations

import pytest

from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Delivery, Document, Outcome, Stage, State
from tasks.texts import INDEXED_BYTES, clean, dump_json, indexable
from tests.conftest import envelope

NASTY = "a\0b\ud800c\udcffd\U0001f600 \\u0000 é"
KEPT = "a�b�c�d\U0001f600 \\u0000 é"


def test_text_is_cleaned() -> None:
    """NUL and half characters become U+FFFD; everything else stays, a backslash and u0000 written out too."""
    assert clean(NASTY) == KEPT
    assert clean("plain") == "plain"


def test_json_is_cleaned_in_keys_and_values() -> None:
    """However deep, and only where it has to be."""
    assert dump_json({"k\0": [NASTY, {"x": (1, None, NASTY)}]}) == dump_json({"k�": [KEPT, {"x": [1, None, KEPT]}]})


def test_long_names_are_told_apart_and_found_again() -> None:
    """What does not fit an index is its start and its hash: bounded, equal for equals, different for different ones."""
    long, other = "é" * 5000, "é" * 4999 + "e"
    assert indexable(long) == indexable(long)
    assert indexable(long) != indexable(other)
    assert len(indexable(long).encode()) <= INDEXED_BYTES
    assert indexable("x" * INDEXED_BYTES) == "x" * INDEXED_BYTES


def test_an_envelope_full_of_them_is_one_job(intake: Intake, ledger: Ledger) -> None:
    """It is accepted, a repeat is recognised, and what was cleaned can be read back."""
    nasty = envelope(
        NASTY + "k" * 5000, sender=NASTY, recipients=(NASTY,), name=NASTY, headers={"x": NASTY}, content_type=NASTY
    )
    receipt = intake.accept(nasty, b"\0raw\xff")
    again = intake.accept(nasty, b"\0raw\xff")
    assert (again.job_id, again.duplicate, again.conflict) == (receipt.job_id, True, False)
    job = ledger.jobs.get(receipt.job_id)
    assert job is not None
    assert (job.sender, job.recipients, job.name, job.headers) == (KEPT, (KEPT,), KEPT, {"x": KEPT})
    assert ledger.jobs.raw(job.id) == b"\0raw\xff"


def test_stages_may_write_what_they_read(intake: Intake, ledger: Ledger) -> None:
    """Subject, text, values, reasons and answers with them are written, and the job moves on."""
    job_id = intake.accept(envelope(), b"x").job_id
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
    assert claimed
    text = Document(ordinal=0, name=NASTY, content_type="text/plain", size=2**40, sha256="0" * 64, text=NASTY, pages=3)
    long_id = f"<{'é' * 4000}@x>"
    row = {"stage": "deliver", "state": "delivering", "subject": NASTY, "message_id": long_id}
    ledger.leases.finish(
        claimed[1], value={"a": [NASTY]}, job=row, event="extract done", detail={"d": NASTY}, texts=[text]
    )
    assert ledger.jobs.documents(job_id)[0].text == KEPT
    assert ledger.jobs.documents(job_id)[0].size == 2**40
    assert ledger.jobs.result(job_id, Stage.EXTRACT) == {"a": [KEPT]}
    assert ledger.jobs.find(long_id).id == job_id
    claimed = ledger.leases.claim(job_id, Stage.DELIVER, State.DELIVERING, "w")
    assert claimed
    ledger.deliveries.plan(
        claimed[1],
        [Delivery(ordinal=0, transport="smtp", target="x@y.example", key="k", body=b"\0", headers={"h": NASTY})],
    )
    attempt = ledger.deliveries.begin(claimed[1], 0, 1)
    ledger.deliveries.sent(claimed[1], 0, attempt, 1, Outcome(detail=NASTY, response=NASTY * 1000, code=250))
    ledger.leases.stop(claimed[1], job={"state": "failed", "reason": NASTY}, event="failed", detail={"reason": NASTY})
    [tried] = ledger.deliveries.attempts_of(job_id)
    assert tried.detail == KEPT
    assert [event.detail.get("reason") for event in ledger.jobs.events(job_id)][-1] == KEPT


@pytest.mark.parametrize("text", ["\0" * 26, "\ud800" * 26, "\\", "abc\\", "100%_\\'\"", "x" * 5000, "[", "%%%%"])
def test_any_question_has_an_answer(intake: Intake, ledger: Ledger, text: str) -> None:
    """Asking for what cannot be there finds nothing and breaks nothing; wildcards and escapes are plain characters."""
    intake.accept(envelope(), b"x")
    with pytest.raises(Exception, match="no job"):
        ledger.jobs.find(text)
    assert ledger.jobs.get(text) is None
    assert ledger.jobs.page(search=text) == []
    assert ledger.jobs.page(source=text, label=text) == []
