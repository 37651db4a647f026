"""Webhooks out over real sockets: what a receiver gets, and what each way of misbehaving comes to."""

from __future__ import annotations

import datetime
import email.utils
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from config.inbound import WebhookSource
from config.settings import Settings
from tasks import egress
from tasks.errors import Permanent, Transient, Unavailable
from tasks.models import Delivery, Outcome
from tasks.signatures import Presented, Verifier
from tasks.transports import webhook
from tests.integration.webhook_parts import Answer, Seen, Sink, replies, sink

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"type":"job.processed"}'


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """No test sees the connections and failures of another."""
    webhook.forget()


def delivery(**changes: Any) -> Delivery:
    values = {"ordinal": 0, "transport": "webhook", "target": "books", "key": "dlv-1-0", "body": BODY}
    return Delivery.model_validate({**values, "content_type": "application/json", **changes})


def settings_for(url: str, **options: Any) -> Settings:
    return Settings.model_validate({"endpoint": {"books": {"url": url, "allow_private": True, **options}}})


def post(receiver: Sink, changes: dict[str, Any] | None = None, **options: Any) -> Outcome:
    return webhook.send(delivery(**(changes or {})), settings_for(receiver.url, **options))


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


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """Neither to a metadata address nor to an honest one: the address is the configuration's business (fault 24)."""
    with sink(replies("200 OK")) as elsewhere:
        for location in ("http://169.254.169.254/latest/meta-data/", elsewhere.url):
            answer = replies(f"{status} Moved", f"Location: {location}")
            with sink(answer) as receiver, pytest.raises(Permanent, match="redirects are not followed"):
                post(receiver)
            assert len(receiver.seen) == 1
        assert elsewhere.connections == 0


def test_private_addresses_are_refused_unless_allowed() -> None:
    """Without allow_private nothing is connected, and the reason says what to set."""
    with sink(replies("200 OK")) as receiver:
        for host in ("127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"):
            url = receiver.url.replace("127.0.0.1", host)
            with pytest.raises(Permanent, match=r"is not public; set allow_private in \[endpoint\.books\]"):
                webhook.send(delivery(), settings_for(url, allow_private=False))
        assert receiver.connections == 0


def test_a_name_that_turns_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: each new connection goes where the check looked, and nowhere else (fault 25)."""
    real = socket.getaddrinfo
    turns = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[str] = []

    def lie(host: str, port: int, *more: Any, **options: Any) -> Any:
        if host == "rebind.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(turns), port))]
        connected.append(host)
        raise (
            ConnectionRefusedError(host)
            if host == "93.184.216.34"
            else AssertionError(real(host, port, *more, **options))
        )

    monkeypatch.setattr(egress.socket, "getaddrinfo", lie)
    with sink(replies("200 OK")) as receiver:
        settings = settings_for(receiver.url.replace("127.0.0.1", "rebind.example"), allow_private=False)
        with pytest.raises(Unavailable):
            webhook.send(delivery(), settings)
        with pytest.raises(Permanent, match="not public"):
            webhook.send(delivery(), settings)
        assert (connected, receiver.connections) == (["93.184.216.34"], 0)


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment cannot turn our requests over to somebody else, and the guard keeps seeing the real address."""
    with sink(replies("200 OK")) as receiver, sink(replies("200 OK")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        post(receiver)
        assert (len(receiver.seen), proxy.connections) == (1, 0)


def test_nobody_listening_is_an_outage() -> None:
    """A refused connection or an unknown name costs no attempt and names the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://no.such.name.invalid/"):
        with pytest.raises(Unavailable) as caught:
            webhook.send(delivery(), settings_for(url))
        assert caught.value.dependency == "webhook:books"


def endless(connection: socket.socket, _: Seen) -> None:
    """200, then a body without an end, as fast as it goes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")


def drip(head: bytes, byte: bytes) -> Answer:
    """Send `head`, then `byte` every 50 ms."""

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(head)
        while True:
            time.sleep(0.05)
            connection.sendall(byte)

    return answer


def test_an_endless_answer_is_cut() -> None:
    """64 KiB are read, then the connection is closed; the status line has said that it was accepted (fault 26)."""
    with sink(endless) as receiver:
        started = time.monotonic()
        outcome = post(receiver)
        assert (outcome.code, len(outcome.response)) == (200, 65_536)
        assert time.monotonic() - started < 3
        post(receiver)
        assert receiver.connections == 2


def test_a_dripping_body_does_not_hold_a_worker() -> None:
    """One byte at a time keeps no read time-out from passing, but the whole exchange has its time (fault 26)."""
    with sink(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"z")) as receiver:
        started = time.monotonic()
        assert post(receiver, timeout=0.6).code == 200
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["status", "header"])
def test_a_dripping_header_is_a_time_out(head: bytes) -> None:
    """Before the header is whole nothing is accepted: Transient (fault 26)."""
    with sink(drip(head, b"H")) as receiver:
        started = time.monotonic()
        with pytest.raises(Transient, match="no answer in time"):
            post(receiver, timeout=0.6)
        assert time.monotonic() - started < 2


def test_silence_is_a_time_out() -> None:
    """A receiver that accepts the connection and says nothing costs read_timeout, not more."""
    with sink(lambda *_: time.sleep(5)) as receiver:
        started = time.monotonic()
        with pytest.raises(Transient, match="no answer in time") as caught:
            post(receiver, read_timeout=0.3)
        assert time.monotonic() - started < 2
        assert not isinstance(caught.value, Unavailable)


def test_a_receiver_that_does_not_read_is_a_time_out() -> None:
    """A large body that nobody takes cannot hold a worker for longer than the exchange may last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(Transient):
            webhook.send(delivery(body=b"x" * 20_000_000), settings_for(url, timeout=0.8, read_timeout=0.5))
        assert time.monotonic() - started < 3


def test_an_early_refusal_of_a_large_body_is_understood() -> None:
    """A receiver may answer 413 and close before it has read everything."""

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    with sink(answer) as receiver:
        receiver.read_bodies = False
        with pytest.raises(Permanent, match="HTTP 413"):
            post(receiver, {"body": b"x" * 5_000_000})


@pytest.mark.parametrize(
    "garbage",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100, b"", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000],
)
def test_what_is_not_http_is_transient(garbage: bytes) -> None:
    """A broken or strange answer is tried again; a header without an end is not read into memory."""

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_RDWR)

    with sink(answer) as receiver, pytest.raises(Transient):
        post(receiver)


def test_a_kept_connection_that_the_receiver_closed_is_made_anew() -> None:
    """An idle connection that went away in between does not fail the next delivery."""

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with sink(answer) as receiver:
        for _ in range(3):
            assert post(receiver).code == 200
            time.sleep(0.1)
        assert receiver.connections == 3


def test_compressed_answers_are_not_unpacked() -> None:
    """A small answer cannot become a large one: content codings are neither asked for nor undone."""
    bomb = b"\x1f\x8b\x08\x00" + b"\x00" * 50
    with sink(replies("200 OK", "Content-Encoding: gzip", body=bomb)) as receiver:
        assert len(post(receiver).response) == len(bomb)
    assert "accept-encoding" not in receiver.seen[0].headers


def test_a_silent_endpoint_does_not_delay_another() -> None:
    """Deliveries to a healthy endpoint go on while others wait for one that never answers (fault 27)."""
    with sink(lambda *_: time.sleep(5)) as dead, sink(replies("200 OK")) as alive, ThreadPoolExecutor(8) as pool:
        endpoints = {
            name: {"url": one.url, "allow_private": True, "read_timeout": 1.5}
            for name, one in (("dead", dead), ("alive", alive))
        }
        settings = Settings.model_validate({"endpoint": endpoints})
        waiting = [pool.submit(webhook.send, delivery(target="dead"), settings) for _ in range(4)]
        started = time.monotonic()
        for _ in range(50):
            webhook.send(delivery(target="alive"), settings)
        assert time.monotonic() - started < 1
        assert all(isinstance(one.exception(), Transient) for one in waiting)
        assert dead.connections == 1


def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    """After five failures in a row nothing more is sent for a while: Unavailable, with the time to wait (fault 27)."""
    with sink(replies("500 Broken")) as receiver:
        settings = settings_for(receiver.url)
        for _ in range(5):
            with pytest.raises(Transient, match="HTTP 500"):
                webhook.send(delivery(), settings)
        for _ in range(100):
            with pytest.raises(Unavailable, match="left alone") as caught:
                webhook.send(delivery(), settings)
        assert 5 < (caught.value.retry_after or 0) <= 10
        assert len(receiver.seen) == 5
        repaired = settings_for(receiver.url, timeout=19)
        with pytest.raises(Transient, match="HTTP 500"):
            webhook.send(delivery(), repaired)


def test_refusals_of_single_deliveries_do_not_stop_the_others() -> None:
    """An endpoint that answers 400 is alive: its breaker stays closed."""
    with sink(replies("400 Bad")) as receiver:
        for _ in range(30):
            with pytest.raises(Permanent):
                post(receiver)
        assert len(receiver.seen) == 30


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hook.test and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hook.test"
    command += f" -addext subjectAltName=DNS:hook.test -keyout {folder / 'key.pem'} -out {folder / 'cert.pem'}"
    subprocess.run(command.split(), check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[str]]]:
    """An HTTPS receiver that asks for a client certificate, known as hook.test and other.test; port and SNI names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    names: list[str] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as stream:
                    read = b""
                    while BODY not in read:
                        read += stream.recv(65_536)
                    shown = dict(part for rdn in (stream.getpeercert() or {}).get("subject", ()) for part in rdn)  # type: ignore[union-attr]
                    names.append(f"client {shown.get('commonName', 'nobody')}")
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    real = socket.getaddrinfo
    monkeypatch.setattr(
        egress.socket,
        "getaddrinfo",
        lambda host, *more, **options: real("127.0.0.1" if host.endswith(".test") else host, *more, **options),
    )
    yield listener.getsockname()[1], names
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_tls_uses_the_name_though_it_connects_to_the_address(secure: tuple[int, list[str]], certificate: Path) -> None:
    """SNI and the certificate check use the URL's host name; another name's is refused; ours is shown when set."""
    port, names = secure
    good = settings_for(f"https://hook.test:{port}/", ca_file=str(certificate))
    assert webhook.send(delivery(), good).code == 200
    assert names == ["hook.test", "client nobody"]
    names.clear()
    showing = settings_for(f"https://hook.test:{port}/", ca_file=str(certificate), client_cert=str(certificate))
    assert webhook.send(delivery(), showing).code == 200
    assert names == ["hook.test", "client hook.test"]
    with pytest.raises(Transient, match=r"TLS failed.*Hostname mismatch"):
        webhook.send(delivery(), settings_for(f"https://other.test:{port}/", ca_file=str(certificate)))
    with pytest.raises(Transient, match=r"TLS failed.*self-signed"):
        webhook.send(delivery(), settings_for(f"https://hook.test:{port}/"))


def test_a_certificate_file_that_cannot_be_used_is_told() -> None:
    """A wrong path or content is a permanent failure that names the endpoint."""
    with pytest.raises(Permanent, match=r"certificate file of \[endpoint\.books\]"):
        webhook.send(delivery(), settings_for("https://hook.example/", ca_file="/no/such/file.pem"))


def test_json_is_what_it_was() -> None:
    """The body is sent byte by byte: no re-encoding, whatever it holds."""
    body = json.dumps({"ä": "€ \u2028", "n": 1e-7}, ensure_ascii=False).encode() + b"\n\xff"
    with sink(replies("200 OK")) as receiver:
        post(receiver, {"body": body})
    assert receiver.seen[0].body == body
