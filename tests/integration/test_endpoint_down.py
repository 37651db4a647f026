"""Fault 27: an endpoint is down for five days. Real receivers, the real command line; only the clock is moved."""

from __future__ import annotations

import collections
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.breaker import Breaker
from tasks.clock import iso, now_ms
from tasks.intake import Intake
from tasks.models import State
from tasks.transports import webhook
from tests.commands import postroom
from tests.integration.endpoint_parts import Post
from tests.integration.test_smtp_out import sink as mail_sink
from tests.integration.webhook_parts import Sink, replies, sink
from tests.moved_clock import Clock

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    moved = Clock(monkeypatch)
    monkeypatch.setattr(webhook, "Breaker", lambda: Breaker(clock=moved.monotonic))
    webhook.forget()
    yield moved
    webhook.forget()


@pytest.fixture
def address() -> Iterator[tuple[socket.socket, str]]:
    """A loopback port at which nobody listens yet."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}/in"


def through(post: Post, clock: Clock, until_ms: int, *, every_ms: int, targets: tuple[str, ...]) -> None:
    """Live on to `until_ms`: an event each `every_ms`, and workers who do whatever is due."""
    event_at = now_ms()
    while now_ms() < until_ms:
        if now_ms() >= event_at:
            post.event(*targets)
            event_at += every_ms
        if not post.work():
            clock.to(min(event_at, post.next_due() or event_at, until_ms))


def keys(receiver: Sink) -> collections.Counter[str]:
    return collections.Counter(seen.headers["idempotency-key"] for seen in receiver.seen)


@pytest.mark.slow
@pytest.mark.sqlite_only  # a process for each command
@pytest.mark.fault(number=27)
def test_five_days_down(
    settings: Settings, intake: Intake, clock: Clock, address: tuple[socket.socket, str], tmp_path: Path
) -> None:
    """The others get theirs all the time; one alert; then no request; enabled and sent again, all arrive exactly once."""
    listener, url = address
    both = ("books", "orders")
    with sink(replies("200 OK")) as orders, mail_sink() as (mails, port):
        worker = {"outage_wait": 600, "backoff_cap": 4 * 3600}  # fewer looks than by default, for the test's speed
        more = {"alerts": {"mail": ["admin@team.example"]}, "smtp_out": {"port": port}, "worker": worker}
        post = Post(settings, intake, {"books": url, "orders": orders.url}, **more)
        began = now_ms()
        through(post, clock, began + 5 * DAY_MS - HOUR_MS, every_ms=DAY_MS, targets=both)
        health = post.ledger.endpoints.get("books")
        assert health is not None
        assert (health.disabled_at, mails.got) == (None, [])
        assert health.failing_since is not None
        assert health.failing_since - began < HOUR_MS
        assert keys(orders) == {f"{job_id}-1": 1 for job_id in post.made}

        through(post, clock, began + 6 * DAY_MS, every_ms=DAY_MS, targets=both)
        told = [content for _, _, content, _ in mails.got]
        assert len(told) == len(post.alerts()) == 1
        assert b"Subject: Postroom: endpoint books is disabled" in told[0]
        assert b"postroom endpoints enable books" in told[0]
        assert {post.job(job_id).state for job_id in post.made} == {State.FAILED}
        assert "endpoint books is disabled since" in post.job(post.made[0]).reason
        assert post.ledger.deliveries.attempts_of(post.made[-1])[0].delivery == 1, "the dead one was not asked"
        assert keys(orders) == {f"{job_id}-1": 1 for job_id in post.made}

        listener.listen(64)  # the receiver is back
        books = Sink(replies("200 OK"))
        threading.Thread(target=books.serve, args=(listener,), daemon=True).start()
        config = post.config(tmp_path)
        refused = postroom("redeliver", "--endpoint", "books", state=settings.state_dir, config=config)
        assert (refused.returncode, "endpoints enable books" in refused.stderr) == (1, True)
        enabled = postroom("endpoints", "enable", "books", state=settings.state_dir, config=config)
        assert f"{len(post.made)} of its deliveries have failed" in enabled.stdout, enabled.stderr
        command = enabled.stdout.strip().rpartition("postroom ")[2].split()
        assert command == ["redeliver", "--endpoint", "books", "--since", iso(health.failing_since)]
        sent = postroom(*command, state=settings.state_dir, config=config)
        assert f"deliveries {len(post.made)}, jobs {len(post.made)}, left 0" in sent.stdout, sent.stderr
        webhook.forget()  # the workers' breakers would open by themselves within five minutes
        while post.work():
            pass
        assert keys(books) == {f"{job_id}-0": 1 for job_id in post.made}
        assert keys(orders) == {f"{job_id}-1": 1 for job_id in post.made}
        assert {post.job(job_id).state for job_id in post.made} == {State.DONE}
        assert len(post.alerts()) == 1
        post.close()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
def test_days_of_refusals_are_days_of_failing(settings: Settings, intake: Intake, clock: Clock, status: str) -> None:
    """An endpoint that answers, but takes nothing, is disabled as one that is away."""
    with sink(replies(status)) as receiver:
        post = Post(settings, intake, {"books": receiver.url})
        through(post, clock, now_ms() + 6 * DAY_MS, every_ms=44 * HOUR_MS, targets=("books",))
        asked = len(receiver.seen)
        health = post.ledger.endpoints.get("books")
        assert health is not None
        assert health.disabled_at is not None
        assert status.split(maxsplit=1)[0] in health.disabled_because
        assert len(post.alerts()) == 1
        post.event("books")
        post.work()
        assert len(receiver.seen) == asked
        post.close()


def test_410_is_the_last_request(settings: Settings, intake: Intake, clock: Clock) -> None:
    """The receiver says that it wants nothing more: it is asked no more, and an admin is told once."""
    with sink(replies("410 Gone")) as receiver:
        post = Post(settings, intake, {"books": receiver.url})
        for _ in range(3):
            post.event("books")
        post.work()
        assert len(receiver.seen) == 1
        assert len(post.alerts()) == 1
        assert {post.job(job_id).state for job_id in post.made} == {State.FAILED}
        post.close()
