"""The fetch stage over real sockets: what is repeated, what is refused, and what is never asked for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import pipeline
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Stage, State
from tests.conftest import envelope
from tests.integration.event_parts import House, configured, one_after_another
from tests.integration.readers import samples
from tests.integration.webhook_parts import replies, sink

pytestmark = pytest.mark.usefixtures("sent")


@pytest.fixture
def house(tmp_path: Path, ledger: Ledger, intake: Intake) -> House:
    return House(configured(tmp_path), ledger, intake)


def test_a_file_that_comes_later_is_waited_for_and_fetched_once(house: House) -> None:
    """503, then 200: the schedule repeats the stage, and what was there already is not asked for again."""
    pdf = replies("200 OK", body=samples.pdf())
    with sink(pdf) as good, sink(replies("404 No")) as gone, sink(one_after_another(replies("503 Later"), pdf)) as slow:
        urls = [good.url, gone.url, slow.url, good.url]
        job_id = house.post({"links": [{"url": url} for url in urls]})
        job = house.run(job_id)
        assert (job.state, job.stage, job.attempts) == (State.WAITING, Stage.FETCH, 1)
        assert job.reason == "127.0.0.1: HTTP 503"
        assert house.run(job_id).state is State.DONE
        assert (len(good.seen), len(gone.seen), len(slow.seen)) == (1, 1, 2)
    statuses = [one.status for one in house.documents(job_id)]
    assert statuses == ["read", "read", "unreadable", "read", "read"]


def test_a_file_that_never_comes_fails_the_job(house: House) -> None:
    """After the attempts it is a dead letter that can be retried: nothing is judged without its document unseen."""
    with sink(one_after_another(*[replies("503 Later")] * 8, replies("200 OK", body=b"late but here"))) as server:
        job_id = house.post({"links": [{"url": server.url}]})
        for _ in range(house.shop.settings.worker.max_attempts):
            job = house.run(job_id)
        assert (job.state, job.stage) == (State.FAILED, Stage.FETCH)
        assert job.reason == "127.0.0.1: HTTP 503 (after 8 attempts)"
        assert house.ledger.jobs.retry(job_id, Stage.FETCH, why="test")
        assert house.run(job_id).state is State.DONE
    assert house.documents(job_id)[1].text == "late but here"


def test_a_person_may_ask_again_for_what_was_refused(tmp_path: Path, house: House) -> None:
    """With today's policy; what was fetched stays fetched, unless today's policy refuses it."""
    with (
        sink(replies("200 OK", body=samples.pdf())) as pdf,
        sink(one_after_another(replies("404 No"), replies("200 OK", body=b"here now"))) as late,
    ):
        job_id = house.post({"links": [{"url": pdf.url}, {"url": late.url}]})
        assert house.run(job_id).state is State.DONE
        assert [one.status for one in house.documents(job_id)] == ["read", "read", "unreadable"]
        assert house.ledger.jobs.retry(job_id, Stage.FETCH, why="test")
        assert house.run(job_id).state is State.DONE
        assert [one.status for one in house.documents(job_id)] == ["read", "read", "read"]
        house.use(configured(tmp_path, types=["text/*"]))
        assert house.ledger.jobs.retry(job_id, Stage.FETCH, why="test")
        house.run(job_id)
        assert (len(pdf.seen), len(late.seen)) == (1, 2)
    assert house.documents(job_id)[1].reason == (
        "it was not fetched: 127.0.0.1: it is application/pdf, which is not among the `types` that are taken"
    )


def test_types_are_told_by_the_bytes(tmp_path: Path, ledger: Ledger, intake: Intake) -> None:
    """A program that calls itself a PDF is none."""
    house = House(configured(tmp_path, types=["application/pdf"]), ledger, intake)
    with (
        sink(replies("200 OK", "Content-Type: application/pdf", body=b"MZ\x90\x00" + bytes(80))) as evil,
        sink(replies("200 OK", "Content-Type: image/png", body=samples.pdf())) as good,
    ):
        job_id = house.post({"links": [{"url": evil.url}, {"url": good.url}]})
        house.run(job_id)
    _, first, second = house.documents(job_id)
    assert "which is not among the `types`" in first.reason
    assert (second.status, second.content_type) == ("read", "application/pdf")


def test_files_are_bounded_in_number_and_size(tmp_path: Path, ledger: Ledger, intake: Intake) -> None:
    """One file, all together, and how many."""
    house = House(configured(tmp_path, max_files=3, max_size=1000, max_total=1500), ledger, intake)
    with sink(replies("200 OK", body=b"x" * 900)) as server, sink(replies("200 OK", body=b"x" * 1001)) as large:
        urls = [large.url, f"{server.url}1", f"{server.url}2", f"{server.url}3"]
        job_id = house.post({"links": [{"url": url} for url in urls]})
        assert house.run(job_id).state is State.DONE
        assert len(server.seen) == 2
    assert [one.reason.removeprefix("it was not fetched: ") for one in house.documents(job_id)[1:]] == [
        "127.0.0.1: it is larger than 1000 bytes",
        "",
        "127.0.0.1: it is larger than 600 bytes",
        "the event names more than 3 files",
    ]


def test_an_outage_of_a_named_host_costs_no_attempt(house: House) -> None:
    """The admin vouches for it, so its jobs wait as long as it takes."""
    with sink(replies("200 OK")) as server:
        url = server.url
    job_id = house.post({"links": [{"url": url}]})
    for _ in range(12):
        job = house.run(job_id)
    assert (job.state, job.stage, job.attempts) == (State.WAITING, Stage.FETCH, 0)
    assert job.reason.startswith("127.0.0.1: cannot connect")


def test_events_of_other_routes_fetch_nothing(house: House) -> None:
    """Without [event] in its route an event is its JSON, whatever links stand in it."""
    with sink(replies("200 OK")) as server:
        job_id = house.post({"links": [{"url": server.url}]}, source="webhook:other")
        assert house.run(job_id).route == "rest"
        assert server.connections == 0
    [event] = house.documents(job_id)
    assert server.url in event.text


def test_mails_and_files_begin_with_extract(house: House) -> None:
    """They have nothing to fetch, and a chain that begins with fetch runs through."""
    mail = house.intake.accept(envelope("mail"), b"Subject: hi\r\n\r\nhello\r\n").job_id
    assert house.job(mail).stage is Stage.EXTRACT
    assert house.run(mail).state is State.DONE


def test_a_blob_that_is_gone_is_fetched_again(house: House) -> None:
    """Or said, when it goes between the two stages."""
    with sink(replies("200 OK", body=b"the file's words")) as server:
        job_id = house.post({"links": [{"url": server.url}]})
        assert pipeline.run(house.shop, job_id, pipeline.from_stage(Stage.FETCH)[0])
        [file] = pipeline.fetched_of(house.shop, house.job(job_id)).values()
        house.shop.blobs.path(file.sha256).unlink()
        house.run(job_id)
        assert "gone from the blob store" in house.documents(job_id)[1].reason
        assert house.ledger.jobs.retry(job_id, Stage.FETCH, why="test")
        house.run(job_id)
        assert (house.documents(job_id)[1].text, len(server.seen)) == ("the file's words", 2)
