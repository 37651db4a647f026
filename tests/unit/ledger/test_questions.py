"""What reviewers were asked by mail, on both databases."""

from __future__ import annotations

from tasks.clock import now_ms
from tasks.ids import new_job_id
from tasks.intake import Intake
from tasks.ledger import Ledger, Notice
from tasks.ledger.questions import NOTED, asked_key
from tasks.models import Delivery, Stage
from tests.unit.ledger.test_lists import judged

MAIL = Delivery(ordinal=0, transport="smtp", target="lead@team.example", key="k", body=b"x")


def add(ledger: Ledger, key: str, about: str) -> bool:
    notice = Notice(new_job_id(), key, "s", "t", (MAIL,), now_ms(), about=about, event="reviewers asked by mail")
    return ledger.notices.add(notice)


def test_a_job_is_asked_about_once_for_each_state_of_it(intake: Intake, ledger: Ledger) -> None:
    """Oldest first; asked, it is asked about no more until it was judged anew; what is done is not asked about."""
    first, second = (judged(intake, key, "x", state="review") for key in ("a", "b"))
    judged(intake, "c", "x")
    assert [job.id for job in ledger.questions.unasked(10)] == [first, second]
    [job, _] = ledger.questions.unasked(10)
    assert add(ledger, asked_key(job.id, job.lease_token), first)
    assert not add(ledger, asked_key(job.id, job.lease_token), first)
    assert [one.id for one in ledger.questions.unasked(10)] == [second]
    assert [event.event for event in ledger.jobs.events(first)].count("reviewers asked by mail") == 1
    ledger.jobs.retry(first, Stage.CLASSIFY, why="again")
    with ledger.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'review'")
    assert first in [one.id for one in ledger.questions.unasked(10)]


def test_questions_are_counted_and_are_no_alerts(intake: Intake, ledger: Ledger) -> None:
    """Not for the most alerts in an hour, nor in the digest."""
    job_id, before = judged(intake, "a", "x", state="review"), now_ms() - 1000
    add(ledger, asked_key(job_id, 2), job_id)
    add(ledger, f"{NOTED}{job_id}:2:who:1", job_id)
    add(ledger, f"{NOTED}{job_id}:2:who:2", job_id)
    add(ledger, "disk-full", "")
    assert ledger.questions.asked_since(before) == 1
    assert ledger.questions.noted(f"{job_id}:2:who:") == 2
    assert ledger.questions.noted(f"{job_id}:3:who:") == 0
    assert ledger.notices.told_since(before) == 1
    assert [one.subject for one in ledger.digests.day(before, now_ms() + 1000, 9, "digest:").alerts] == ["s"]
