"""Sending many again and looking after endpoints, as an admin types it: real processes, real receivers, the ledger."""

from __future__ import annotations

import collections
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import Settings
from tasks.clock import iso, now_ms
from tasks.intake import Intake
from tasks.ledger.schema import jobs
from tasks.models import Stage, State
from tasks.transports import webhook
from tests.commands import postroom
from tests.integration.endpoint_parts import Post
from tests.integration.test_smtp_out import sink as mail_sink
from tests.integration.webhook_parts import Sink, replies, sink
from tests.moved_clock import Clock

DAY_MS = 86_400_000

pytestmark = pytest.mark.sqlite_only  # a process for each command; the statements are tested on both elsewhere


class House:
    """A post with a receiver that works and one that refuses, and its command line."""

    def __init__(self, post: Post, good: Sink, bad: Sink, folder: Path, clock: Clock) -> None:
        self.post = post
        self.good = good
        self.bad = bad
        self.clock = clock
        self._config = post.config(folder)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return postroom(*arguments, state=self.post.settings.state_dir, config=self._config)

    def said(self, *arguments: str) -> str:
        told = self.cli(*arguments)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    def refused(self, *arguments: str) -> str:
        told = self.cli(*arguments)
        assert told.returncode in {1, 2}
        assert "Traceback" not in told.stderr
        return " ".join(told.stderr.replace("│", " ").split())

    def states(self, number: int) -> list[str]:
        return [one.state for one in self.post.ledger.deliveries.of(self.post.made[number])]


@pytest.fixture
def house(settings: Settings, intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    webhook.forget()
    clock = Clock(monkeypatch)
    with sink(replies("200 OK")) as good, sink(replies("404 Not Found")) as bad:
        post = Post(settings, intake, {"books": good.url, "orders": bad.url})
        yield House(post, good, bad, tmp_path, clock)
        post.close()
    webhook.forget()


def three_days(house: House) -> list[int]:
    """Three jobs that failed at orders, a day apart; when each did."""
    times = []
    for _ in range(3):
        house.post.event("books", "orders")
        house.post.work()
        times.append(now_ms())
        house.clock.to(now_ms() + DAY_MS)
    house.clock.ahead = 0.0
    assert [house.states(number) for number in range(3)] == [["sent", "failed"]] * 3
    return times


def keys(receiver: Sink) -> collections.Counter[str]:
    return collections.Counter(seen.headers["idempotency-key"] for seen in receiver.seen)


def test_what_failed_at_an_endpoint_in_a_time_is_sent_again(house: House) -> None:
    """Dry first: nothing changes. Then just those, under the keys they had; what was sent stays alone."""
    times = three_days(house)
    asked = ("redeliver", "--endpoint", "orders", "--since", iso(times[1] - 60_000), "--until", iso(times[1] + 60_000))
    dry = house.said(*asked, "--dry-run")
    second = house.post.made[1]
    assert dry.splitlines() == [
        f"{second} would send again: 1",
        "deliveries 1, jobs 1, left 0; nothing was changed",
    ]
    assert house.states(1) == ["sent", "failed"]
    assert house.post.work() == 0
    assert house.said(*asked).splitlines() == [f"{second} sends again: 1", "deliveries 1, jobs 1, left 0"]
    house.bad.answer = replies("200 OK")
    assert house.post.work() == 1
    assert [house.states(number)[1] for number in range(3)] == ["failed", "sent", "failed"]
    told = json.loads(house.said("redeliver", "--endpoint", "orders", "--limit", "1", "--json"))
    first = house.post.made[0]
    assert told == {"dry_run": False, "deliveries": 1, "jobs": [{"job": first, "deliveries": [1]}], "left": []}
    assert house.said("redeliver", "--endpoint", "orders").endswith("deliveries 1, jobs 1, left 0")
    house.post.work()
    assert {house.post.job(job_id).state for job_id in house.post.made} == {State.DONE}
    assert keys(house.bad) == {f"{job_id}-1": 2 for job_id in house.post.made}
    assert keys(house.good) == {f"{job_id}-0": 1 for job_id in house.post.made}


def test_what_was_sent_is_sent_again_only_for_those_who_say_so(house: House) -> None:
    """--state sent and all need --resend; --resend alone means everything there."""
    three_days(house)
    for state in ("sent", "all"):
        assert "add resend if that is meant" in house.refused("redeliver", "--endpoint", "books", "--state", state)
    assert house.said("redeliver", "--endpoint", "books") == "deliveries 0, jobs 0, left 0"
    assert "deliveries 3" in house.said("redeliver", "--endpoint", "books", "--resend", "--dry-run")
    assert "deliveries 0" in house.said("redeliver", "--endpoint", "books", "--resend", "--state", "failed")
    house.said("redeliver", "--endpoint", "books", "--state", "sent", "--resend", "--limit", "2")
    house.post.work()
    assert sorted(keys(house.good).values()) == [1, 2, 2]


def test_mail_to_an_address_is_sent_again(
    settings: Settings, intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--to takes an address; the same bytes arrive under the same Message-ID."""
    clock = Clock(monkeypatch)
    with mail_sink() as (mails, port):
        post = Post(settings, intake, {}, smtp_out={"port": port, "give_up_after_days": 0.01})
        job_id = post.event("ada@sender.example", "bob@sender.example")
        with monkeypatch.context() as away:
            nobody = post.settings.smtp_out.model_copy(update={"port": 9})
            away.setattr(post.shop, "settings", post.settings.model_copy(update={"smtp_out": nobody}))
            while post.job(job_id).state is not State.FAILED:
                post.work()
                clock.to(post.next_due() or 0)
        assert [one.state for one in post.ledger.deliveries.of(job_id)] == ["failed", "failed"]
        assert "given up" in post.job(job_id).reason
        told = postroom("redeliver", "--to", "bob@sender.example", state=settings.state_dir)
        assert told.stdout.splitlines() == [f"{job_id} sends again: 1", "deliveries 1, jobs 1, left 0"], told.stderr
        post.work()
        assert [recipients for _, recipients, _, _ in mails.got] == [["bob@sender.example"]]
        post.close()


def test_what_cannot_be_is_told_and_left(house: House) -> None:
    """A job that a worker holds, one in review: named with the reason, the others go."""
    three_days(house)
    held, review, free = house.post.made
    ledger = house.post.ledger
    assert ledger.jobs.retry(held, Stage.DELIVER, why="test")
    assert ledger.leases.claim(held, Stage.DELIVER, State.DELIVERING, "another:1:1")
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == review).values(state="review", stage="reply"))
    told = house.said("redeliver", "--endpoint", "orders").splitlines()
    assert told[0] == f"{free} sends again: 1"
    assert told[1] == f"{held} is left: a worker holds it; try again later"
    assert told[2].startswith(f"{review} is left: it is review")
    assert told[3] == "deliveries 1, jobs 1, left 2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name one of JOB, --endpoint NAME and --to ADDRESS"),
        (("--endpoint", "books", "--to", "a@b.example"), "name one of"),
        (("01jd8k", "--since", "3d"), "--since goes with --endpoint or --to"),
        (("--endpoint", "books", "--delivery", "0"), "--delivery goes with a JOB"),
        (("--endpoint", "books", "--since", "yesterday"), "'yesterday' is no time; write 2026-03-02"),
        (("--endpoint", "boks"), "no endpoint 'boks'; configured: books, orders"),
    ],
)
def test_what_makes_no_sense_says_what_to_write(house: House, arguments: tuple[str, ...], said: str) -> None:
    """A slip of the pen never sends anything."""
    assert said in house.refused("redeliver", *arguments)


def test_endpoints_tell_how_they_do(house: House) -> None:
    """State, since when, last success, what waits and what failed; for people and for programs."""
    assert "books well last success never, waiting 0, failed 0" in " ".join(house.said("endpoints").split())
    three_days(house)
    house.bad.answer = replies("503 Service Unavailable")
    house.post.event("orders")
    house.post.work()
    books, orders = json.loads(house.said("endpoints", "--json"))
    assert (books["state"], books["failing_since"], books["failed"]) == ("well", None, 0)
    assert books["last_success_at"] is not None
    assert (orders["state"], orders["waiting"], orders["failed"]) == ("failing", 1, 3)
    assert orders["host"] == "127.0.0.1"
    shown = house.said("endpoints")
    assert f"failing since {iso(orders['failing_since'])}" in shown
    assert "HTTP 503" in shown


def test_an_endpoint_is_disabled_and_enabled_by_hand(house: House) -> None:
    """With a reason that everybody finds; what waits ends, and `check` reminds of it."""
    house.bad.answer = replies("503 Service Unavailable")
    job_id = house.post.event("books", "orders")
    house.post.work()
    told = house.said("endpoints", "disable", "orders", "--because", "moving \x1b[31mhouse")
    assert told.startswith("orders is disabled; 1 waiting deliveries end now")
    assert "disabled already" in house.refused("endpoints", "disable", "orders")
    assert house.post.work() == 1
    assert house.post.job(job_id).state is State.FAILED
    assert "moving" in house.post.job(job_id).reason
    assert "\x1b" not in house.said("endpoints")
    checked = house.cli("check").stdout
    assert any(
        line.startswith("warning") and "endpoint.orders: disabled since" in line for line in checked.splitlines()
    )
    assert "orders is disabled" not in house.said("endpoints", "enable", "orders")
    assert house.said("endpoints", "enable", "orders") == "orders was not disabled"
    for command in ("enable", "disable"):
        assert "no endpoint 'nonesuch'; configured: books, orders" in house.refused("endpoints", command, "nonesuch")
    house.bad.answer = replies("200 OK")
    house.said("redeliver", "--endpoint", "orders")
    house.post.work()
    assert house.post.job(job_id).state is State.DONE
    assert house.post.alerts() == []
