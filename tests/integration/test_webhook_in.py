"""Webhooks in over real HTTP: what becomes a job, what is a repeat, and what the sender is told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from config.settings import Settings
from daemon.listeners import webhook
from tasks.ledger import engine
from tasks.ledger.schema import jobs
from tasks.models import Kind
from tests.integration.webhook_in_parts import LIMIT, House, listening
from tests.integration.webhook_parts import problem, served


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    with listening(settings) as made:
        yield made


@pytest.mark.parametrize("source", ["shop", "code", "chat", "pay", "till", "lab", "push", "user", "sealed", "open"])
def test_a_request_signed_by_its_scheme_becomes_a_job(house: House, source: str) -> None:
    """202 names the job; its raw bytes, source and content type are in the ledger by then."""
    body = b'{"id": "evt_1", "event_id": "Ev1",\r\n "text": "\xc3\xa4"}  '
    answer = house.post(source, body, content_type="application/json; charset=utf-8")
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["status"] == f"{house.url}/jobs/{told['job']}" == answer.headers["location"]
    job = house.intake.ledger.jobs.get(told["job"])
    assert job is not None
    assert (job.source, job.kind, job.content_type) == (
        f"webhook:{source}",
        Kind.EVENT,
        "application/json; charset=utf-8",
    )
    assert house.raw(job.id) == body


def test_a_key_is_kept_for_thirty_days(house: House) -> None:
    """That is what `keep_days` is when nobody says anything."""
    job_id = house.post("shop", b"{}", "m1").json()["job"]
    with house.intake.ledger.database.read() as connection:
        until, at = connection.execute(sa.select(jobs.c.key_until, jobs.c.received_at).where(jobs.c.id == job_id)).one()
    assert until - at == 30 * 86_400_000


def test_a_bug_of_ours_is_a_problem_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 with problem details: the sender tries again, and reads nothing of ours."""

    async def broken(*_: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(house.door, "accept_async", broken)
    answer = house.post("shop", b"{}", "m1")
    assert "secret" not in problem(answer, 500, "internal")["detail"]


@pytest.mark.parametrize(
    ("source", "key"), [("shop", "m1"), ("code", "d1"), ("pay", "evt_7"), ("chat", "Ev7"), ("till", "w1")]
)
def test_the_schemes_own_key_recognises_a_repeat(house: House, source: str, key: str) -> None:
    """The same event sent again, signed anew, gets the first one's receipt and makes no second job."""
    body = json.dumps({"id": key, "event_id": key}).encode()
    first, second = (house.post(source, body, key) for _ in range(2))
    assert second.status_code == 202
    assert second.json() == {**first.json(), "duplicate": True}
    assert house.jobs() == 1


@pytest.mark.fault(number=21)
def test_the_same_key_with_another_body_is_a_conflict(house: House) -> None:
    """422 tells which job has the key; nothing is stored (fault 21)."""
    first = house.post("shop", b'{"total": 1}', "m1").json()
    told = problem(house.post("shop", b'{"total": 2}', "m1"), 422, "key-reused")
    assert told["job"] == first["job"]
    assert house.jobs() == 1
    assert house.raw(first["job"]) == b'{"total": 1}'


def test_one_key_at_two_sources_is_two_events(house: House) -> None:
    """Keys belong to their sender."""
    assert house.post("shop", b"{}", "m1").json()["job"] != house.post("code", b"{}", "m1").json()["job"]


def test_an_idempotency_key_is_honoured_where_the_scheme_has_none(house: House) -> None:
    """Quoted as the draft wants it or plain, it is the same key; without one the body's hash serves."""
    plain = house.post("push", b"a", idempotency_key="k-1").json()
    quoted = house.post("push", b"a", idempotency_key='"k-1"').json()
    assert quoted == {**plain, "duplicate": True}
    by_body = [house.post("push", b"b").json() for _ in range(2)]
    assert by_body[1] == {**by_body[0], "duplicate": True}


def test_a_missing_key_is_told(house: House) -> None:
    """400 where the source requires a key and there is none."""
    assert "header:x-event" in problem(house.post("keyed"), 400, "no-key")["detail"]
    body = b'{"no": "id"}'
    problem(house.post("pay", body), 400, "no-key")
    assert house.jobs() == 0


@pytest.mark.fault(number=20)
def test_a_hundred_concurrent_requests_with_one_id_make_one_job(house: House) -> None:
    """All get the same job's id; exactly one of them is the first (fault 20)."""
    body = b'{"order": 1}'
    headers = house.signed("shop", body, "msg_once")

    async def storm() -> list[httpx.Response]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=100)) as client:
            url = f"{house.url}/hooks/shop"
            return await asyncio.gather(*(client.post(url, content=body, headers=headers) for _ in range(100)))

    answers = asyncio.run(storm())
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job"] for answer in answers}) == 1
    assert sum("duplicate" not in answer.json() for answer in answers) == 1
    assert house.jobs() == 1


def test_what_was_answered_202_survives_a_kill(house: House) -> None:
    """The row is committed before the answer: another connection sees it at once (fault 2)."""
    job_id = house.post("shop").json()["job"]
    with sqlite3.connect(house.settings.state_dir / "ledger.db") as other:
        assert other.execute("select count(*) from jobs where id = ?", (job_id,)).fetchone() == (1,)


def test_bodies_are_stored_as_they_came(house: House) -> None:
    """Form, multipart with a file, binary and empty bodies are kept byte by byte, with their content type."""
    form = httpx.Request("POST", house.url, data={"a": "1", "b": "ä"})
    files = httpx.Request("POST", house.url, files={"scan": ("scan.pdf", bytes(range(256)) * 400, "application/pdf")})
    for request in (form, files):
        body = request.read()
        answer = house.post("shop", body, content_type=request.headers["content-type"])
        job = house.intake.ledger.jobs.get(answer.json()["job"])
        assert job is not None
        assert job.content_type == request.headers["content-type"]
        assert job.raw_size == len(body)
    empty = house.post("shop", b"")
    assert empty.status_code == 202
    job = house.intake.ledger.jobs.get(empty.json()["job"])
    assert job is not None
    assert (job.raw_size, job.content_type) == (0, "application/octet-stream")


def test_headers_that_routes_need_are_kept_and_secrets_are_not(house: House) -> None:
    """The kind of event goes with the envelope; signatures and credentials do not."""
    answer = house.post("code", b"{}", x_github_event="issues", cookie="secret", authorization="Bearer secret")
    job = house.intake.ledger.jobs.get(answer.json()["job"])
    assert job is not None
    assert job.headers["x-github-event"] == "issues"
    assert not {"cookie", "authorization", "x-hub-signature-256"} & set(job.headers)


def test_unknown_sources_and_other_methods_are_told(house: House) -> None:
    """404 and 405 are problems too."""
    problem(httpx.post(f"{house.url}/hooks/nobody"), 404, "unknown-source")
    problem(httpx.post(f"{house.url}/hooks/%00%ff..%5c"), 404, "unknown-source")
    answer = httpx.get(f"{house.url}/hooks/shop")
    problem(answer, 405, "not-post")
    assert answer.headers["allow"] == "POST"


def test_a_ledger_that_cannot_store_is_never_a_202(house: House) -> None:
    """503 with Retry-After, so that the sender tries again; afterwards the same request is taken (fault 12)."""
    house.door.broken = True
    answer = house.post("shop", b"{}", "m1")
    problem(answer, 503, "not-stored")
    assert answer.headers["retry-after"] == "7"
    house.door.broken = False
    assert house.post("shop", b"{}", "m1").status_code == 202


@pytest.mark.slow
@pytest.mark.fault(number=12)
def test_a_locked_ledger_is_a_503_and_nothing_is_lost(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else holds SQLite's write lock too long, no false 202 is given (fault 12)."""
    monkeypatch.setattr(engine, "BUSY_MS", 1000)
    with sqlite3.connect(house.settings.state_dir / "ledger.db", isolation_level=None) as other:
        other.execute("begin immediate")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                httpx.post,
                f"{house.url}/hooks/shop",
                content=b"{}",
                headers=house.signed("shop", b"{}", "m1"),
                timeout=60,
            )
            answer = waiting.result()
        other.execute("rollback")
    problem(answer, 503, "not-stored")
    assert int(answer.headers["retry-after"]) >= 1
    assert house.post("shop", b"{}", "m1").json().get("duplicate") is None


def test_a_caller_may_wait_for_the_result(house: House) -> None:
    """Prefer: wait=N (RFC 7240) answers 200 with the result when it is ready in time, else 202 as always."""
    job_id = house.post("shop", b"{}", "m1").json()["job"]
    threading.Timer(0.3, lambda: house.results.update({job_id: {"type": "job.processed"}})).start()
    answer = house.post("shop", b"{}", "m1", prefer="respond-async, wait=100")
    assert (answer.status_code, answer.json()) == (200, {"type": "job.processed"})
    assert answer.headers["preference-applied"] == "wait=2"
    started = time.monotonic()
    late = house.post("shop", b"{}", "m2", prefer="wait=1")
    assert late.status_code == 202
    assert late.headers["location"].endswith(late.json()["job"])
    assert 0.9 < time.monotonic() - started < 30
    assert house.post("shop", b"{}", "m3", prefer="wait=x;, =").status_code == 202


def test_the_openapi_document_tells_the_endpoint(house: House) -> None:
    """Every status that the listener gives is documented."""
    described = httpx.get(f"{house.url}/openapi.json").json()["paths"]["/hooks/{source}"]
    assert set(described) == {"post"}
    assert {"200", "202", "400", "401", "403", "404", "408", "413", "422", "429", "503"} <= set(
        described["post"]["responses"]
    )


def test_the_router_alone_does_the_same(house: House) -> None:
    """An application that only includes the router takes and refuses webhooks alike."""
    app = FastAPI()
    app.include_router(webhook.router(house.settings, house.door))
    with served(app) as url:
        headers = house.signed("shop", b"{}", "m1")
        first = httpx.post(f"{url}/hooks/shop", content=b"{}", headers=headers)
        assert (first.status_code, first.headers["location"]) == (202, f"{url}/jobs/{first.json()['job']}")
        problem(httpx.post(f"{url}/hooks/shop", content=b"x", headers=headers), 401, "bad-signature")
        problem(httpx.get(f"{url}/hooks/shop"), 405, "not-post")
        problem(httpx.post(f"{url}/hooks/open", content=b"x" * (LIMIT + 1)), 413, "too-large")
    assert house.post("shop", b"{}", "m1").json()["duplicate"] is True
