"""The API for people's own programs over real HTTP: uvicorn in a thread, the real intake on SQLite."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from daemon.listeners.webhook_problems import Refused
from daemon.web.upload import read
from tasks.models import Kind, Stage, State
from tasks.payload import Payload
from tasks.readers import read_message
from tests.integration.api_parts import MAIL, PDF, TEXT, House, claim, running, take_to_the_end
from tests.integration.webhook_parts import problem


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    with running(settings) as made:
        yield made


def test_one_file_becomes_a_job(house: House) -> None:
    """202 after the commit, with the job and where it can be looked at; the raw message is the file."""
    answer = house.post(files={"file": PDF}, data={"sender": "ada@sender.example", "source": "scanner"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told == {"job": told["job"], "status": f"{house.url}/jobs/{told['job']}"}
    assert answer.headers["location"] == told["status"]
    job = house.job(answer)
    assert (job.source, job.kind, job.name, job.sender) == ("api:scanner", Kind.FILE, "scan.pdf", "ada@sender.example")
    assert (job.content_type, house.ledger.jobs.raw(job.id)) == ("application/pdf", PDF[1])
    assert house.http.get(answer.headers["location"]).json()["id"] == job.id


@pytest.mark.parametrize(
    ("content_type", "query", "kind", "sender"),
    [
        ("message/rfc822", "", Kind.MAIL, "ada@sender.example"),
        ("message/rfc822", "?sender=other@x.example", Kind.MAIL, "other@x.example"),
        ("application/json; charset=utf-8", "", Kind.EVENT, ""),
        ("application/pdf", "?name=a/b/scan.pdf&source=till-1", Kind.FILE, ""),
        ("application/octet-stream", "?name=letter.eml", Kind.MAIL, "ada@sender.example"),
    ],
)
def test_a_raw_body_is_what_its_type_says(house: House, content_type: str, query: str, kind: Kind, sender: str) -> None:
    """Without a form the body is the file, and options stand in the query."""
    answer = house.post(f"/jobs{query}", content=MAIL, headers={"Content-Type": content_type})
    assert answer.status_code == 202, answer.text
    job = house.job(answer)
    assert (job.kind, job.sender) == (kind, sender)
    assert house.ledger.jobs.raw(job.id) == MAIL
    assert "/" not in job.name


def test_several_files_make_one_job_that_the_readers_take_apart(house: House) -> None:
    """Each file is a document with its own name and bytes; nothing of a binary file is lost on the way."""
    noise = os.urandom(50_000) + b"\r\n--\r\n\n\r\x00"
    files = [("file", TEXT), ("file", ("Übersicht %1.bin", noise, "application/octet-stream")), ("more", PDF)]
    answer = house.post(files=files, data={"sender": "ada@sender.example"})
    assert answer.status_code == 202, answer.text
    job = house.job(answer)
    raw = house.http.get(f"/jobs/{job.id}/raw").content
    read = read_message(raw, kind=job.kind, name=job.name, content_type=job.content_type).documents
    assert [document.name for document in read][1:] == ["note.txt", "Übersicht %1.bin", "scan.pdf"]
    assert read[1].text.strip() == "Please pay by Friday."
    assert read[2].sha256 == hashlib.sha256(noise).hexdigest()
    assert {document.parent for document in read[1:]} == {read[0].name} == {"note.txt and 2 more"}


def test_the_same_upload_again_is_the_same_job(house: House) -> None:
    """Without a key the content is the key, although a form's boundary is another every time."""
    files = [("file", PDF), ("file", TEXT)]
    first, second = (house.post(files=files) for _ in range(2))
    assert second.status_code == 202
    assert second.json() == {**first.json(), "duplicate": True}
    assert house.post(files=files, data={"sender": "b@x.example"}).json()["job"] != first.json()["job"]
    assert house.post(files=list(reversed(files))).json()["job"] != first.json()["job"]


def test_a_key_names_a_request(house: House) -> None:
    """Same key and content: the first receipt. Other content: 422 with the first job. Other source: another job."""
    key = {"Idempotency-Key": '"order-1"'}
    first = house.post(files={"file": PDF}, headers=key)
    again = house.post(files={"file": PDF}, headers={"Idempotency-Key": "order-1"})
    assert (again.status_code, again.json()) == (202, {**first.json(), "duplicate": True})
    told = problem(house.post(files={"file": TEXT}, headers=key), 422, "key-reused")
    assert told["job"] == first.json()["job"]
    assert house.post(files={"file": TEXT}, data={"source": "till"}, headers=key).status_code == 202
    assert house.number() == 2


def test_many_at_once_under_one_key_are_one_job(house: House) -> None:
    """Racing repeats all get the same receipt; exactly one of them is the first."""

    def send(_: int) -> dict[str, Any]:
        answer = httpx.post(
            f"{house.url}/jobs", content=b"x" * 100, headers={"Idempotency-Key": "race"}, trust_env=False, timeout=20
        )
        assert answer.status_code == 202
        content: dict[str, Any] = answer.json()
        return content

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(send, range(32)))
    assert len({one["job"] for one in told}) == 1
    assert sum("duplicate" not in one for one in told) == 1


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"files": {"file": PDF}, "data": {"colour": "red"}}, "bad-option"),
        ({"files": {"file": PDF}, "data": {"sender": "nobody"}}, "bad-option"),
        ({"files": {"file": PDF}, "data": {"sender": "a@b\r\nBcc: c@d"}}, "bad-option"),
        ({"files": {"file": PDF}, "data": {"source": "imap:support"}}, "bad-option"),
        ({"files": {"file": PDF}, "data": {"source": "till"}, "params": {"source": "imap:support"}}, "bad-option"),
        ({"files": {"file": PDF}, "data": {"sender": "x" * 3000}}, "bad-option"),
        ({"files": {"file": ("a.txt", b"", "text/plain")}}, "empty-file"),
        ({"content": b""}, "no-file"),
        ({"files": [("file", (f"{n}.txt", b"x", "text/plain")) for n in range(101)]}, "too-many-files"),
        ({"files": {"file": PDF}, "headers": {"Idempotency-Key": ""}}, "no-key"),
        ({"files": {"file": PDF}, "headers": {"Idempotency-Key": "k" * 256}}, "no-key"),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data"}}, "bad-form"),
        ({"content": b"nonsense", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "bad-form"),
    ],
)
def test_what_is_wrong_is_told(house: House, request_: dict[str, Any], kind: str) -> None:
    """400 with what was wrong; nothing is stored."""
    problem(house.post(**request_), 400, kind)
    assert house.number() == 0


def test_a_form_that_breaks_off_is_refused(house: House) -> None:
    """A file that did not arrive whole is never taken for whole, nor left out in silence."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
    whole = part % (b"a.txt", b"one") + part % (b"b.txt", b"two")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for body in (whole, whole[:-10], whole + b"--b"):
        problem(house.post(content=body, headers=headers), 400, "bad-form")
    assert house.post(content=whole + b"--b--\r\n", headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (
            b"".join(b'--b\r\nContent-Disposition: form-data; name="sender"\r\n\r\n\r\n' for _ in range(121)),
            "too-many-files",
        ),
        (b"--b\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(21)) + b"\r\n", "bad-form"),
        (b"--b\r\nX-Long: " + b"y" * 9_000 + b"\r\n\r\n", "bad-form"),
        (b'--b\r\nContent-Disposition: form-data; name="sender"\r\n\r\n' + b"y" * 2_001 + b"\r\n", "bad-option"),
    ],
)
def test_a_form_is_bounded_in_every_direction(house: House, form: bytes, kind: str) -> None:
    """Parts, headers of a part and the size of a field: none can be made to fill memory."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(house.post(content=form + b"--b--\r\n", headers=headers), 400, kind)


_PIECES = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--",
            b"\r\n",
            b"\n",
            b'Content-Disposition: form-data; name="file"',
            b'; filename="',
            b'"',
            b":",
            b"x",
        ]
    )
    | st.binary(max_size=20),
    max_size=40,
)


@given(_PIECES, st.sampled_from(["multipart/form-data; boundary=b", 'multipart/form-data; boundary="', "text/plain"]))
def test_whatever_comes_is_an_upload_or_a_refusal(pieces: list[bytes], content_type: str) -> None:
    """Broken forms end in a problem, never in an error of ours."""
    with contextlib.suppress(Refused):
        upload = read(content_type, {}, b"".join(pieces)).checked()
        envelope, raw = upload.envelope("")
        assert raw
        assert envelope.key.startswith("sha256:")


def test_a_body_is_counted_as_it_comes(house: House) -> None:
    """Too large is 413, with a length or without one."""
    problem(house.post(files={"file": ("a.bin", b"x" * 500_000, "text/plain")}), 413, "too-large")
    problem(house.post(content=(b"x" * 50_000 for _ in range(10))), 413, "too-large")
    assert house.number() == 0


def test_each_file_of_a_batch_is_a_job(house: House) -> None:
    """One answer with every receipt; a repeat under the same key is recognised file by file."""
    files, key = [("file", PDF), ("file", TEXT)], {"Idempotency-Key": "batch-1"}
    first = house.post("/jobs/batch", files=files, headers=key)
    assert first.status_code == 202, first.text
    items = first.json()["jobs"]
    assert [(item["name"], item["code"]) for item in items] == [("scan.pdf", 202), ("note.txt", 202)]
    assert house.http.get(items[1]["status"]).json()["raw_size"] == len(TEXT[1])
    changed = house.post("/jobs/batch", files=[("file", PDF), ("file", MAIL)], headers=key)
    assert changed.status_code == 207
    same, other = changed.json()["jobs"]
    assert same == {**items[0], "duplicate": True}
    assert (other["code"], other["problem"]["type"]) == (422, "urn:postroom:problem:key-reused")
    assert house.number() == 2


def test_a_caller_may_wait_for_the_result(house: House) -> None:
    """`Prefer: wait=N` answers with the payload when it is ready in time, and 202 when not (RFC 7240)."""
    late = house.post(content=b"late", headers={"Prefer": "wait=1"})
    assert (late.status_code, late.headers["preference-applied"]) == (202, "wait=1")
    job_id = late.json()["job"]
    timer = threading.Timer(0.3, take_to_the_end, (house.ledger, job_id))
    timer.start()
    answer = house.post(content=b"late", headers={"Prefer": "respond-async, wait=15"})
    timer.join()
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["fields"]["number"]["value"] == "42"


def test_the_result_is_there_at_the_end(house: House) -> None:
    """409 with the state while the job is under way; then the payload that webhooks carry."""
    job_id = house.post(content=b"note").json()["job"]
    told = problem(house.http.get(f"/jobs/{job_id}/result"), 409, "not-ended")
    assert told["state"] == "received"
    take_to_the_end(house.ledger, job_id)
    answer = house.http.get(f"/jobs/{job_id}/result")
    payload = Payload.model_validate(answer.json())
    assert (payload.data.job.id, payload.data.label, payload.data.reply.text) == (job_id, "invoice", "Thank you.")
    assert payload.data.fields["number"].value == "42"


def test_a_job_that_ended_without_a_result_says_so(house: House) -> None:
    """404 with state and reason, so that nobody asks for ever; a stranger's id is 404 of another kind."""
    job_id = house.post(content=b"note").json()["job"]
    lease = claim(house.ledger, job_id, Stage.EXTRACT, State.EXTRACTING)
    house.ledger.leases.stop(lease, job={"state": "failed", "reason": "because"}, event="failed", detail={})
    told = problem(house.http.get(f"/jobs/{job_id}/result"), 404, "no-result")
    assert (told["state"], told["reason"]) == ("failed", "because")
    for path in ("", "/result", "/raw", "/events"):
        for unknown in ("0" * 26, "%00", "x" * 300, "..%2f"):
            assert house.http.get(f"/jobs/{unknown}{path}").status_code == 404
    problem(house.http.get(f"/jobs/{'0' * 26}"), 404, "no-job")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "state=gone", "search=%00", "before=" + "x" * 30])
def test_wrong_parameters_are_problems(house: House, query: str) -> None:
    """422 as problem details, like every other error."""
    problem(house.http.get(f"/jobs?{query}"), 422, "bad-parameter")


def test_unknown_paths_and_methods_are_problems(house: House) -> None:
    """What the framework refuses looks like what we refuse."""
    problem(house.http.get("/nowhere"), 404, "not-found")
    for path, methods in (("/jobs", "GET, POST"), ("/jobs/batch", "POST"), (f"/jobs/{'0' * 26}/raw", "GET")):
        answer = house.http.delete(path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == methods
