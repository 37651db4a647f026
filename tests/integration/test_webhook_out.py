"""Webhooks out over real sockets: what a receiver gets, and what its answers come to."""

from __future__ import annotations

import datetime
import email.utils
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.inbound import WebhookSource
from config.settings import Settings
from tasks.errors import Permanent, Transient, Unavailable
from tasks.models import Outcome
from tasks.signatures import Presented, Verifier
from tasks.transports import webhook
from tests.integration.webhook_out_parts import BODY, NEW, OLD, delivery, post, settings_for
from tests.integration.webhook_parts import replies, sink
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("fresh_endpoints")


def test_a_receiver_can_verify_what_it_gets() -> None:
    """The exact bytes, the stable id, a fresh timestamp and a signature that fits, by the rules we verify others by."""
    with sink(replies("200 OK", body=b"thank you")) as receiver:
        outcome = post(receiver, secrets=[NEW])
    assert outcome == Outcome(detail="HTTP 200", response="thank you", code=200)
    (seen,) = receiver.seen
    assert (seen.line, seen.body) == ("POST /in HTTP/1.1", BODY)
    assert seen.headers["webhook-id"] == seen.headers["idempotency-key"] == "dlv-1-0"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("Postroom")
    verifier = Verifier(WebhookSource.model_validate({"scheme": "standard", "secrets": [NEW]}))
    verifier.check(Presented(seen.headers, seen.body, time.time()))


def test_every_secret_signs_while_rotating() -> None:
    """A receiver that knows only the old or only the new secret can verify the same request."""
    with sink(replies("204 No Content", body=b"")) as receiver:
        assert post(receiver, secrets=[NEW, OLD]).code == 204
    for secret in (OLD, NEW):
        verifier = Verifier(WebhookSource.model_validate({"scheme": "standard", "secrets": [secret]}))
        verifier.check(Presented(receiver.seen[0].headers, BODY, time.time()))


def test_a_repeat_has_the_same_name_and_a_new_timestamp() -> None:
    """Attempts differ in timestamp and signature only (fault 7)."""
    with sink(replies("200 OK")) as receiver:
        post(receiver, secrets=[NEW])
        time.sleep(1.1)
        post(receiver, secrets=[NEW])
    first, second = receiver.seen
    assert first.body == second.body
    changed = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert changed == {"webhook-timestamp", "webhook-signature"}


def test_connections_are_used_again() -> None:
    """Ten deliveries one after the other need one connection."""
    with sink(replies("200 OK")) as receiver:
        for _ in range(10):
            post(receiver)
        assert (len(receiver.seen), receiver.connections) == (10, 1)


def test_the_endpoints_own_headers_and_credentials_are_sent() -> None:
    """Extra headers, Bearer or Basic; they cannot replace the signature."""
    with sink(replies("200 OK")) as receiver:
        post(receiver, headers={"X-Tenant": "north"}, bearer="token-1")
        post(receiver, basic="user:pass word")
    assert receiver.seen[0].headers["x-tenant"] == "north"
    assert receiver.seen[0].headers["authorization"] == "Bearer token-1"
    assert receiver.seen[1].headers["authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 415, 422, 451])
def test_most_refusals_are_permanent(status: int) -> None:
    """Trying again cannot help; the reason holds the receiver's words, cleaned and short."""
    said = b"no such \x1b[31maccount\r\n" + b"x" * 900
    with sink(replies(f"{status} No", body=said)) as receiver, pytest.raises(Permanent) as caught:
        post(receiver)
    assert caught.value.reason.startswith(f"HTTP {status}")
    assert len(caught.value.reason) < 300
    assert caught.value.reason.isprintable()


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_some_refusals_are_transient(status: int) -> None:
    """They are tried again and cost an attempt; none of them says that the endpoint is away."""
    with sink(replies(f"{status} Later")) as receiver, pytest.raises(Transient, match=f"HTTP {status}") as caught:
        post(receiver)
    assert not isinstance(caught.value, Unavailable)
    assert caught.value.retry_after == (60 if status == 429 else None)


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("1000000", 7200, 7200),
        ("9" * 18, 7200, 7200),
        ("9" * 50, None, None),
        ("-5", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None, None),
        ("in 60 s", 58, 60),
        ("in 10 days", 7200, 7200),
        ("10 days ago", 0, 0),
    ],
)
@pytest.mark.fault(number=23)
def test_retry_after_is_read_and_clamped(field: str, least: float | None, most: float | None) -> None:
    """Seconds or an HTTP date, within two hours (fault 23); nonsense counts as not said."""
    shift = {"in 60 s": 60, "in 10 days": 864_000, "10 days ago": -864_000}.get(field)
    if shift is not None:
        then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=shift)
        field = email.utils.format_datetime(then, usegmt=True)
    with sink(replies("503 Busy", f"Retry-After: {field}")) as receiver, pytest.raises(Transient) as caught:
        post(receiver)
    if least is None or most is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after is not None
        assert least <= caught.value.retry_after <= most


def test_nobody_listening_is_an_outage() -> None:
    """A refused connection or an unknown name costs no attempt and names the endpoint."""
    port = free_port()
    for url in (f"http://127.0.0.1:{port}/", "http://no.such.name.invalid/"):
        with pytest.raises(Unavailable) as caught:
            webhook.send(delivery(), settings_for(url))
        assert caught.value.dependency == "webhook:books"


def test_threads_share_an_endpoints_connections() -> None:
    """Sixteen threads make 200 deliveries over max_connections connections, and none fails."""
    with sink(replies("200 OK")) as receiver, ThreadPoolExecutor(16) as pool:
        settings = settings_for(receiver.url, max_connections=3)
        done = list(pool.map(lambda number: webhook.send(delivery(key=f"k-{number}"), settings), range(200)))
        assert len(done) == 200
        assert receiver.connections <= 3
        assert {seen.headers["webhook-id"] for seen in receiver.seen} == {f"k-{number}" for number in range(200)}


def test_an_endpoint_that_is_gone_from_the_settings_is_permanent() -> None:
    """The reason says what to add."""
    with pytest.raises(Permanent, match=r"add \[endpoint\.books\]"):
        webhook.send(delivery(), Settings.model_validate({}))


def test_json_is_what_it_was() -> None:
    """The body is sent byte by byte: no re-encoding, whatever it holds."""
    body = json.dumps({"ä": "€ \u2028", "n": 1e-7}, ensure_ascii=False).encode() + b"\n\xff"
    with sink(replies("200 OK")) as receiver:
        post(receiver, {"body": body})
    assert receiver.seen[0].body == body
