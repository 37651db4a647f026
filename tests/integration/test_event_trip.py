"""Events through all stages: taken apart by a route, read in the sandbox, judged and delivered.

Only the judge is a stand-in: it answers what a model would, and looks for the evidence as the real one does.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Delivery, Stage, State
from tests.integration.event_parts import ROUTE, House, b64, configured
from tests.integration.readers import samples
from tests.integration.webhook_parts import replies, sink

pytestmark = pytest.mark.usefixtures("sent")


@pytest.fixture
def house(tmp_path: Path, ledger: Ledger, intake: Intake) -> House:
    return House(configured(tmp_path), ledger, intake)


def test_an_event_goes_all_the_way(house: House, sent: list[Delivery]) -> None:
    """Base64, a fetched PDF and a text are documents; a field's evidence stands in the fetched one."""
    archive = samples.zipped({"inner/terms.txt": b"Pay within 14 days."})
    with sink(replies("200 OK", "Content-Type: binary/x", body=samples.pdf())) as server:
        event = {
            "title": "Bill 7",
            "files": [{"name": "terms.zip", "data": b64(archive)}],
            "links": [{"name": "invoice.pdf", "url": f"{server.url}?sig=s3cr3t"}],
            "note": "Back door, please.",
        }
        job_id = house.post(event)
        assert house.job(job_id).stage is Stage.FETCH
        job = house.run(job_id)
    assert (job.state, job.route, job.subject, job.reason) == (
        State.DONE,
        "shop",
        "Bill 7",
        "the route sends no reply to the sender",
    )
    documents = house.documents(job_id)
    assert [(one.ordinal, one.name, one.status, one.parent) for one in documents] == [
        (0, "event", "read", ""),
        (1, "terms.zip", "read", ""),
        (2, "terms.txt", "read", "terms.zip"),
        (3, "invoice.pdf", "read", ""),
        (4, "attachment-3.txt", "read", ""),
    ]
    assert documents[3].content_type == "application/pdf"
    assert documents[4].text == "Back door, please."
    assert f"[file terms.zip, {len(archive)} bytes]" in documents[0].text
    assert b64(archive)[:20] not in documents[0].text
    assert "s3cr3t" not in documents[0].text
    assert (documents[0].content_type, documents[0].size, documents[0].sha256) == (
        "application/json",
        job.raw_size,
        job.raw_sha256,
    )
    told = json.loads(sent[0].body)["data"]
    assert told["fields"]["total"] == {
        "value": "1234.56",
        "quote": "Grand total: 1.234,56 EUR",
        "document": 3,
        "page": 1,
        "line": 3,
    }
    assert [event.event for event in house.ledger.jobs.events(job_id)] == [
        "accepted",
        "fetch done",
        "extract done",
        "classify done",
        "reply done",
        "deliver done",
    ]


def test_a_template_writes_the_text(tmp_path: Path, ledger: Ledger, intake: Intake) -> None:
    """It sees short remarks instead of long base64, and all else as it came."""
    template = "Bill {{ event.no }}: {{ event.total }}\n{{ event.files[0].data }}"
    house = House(
        configured(tmp_path, ROUTE.replace("[event]", '[event]\ntemplate = "shop"'), template), ledger, intake
    )
    job_id = house.post(
        b'{"no": "7", "total": 120.00, "files": [{"name": "a.txt", "data": "%s"}]}' % b64(b"long " * 40).encode()
    )
    house.run(job_id)
    event, file = house.documents(job_id)
    assert event.text == "Bill 7: 120.00\n[file a.txt, 200 bytes]"
    assert file.text.startswith("long long")


def test_a_missing_member_fails_the_job_by_name(tmp_path: Path, ledger: Ledger, intake: Intake) -> None:
    """A person mends template or sender; then the job runs on from where it stopped."""
    settings = configured(tmp_path, ROUTE.replace("[event]", '[event]\ntemplate = "shop"'), "{{ event.total }}")
    house = House(settings, ledger, intake)
    job = house.run(house.post({"no": "7"}))
    assert (job.state, job.stage) == (State.FAILED, Stage.EXTRACT)
    assert job.reason.startswith("templates/event/shop.txt.j2:1: the event has no member 'total'")
    (tmp_path / "templates" / "event" / "shop.txt.j2").write_text("{{ event.no }}")
    assert house.ledger.jobs.retry(job.id, Stage.EXTRACT, why="test")
    assert house.run(job.id).state is State.DONE


def test_one_bad_file_leaves_the_others(house: House) -> None:
    """Wrong base64, a wrong type and a refused URL are unreadable with their reasons; the job goes on."""
    with sink(replies("404 No")) as server:
        job_id = house.post(
            {
                "files": [{"name": "a.pdf", "data": "%%%"}, {"name": "b.pdf", "data": 7}, {"data": b64(b"fine")}, {}],
                "links": [
                    {"name": "c", "url": server.url},
                    {"url": "http://10.0.0.1/d.pdf?k=1"},
                    {"url": None},
                    {"url": 5},
                ],
                "note": {"a": 1.50},
            }
        )
        assert house.run(job_id).state is State.DONE
    assert [(one.name, one.status, one.reason or one.text) for one in house.documents(job_id)[1:]] == [
        ("a.pdf", "unreadable", "it is not base64"),
        ("b.pdf", "unreadable", "the event has no text in its place, so no base64"),
        ("attachment-3", "read", "fine"),
        ("c", "unreadable", "it was not fetched: 127.0.0.1: HTTP 404"),
        (
            "d.pdf",
            "unreadable",
            "it was not fetched: 10.0.0.1: the host is not among the `hosts` that may be fetched from",
        ),
        ("attachment-6", "unreadable", "the event has no URL in its place"),
        ("attachment-7.txt", "read", '{\n  "a": 1.5\n}'),
    ]


def test_a_hundred_documents_and_a_word_on_the_others(house: House) -> None:
    """Bounded, and not in silence."""
    job_id = house.post({"files": [{"data": "aGk="}] * 150})
    assert house.run(job_id).state is State.DONE
    documents = house.documents(job_id)
    assert len(documents) == 102
    assert (documents[-1].status, documents[-1].reason) == (
        "skipped",
        "the event holds more than 100 documents; the others were left out",
    )


def test_a_form_is_taken_apart_like_json(house: House) -> None:
    """Its fields are the event's members; a body that is neither is read as it is."""
    job_id = house.post(b"title=Bill+7&note=hello+there", "application/x-www-form-urlencoded")
    assert house.run(job_id).subject == "Bill 7"
    assert [one.name for one in house.documents(job_id)] == ["event", "attachment-1.txt"]
    assert house.documents(job_id)[0].content_type == "application/x-www-form-urlencoded"
    job_id = house.post(samples.pdf(), "application/pdf")
    assert house.run(job_id).state is State.DONE
    [document] = house.documents(job_id)
    assert "Grand total" in document.text


def test_the_route_that_took_it_apart_keeps_it(tmp_path: Path, ledger: Ledger, intake: Intake) -> None:
    """A fetched PDF does not hand the event over to a route for PDFs, nor its subject to one for subjects."""
    settings = configured(tmp_path)
    (settings.routes_dir / "05-pdf.toml").write_text('[match]\nfile_type = "application/pdf"\n')
    (settings.routes_dir / "06-bills.toml").write_text('[match]\nsubject = "Bill"\n')
    house = House(settings, ledger, intake)
    job_id = house.post({"title": "Bill 7", "files": [{"data": b64(samples.pdf())}]})
    assert (house.run(job_id).route, house.job(job_id).subject) == ("shop", "Bill 7")
    assert house.run(house.post(samples.pdf(), "application/pdf")).route == "pdf"
