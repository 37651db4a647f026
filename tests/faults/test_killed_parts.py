"""Workers killed in each stage, the broker killed and flushed: each message ends once.

Everything is real: `postroom up` with the embedded broker and model, SMTP in and out, kill -9.
"""

from __future__ import annotations

import io
import os
import signal
import smtplib
import time
from collections.abc import Iterator

import httpx
import pytest
import redis
from PIL import Image, ImageDraw

from tasks.models import Job
from tests.faults.parts import FULL, full
from tests.faults.town import Town

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

COMPLAINT = (
    "Hello,\n\nthe lamp that I ordered from you arrived broken and nobody answers my calls. "
    "I am very disappointed and want my money back.\n\nAda Miller\n"
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One Postroom for all tests of this file."""
    made = Town(tmp_path_factory.mktemp("town"))
    made.start()
    yield made
    status = made.stop()
    assert status == 0, made.tail()


def scan() -> bytes:
    """A page of text as a picture: reading it takes long enough to be killed in the middle."""
    picture = Image.new("L", (1700, 2200), 255)
    draw = ImageDraw.Draw(picture)
    for line in range(6):
        words = "The lamp came broken and nobody has answered my calls since. " * 2
        draw.text((100, 80 + line * 300), words, fill=0, font_size=22)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def running(town: Town, state: str) -> Job | None:
    job = town.newest()
    return job if job and job.state.value == state and job.lease_owner else None


@pytest.mark.parametrize(
    "state",
    [
        "extracting",
        pytest.param("classifying", marks=[full, pytest.mark.fault(number=6)]),
        pytest.param("replying", marks=full),
        pytest.param("delivering", marks=pytest.mark.fault(number=8)),
    ],
)
def test_a_worker_killed_in_a_stage_loses_nothing(town: Town, state: str) -> None:
    """kill -9 in mid-stage: the stage runs again, the job ends once, a repeat carries the same Message-ID."""
    town.sink.in_data.clear()
    town.sink.delay = 3 if state == "delivering" else 0
    message_id = town.mail(hash(state) % 1000, COMPLAINT, scan() if state == "extracting" else None)
    job = town.until(lambda: running(town, state), 120, f"a worker in {state}")
    if state == "delivering":
        town.until(town.sink.in_data.is_set, 30, "the reply reaching the sink")
    os.kill(int(job.lease_owner.split(":")[-2]), signal.SIGKILL)
    town.until(lambda: town.ended(message_id), 120, "the job's end")
    told = town.ledger.jobs.get(job.id)
    assert told is not None
    assert told.state.value == "done", told.reason
    events = [event.event for event in town.ledger.jobs.events(job.id)]
    assert "lease taken back" in events
    assert events.count("deliver done") == 1
    replies = town.sink.replies_to(message_id)
    assert len(set(replies)) == 1
    assert len(replies) == (2 if state == "delivering" else 1)
    if state == "delivering":
        outcomes = [attempt.outcome for attempt in town.ledger.deliveries.attempts_of(job.id)]
        assert outcomes == ["in-doubt", "sent"]


def broker(town: Town) -> redis.Redis:
    return redis.Redis.from_url(town.addresses["broker"])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("killed", marks=pytest.mark.fault(number=9)),
        pytest.param("flushed", marks=[full, pytest.mark.fault(number=10)]),
    ],
)
def test_a_broker_that_forgets_everything_loses_nothing(town: Town, fault: str) -> None:
    """With mails on their way the broker is killed or flushed: every mail is answered, once."""
    town.sink.delay = 0
    sent = [town.mail(number, COMPLAINT) for number in range(2 if FULL else 1)]
    town.until(lambda: running(town, "classifying") or any(map(town.ended, sent)), 120, "work under way")
    client = broker(town)
    if fault == "killed":
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
    else:
        client.flushall()
    client.close()
    sent += [town.mail(number, COMPLAINT) for number in range(2, 3)]  # accepted while the broker is gone
    town.until(lambda: all(map(town.ended, sent)), 240, "the end of all jobs")
    for message_id in sent:
        assert len(town.sink.replies_to(message_id)) == 1


@full  # tests/e2e/test_demo.py has one that is sent twice, among its other inputs
def test_a_mail_sent_twice_is_answered_once(town: Town) -> None:
    """The second copy gets the first one's job, and nobody hears from us twice."""
    before = sum(town.ledger.jobs.counts().values())
    host, _, port = town.addresses["smtp"].rpartition(":")
    raw = (
        b"From: eve@sender.example\r\nTo: in@post.example\r\nSubject: Broken\r\n"
        b"Message-ID: <twice@sender.example>\r\n\r\n" + COMPLAINT.encode().replace(b"\n", b"\r\n")
    )
    for _ in range(2):
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.sendmail("eve@sender.example", ["in@post.example"], raw)
    town.until(lambda: town.ended("<twice@sender.example>"), 120, "the end")
    time.sleep(2)
    assert sum(town.ledger.jobs.counts().values()) == before + 1
    assert len(town.sink.replies_to("<twice@sender.example>")) == 1


def test_the_whole_story_can_be_seen(town: Town) -> None:
    """Every job has its events, and the web API tells the same as the ledger."""
    listed = httpx.get(f"{town.addresses['web']}/jobs", trust_env=False).json()
    assert listed["counts"] == town.ledger.jobs.counts()
    told = httpx.get(f"{town.addresses['web']}/jobs/{listed['jobs'][0]['id']}", trust_env=False).json()
    assert told["events"][0]["event"] == "accepted"
    assert told["deliveries"][0]["tries"][-1]["outcome"] == "sent"
