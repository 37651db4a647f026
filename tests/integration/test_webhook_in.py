"""Webhooks in over real HTTP: uvicorn in a thread, the real intake on SQLite, clients that behave and that do not."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import itertools
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config.settings import Settings
from daemon.listeners import webhook
from daemon.listeners.webhook_protocol import GuardedProtocol
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.models import Envelope, Kind, Receipt
from tasks.signatures import Verifier
from tests.integration.webhook_parts import served

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LIMIT = 300_000
SOURCES: dict[str, dict[str, Any]] = {
    "shop": {"secrets": [SECRET], "max_wait": 2},
    "code": {"scheme": "github", "secrets": ["It's a Secret to Everybody"]},
    "chat": {"scheme": "slack", "secrets": ["8f742231b10e8888abcd99yyyzzz85a5"]},
    "pay": {"scheme": "stripe", "secrets": ["whsec_stripe_has_its_own"]},
    "till": {"scheme": "shopify", "secrets": ["hush hush hush hush"]},
    "lab": {"scheme": "gitlab", "secrets": ["a long shared secret"]},
    "push": {"scheme": "bearer", "secrets": ["a long shared secret"]},
    "user": {"scheme": "basic", "secrets": ["shop:a long shared secret"]},
    "sealed": {"scheme": "mtls", "secrets": ["CN=shop"], "proxies": ["127.0.0.1"]},
    "open": {"scheme": "none", "body_timeout": 0.5, "max_body": LIMIT},
    "keyed": {"scheme": "none", "key": "header:X-Event"},
    "inside": {"scheme": "none", "allow": ["192.0.2.0/24"], "proxies": ["127.0.0.1"]},
    "slow": {"scheme": "bearer", "secrets": ["a long shared secret"], "rate": 3, "rate_window": 60},
}


class Breakable:
    """The real intake, with a switch for the one fault a healthy ledger cannot show."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.broken = False

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        if self.broken:
            raise Unavailable("ledger", "disk full", retry_after=7)
        return await self.intake.accept_async(envelope, raw)


@dataclass
class House:
    """A running listener and what stands behind it."""

    url: str
    settings: Settings
    door: Breakable
    results: dict[str, dict[str, Any]]
    _number: Iterator[int]

    @property
    def intake(self) -> Intake:
        return self.door.intake

    def post(self, source: str, body: bytes = b'{"id": "e1"}', key: str = "", **headers: str) -> httpx.Response:
        """Post as the source's real sender would; keywords are further headers (`_` for `-`)."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}/hooks/{source}", content=body, headers=self.signed(source, body, key, **more))

    def signed(self, source: str, body: bytes, key: str = "", **more: str) -> dict[str, str]:
        key = key or f"msg_{next(self._number)}"
        extra = {"code": {"x-github-delivery": key}, "till": {"x-shopify-webhook-id": key}}.get(source, {})
        config = self.settings.webhook[source]
        return {**Verifier(config).sign(body, key, int(time.time())), **extra, **more}

    def jobs(self) -> int:
        return sum(self.intake.ledger.jobs.counts().values())

    def raw(self, job_id: str) -> bytes | None:
        return self.intake.ledger.jobs.raw(job_id)


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    configured = Settings.model_validate({"state_dir": settings.state_dir, "webhook": SOURCES})
    intake = Intake.open(configured)
    door, results = Breakable(intake), dict[str, dict[str, Any]]()
    app = FastAPI()
    webhook.install(app, configured, door, results.get)
    with served(app, http=GuardedProtocol) as url:
        yield House(url, configured, door, results, itertools.count(1))
    intake.close()


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that the answer is a problem of this kind (RFC 9457), and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["type"] == f"urn:postroom:problem:{kind}"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content


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


def test_the_same_key_with_another_body_is_a_conflict(house: House) -> None:
    """422 tells which job has the key; nothing is stored."""
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


@pytest.mark.parametrize("source", ["shop", "code", "chat", "pay", "till", "lab", "push", "user", "sealed"])
def test_a_forged_request_is_refused(house: House, source: str) -> None:
    """401 with a WWW-Authenticate field, for a changed body or secret; nothing is stored."""
    headers = house.signed(source, b"the body that was signed")
    if source in {"lab", "push", "user", "sealed"}:
        headers = {name: value[:-1] + "?" for name, value in headers.items()}
    answer = httpx.post(f"{house.url}/hooks/{source}", content=b"another body", headers=headers)
    problem(answer, 401, "bad-signature")
    assert answer.headers["www-authenticate"]
    assert house.jobs() == 0


def test_an_old_request_is_refused(house: House) -> None:
    """A replay of what was once rightly signed gets 401 (fault 22)."""
    headers = Verifier(house.settings.webhook["shop"]).sign(b"{}", "m1", int(time.time()) - 400)
    told = problem(httpx.post(f"{house.url}/hooks/shop", content=b"{}", headers=headers), 401, "bad-signature")
    assert "too old" in told["detail"]


def test_slack_s_challenge_is_answered_and_is_no_job(house: House) -> None:
    """The handshake gets its challenge back, only when it is rightly signed."""
    body = json.dumps(
        {"type": "url_verification", "token": "t", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd"}
    ).encode()
    answer = house.post("chat", body)
    assert (answer.status_code, answer.text) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd")
    assert answer.headers["content-type"].startswith("text/plain")
    problem(httpx.post(f"{house.url}/hooks/chat", content=body), 401, "bad-signature")
    assert house.jobs() == 0
    mentioned = house.post("chat", b'{"event_id": "E1", "type": "event_callback", "text": "url_verification"}')
    assert mentioned.status_code == 202


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
def test_a_locked_ledger_is_a_503_and_nothing_is_lost(house: House) -> None:
    """While somebody else holds SQLite's write lock too long, no false 202 is given (fault 12)."""
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


def test_too_large_bodies_get_413(house: House) -> None:
    """With a declared length, chunked, and chunked without an end; none of it is stored."""

    def endless() -> Iterator[bytes]:
        for _ in range(60):
            yield b"x" * 65_536

    exact = httpx.post(f"{house.url}/hooks/open", content=b"x" * LIMIT)
    assert exact.status_code == 202
    url = f"{house.url}/hooks/open"
    for content in (b"x" * (LIMIT + 1), b"x" * (LIMIT * 9), endless()):
        answer = httpx.post(url, content=content)
        told = problem(answer, 413, "too-large")
        assert told["limit"] == LIMIT
        assert answer.headers["connection"] == "close"
    assert house.jobs() == 1


def test_a_chunked_body_within_the_limit_arrives_whole(house: House) -> None:
    """Chunks are put together, none is cut."""
    parts = [bytes([number]) * 10_000 for number in range(20)]
    answer = httpx.post(f"{house.url}/hooks/open", content=iter(parts))
    assert answer.status_code == 202
    job = house.intake.ledger.jobs.get(answer.json()["job"])
    assert job is not None
    assert job.raw_size == 200_000


def connect(house: House) -> socket.socket:
    address = httpx.URL(house.url)
    return socket.create_connection((address.host, address.port or 80), timeout=20)


def test_a_body_that_never_comes_is_cut(house: House) -> None:
    """A client that promises a body and drips it gets 408 and the connection is closed."""
    with connect(house) as slow:
        slow.sendall(b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab")
        started = time.monotonic()
        answer = b"".join(iter(lambda: slow.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:postroom:problem:too-slow" in answer
    assert time.monotonic() - started < 5


def test_a_client_that_leaves_in_mid_body_makes_no_job(house: House) -> None:
    """Half a request is no request."""
    with connect(house) as leaving:
        leaving.sendall(b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    assert house.post("open", b"whole").status_code == 202
    assert house.jobs() == 1


@pytest.mark.parametrize("filler", [b"X-Filler: %s\r\n" % (b"y" * 100), b"y" * 1000])
def test_headers_that_never_end_are_cut(house: House, filler: bytes) -> None:
    """Many fields, or one without an end: 431 and the connection is closed before much memory is used."""
    with connect(house) as loud:
        loud.sendall(b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nX-Long: ")
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 20_000_000:
                sent += loud.send(filler)
    assert sent < 20_000_000


def test_a_large_header_in_one_piece_is_refused(house: House) -> None:
    """All fields at once are counted as well; just below the limit they pass."""
    fields = {f"X-{number}": "y" * 1000 for number in range(60)}
    assert house.post("open", **fields).status_code == 202
    assert httpx.post(f"{house.url}/hooks/open", headers={**fields, "X-More": "y" * 6000}).status_code == 431


def test_headers_that_come_too_slowly_are_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that opens a connection and drips its header (slowloris) is cut off; so is one that says nothing."""
    monkeypatch.setattr(GuardedProtocol, "header_timeout", 0.4)
    for opening in (b"POST /hooks/open HTTP/1.1\r\nHost:", b""):
        with connect(house) as slow:
            slow.sendall(opening)
            started = time.monotonic()
            answer = b"".join(iter(lambda: slow.recv(4096), b""))
            assert time.monotonic() - started < 5
        assert answer.startswith(b"HTTP/1.1 408 ") if opening else answer == b""


def test_a_kept_connection_serves_many_requests(house: House) -> None:
    """Limits and time-outs of one request do not end the connection for the next."""
    with httpx.Client(base_url=house.url) as client:
        for number in range(30):
            body = b'{"n": %d}' % number
            assert client.post("/hooks/shop", content=body, headers=house.signed("shop", body)).status_code == 202
    assert house.jobs() == 30


def test_only_allowed_addresses_may_post(house: House) -> None:
    """The allow-list looks at the address that the trusted proxy saw."""
    problem(house.post("inside"), 403, "not-allowed")
    problem(house.post("inside", x_forwarded_for="192.0.2.7, 198.51.100.1"), 403, "not-allowed")
    assert house.post("inside", x_forwarded_for="198.51.100.1, 192.0.2.7").status_code == 202


def test_a_source_has_its_rate(house: House) -> None:
    """RateLimit fields count down; then 429 with Retry-After. Forged requests use nothing up."""
    for number in range(5):
        forged = httpx.post(f"{house.url}/hooks/slow", content=b"%d" % number, headers={"Authorization": "Bearer no"})
        problem(forged, 401, "bad-signature")
    left = [house.post("slow", b"%d" % number).headers["ratelimit"] for number in range(3)]
    assert [field.split(";")[1] for field in left] == ["r=2", "r=1", "r=0"]
    answer = house.post("slow", b"one more")
    problem(answer, 429, "too-many")
    assert 1 <= int(answer.headers["retry-after"]) <= 20
    assert answer.headers["ratelimit-policy"] == '"default";q=3;w=60'
    assert house.post("push").status_code == 202


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
    assert 0.9 < time.monotonic() - started < 3
    assert house.post("shop", b"{}", "m3", prefer="wait=x;, =").status_code == 202


NAMES = (
    "webhook-id webhook-timestamp webhook-signature authorization x-hub-signature-256 prefer stripe-signature expect"
    " x-slack-signature x-forwarded-for idempotency-key content-type x-event content-length transfer-encoding"
    " client-cert x-github-delivery"
)
FUZZED = st.lists(
    st.tuples(
        st.sampled_from(NAMES.split()),
        st.binary(max_size=40).filter(lambda value: not any(byte in b"\r\n\0" for byte in value)),
    ),
    max_size=8,
)


@given(headers=FUZZED, source=st.sampled_from([*SOURCES, "nobody"]), body=st.binary(max_size=50))
@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_headers_never_make_a_500(
    house: House, headers: list[tuple[str, bytes]], source: str, body: bytes
) -> None:
    """Whatever a client sends, it gets an answer of the 2xx or 4xx kind, or its connection is closed."""
    head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
    length = b"" if any(name in {"content-length", "transfer-encoding"} for name, _ in headers) else b"Content-Length: %d\r\n" % len(body)  # fmt: skip  # noqa: E501
    with connect(house) as raw:
        raw.sendall(
            b"POST /hooks/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % source.encode()
            + head
            + length
            + b"\r\n"
            + body
        )
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    if answer:
        response = http.client.HTTPResponse(_Bytes(answer))  # type: ignore[arg-type]
        response.begin()
        assert response.status < 500, answer


class _Bytes:
    """Enough of a socket for http.client to read an answer from."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, *_: object) -> Any:
        return io.BytesIO(self.content)


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
