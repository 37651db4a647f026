"""Webhooks in: clients that send too much, too slowly, too often or from elsewhere."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import httpx
import pytest

from config.settings import Settings
from daemon.listeners.webhook_protocol import GuardedProtocol
from tests.integration.webhook_in_parts import LIMIT, House, connect, listening
from tests.integration.webhook_parts import problem


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    with listening(settings) as made:
        yield made


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
    answer = httpx.post(f"{house.url}/hooks/open", headers={**fields, "X-More": "y" * 6000})
    problem(answer, 431, "header-too-large")


def test_what_is_no_http_gets_a_problem_too(house: House) -> None:
    """400, as problem details, for what the parser does not understand; then the connection is closed."""
    with connect(house) as odd:
        odd.sendall(b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\nab")
        answer = b"".join(iter(lambda: odd.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == "urn:postroom:problem:bad-http"


def test_headers_that_come_too_slowly_are_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that opens a connection and drips its header (slowloris) is cut off; so is one that says nothing."""
    monkeypatch.setattr(GuardedProtocol, "header_timeout", 0.4)
    for opening in (b"POST /hooks/open HTTP/1.1\r\nHost:", b""):
        with connect(house) as slow:
            slow.sendall(opening)
            started = time.monotonic()
            answer = b"".join(iter(lambda: slow.recv(4096), b""))
            assert time.monotonic() - started < 5
        assert (b"HTTP/1.1 408 " in answer and b"urn:postroom:problem:too-slow" in answer) if opening else answer == b""


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
