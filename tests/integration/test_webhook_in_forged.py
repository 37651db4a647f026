"""Webhooks in: requests that do not prove who sent them, over real HTTP."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config.settings import Settings
from tests.integration.webhook_in_parts import SOURCES, House, connect, listening
from tests.integration.webhook_parts import problem


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    with listening(settings) as made:
        yield made


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
