"""Webhooks out: receivers that misbehave, and what each way of misbehaving comes to."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.settings import Settings
from tasks.errors import Permanent, Transient, Unavailable
from tasks.transports import webhook
from tests.integration.webhook_out_parts import delivery, post, settings_for
from tests.integration.webhook_parts import Answer, Seen, replies, sink

pytestmark = pytest.mark.usefixtures("fresh_endpoints")


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


@pytest.mark.fault(number=26)
def test_an_endless_answer_is_cut() -> None:
    """64 KiB are read, then the connection is closed; the status line has said that it was accepted (fault 26)."""
    with sink(endless) as receiver:
        started = time.monotonic()
        outcome = post(receiver)
        assert (outcome.code, len(outcome.response)) == (200, 65_536)
        assert time.monotonic() - started < 20
        post(receiver)
        assert receiver.connections == 2


@pytest.mark.fault(number=26)
def test_a_dripping_body_does_not_hold_a_worker() -> None:
    """One byte at a time keeps no read time-out from passing, but the whole exchange has its time (fault 26)."""
    with sink(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"z")) as receiver:
        started = time.monotonic()
        assert post(receiver, timeout=2).code == 200
        assert time.monotonic() - started < 60


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["status", "header"])
@pytest.mark.fault(number=26)
def test_a_dripping_header_is_a_time_out(head: bytes) -> None:
    """Before the header is whole nothing is accepted: Transient (fault 26)."""
    with sink(drip(head, b"H")) as receiver:
        started = time.monotonic()
        with pytest.raises(Transient, match="no answer in time"):
            post(receiver, timeout=0.6)
        assert time.monotonic() - started < 60


def test_silence_is_a_time_out() -> None:
    """A receiver that accepts the connection and says nothing costs read_timeout, not more."""
    with sink(lambda *_: time.sleep(5)) as receiver:
        started = time.monotonic()
        with pytest.raises(Transient, match="no answer in time") as caught:
            post(receiver, read_timeout=0.3)
        assert time.monotonic() - started < 5
        assert not isinstance(caught.value, Unavailable)


def test_a_connection_that_is_not_taken_costs_connect_timeout() -> None:
    """A host that drops the first packet, as firewalls do: here a listener whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(Transient):
            webhook.send(delivery(), settings_for(url, connect_timeout=0.4, read_timeout=30, timeout=30))
        assert 0.3 < time.monotonic() - started < 25


def test_a_receiver_that_does_not_read_is_a_time_out() -> None:
    """A large body that nobody takes cannot hold a worker for longer than the exchange may last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(Transient):
            webhook.send(delivery(body=b"x" * 20_000_000), settings_for(url, timeout=0.8, read_timeout=0.5))
        assert time.monotonic() - started < 60


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
            name: {"url": one.url, "allow_private": True, "read_timeout": 3}
            for name, one in (("dead", dead), ("alive", alive))
        }
        settings = Settings.model_validate({"endpoint": endpoints})
        waiting = [pool.submit(webhook.send, delivery(target="dead"), settings) for _ in range(4)]
        for _ in range(20):
            webhook.send(delivery(target="alive"), settings)
        assert not any(one.done() for one in waiting)
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
