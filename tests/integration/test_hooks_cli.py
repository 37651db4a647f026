"""Trying webhooks out and sending again, as an admin types it: real processes, real HTTP, the real ledger."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.inbound import WebhookSource
from config.settings import Settings
from daemon.hook_receiver import shown
from tasks.intake import Intake
from tasks.ledger import DeliveryState, Ledger
from tasks.models import Delivery, Stage, State
from tasks.payload import Payload
from tasks.pipeline import from_stage, run
from tasks.signatures import Presented, Verifier
from tasks.transports import webhook
from tasks.workshop import Workshop
from tests.commands import REPO, postroom
from tests.conftest import envelope
from tests.integration.webhook_parts import Sink, replies, sink

pytestmark = pytest.mark.sqlite_only
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
TOKEN = "a token that nobody may see"


def config_with(folder: Path, url: str, *more: str, secret: str = SECRET) -> Path:
    """A postroom.toml with [endpoint.books]."""
    lines = ["[endpoint.books]", f'url = "{url}"', "allow_private = true", f'secrets = ["{secret}"]', *more]
    path = folder / "postroom.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


# hooks test


def test_a_sample_is_sent_as_a_worker_would_send_it(settings: Settings, tmp_path: Path) -> None:
    """A receiver can verify it and tell that it is a test; the terminal shows the exchange and no secret."""
    with sink(replies("200 OK", body=b"thank \x1b[31m you")) as receiver:
        config = config_with(tmp_path, receiver.url, f'bearer = "{TOKEN}"', 'headers = { X-Tenant = "hidden-too" }')
        told = postroom("hooks", "test", "books", "--body", state=settings.state_dir, config=config)
    assert told.returncode == 0, told.stderr
    (seen,) = receiver.seen
    Verifier(WebhookSource.model_validate({"secrets": [SECRET]})).check(
        Presented(seen.headers, seen.body, float(seen.headers["webhook-timestamp"]))
    )
    payload = Payload.model_validate_json(seen.body)
    assert (payload.data.job.source, seen.headers["x-postroom-test"]) == ("test", "1")
    assert seen.headers["webhook-id"] == seen.headers["idempotency-key"] == payload.data.job.key
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    for shown_line in (
        f"POST {receiver.url}",
        f"webhook-id: {payload.data.job.key}",
        "HTTP 200",
        '"type": "job.processed"',
    ):
        assert shown_line in told.stdout
    assert "Authorization: ********" in told.stdout
    assert "X-Tenant: ********" in told.stdout
    for secret in (TOKEN, "hidden-too", SECRET, "\x1b"):
        assert secret not in told.stdout


@pytest.mark.parametrize(
    ("status", "said"),
    [("404 Not Found", "HTTP 404"), ("503 Service Unavailable", "HTTP 503"), ("302 Found", "redirects")],
)
def test_a_sample_that_is_refused_says_how(settings: Settings, tmp_path: Path, status: str, said: str) -> None:
    """Exit status 1, with the receiver's answer; one attempt and no more."""
    with sink(replies(status)) as receiver:
        told = postroom("hooks", "test", "books", state=settings.state_dir, config=config_with(tmp_path, receiver.url))
    assert told.returncode == 1
    assert "failed" in told.stdout
    assert said in told.stdout
    assert len(receiver.seen) == 1


def test_an_endpoint_has_to_be_configured(settings: Settings, tmp_path: Path) -> None:
    """The names that there are stand in the error."""
    config = config_with(tmp_path, "http://127.0.0.1:9/")
    for command in ("test", "listen"):
        told = postroom("hooks", command, "boks", state=settings.state_dir, config=config)
        assert (told.returncode, told.stderr.strip()) == (
            1,
            "postroom: no endpoint 'boks'; configured: books; add [endpoint.boks]",
        )


# hooks listen


@contextlib.contextmanager
def listening(settings: Settings, config: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`postroom hooks listen` in a process; yields its address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    command = [sys.executable, "-m", "daemon.cli", "--config", str(config), "hooks", "listen", *arguments]
    process = subprocess.Popen(
        command,
        cwd=REPO,
        env={**environment, "POSTROOM_STATE_DIR": str(settings.state_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first.startswith("listening on http://127.0.0.1:"), first
        yield first.removeprefix("listening on ").strip(), process
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.mark.parametrize("secret", [SECRET, PRIVATE])
def test_what_hooks_test_sends_hooks_listen_verifies(settings: Settings, tmp_path: Path, secret: str) -> None:
    """Both sides share a secret, or the listener has the public half of the sender's key."""
    config = config_with(tmp_path, "http://127.0.0.1:9/", secret=secret)
    with listening(settings, config, "books", "--count", "1") as (url, process):
        sending = config_with(tmp_path, url, f'bearer = "{TOKEN}"', secret=secret)
        told = postroom("hooks", "test", "books", state=settings.state_dir, config=sending)
        printed, _ = process.communicate(timeout=30)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "HTTP 204" in told.stdout
    assert "POST /  verified" in printed
    assert "authorization: ********" in printed
    assert TOKEN not in printed
    assert process.returncode == 0


def test_hooks_listen_tells_a_wrong_signature(settings: Settings, tmp_path: Path) -> None:
    """Another secret, an old timestamp, no signature: 401 and why; a request without a length is 411."""
    config = config_with(tmp_path, "http://127.0.0.1:9/")
    body = b'{"text": "\x1b[2J"}'
    with listening(settings, config, "books", "--count", "3") as (url, process):
        chunked = httpx.post(url, content=iter([b"x"]), trust_env=False)
        other, mine = (Verifier(WebhookSource.model_validate({"secrets": [one]})) for one in (OTHER, SECRET))
        wrong = httpx.post(url, content=body, headers=other.sign(body, "id-1", int(time.time())), trust_env=False)
        old = httpx.post(url, content=body, headers=mine.sign(body, "id-1", 1_700_000_000), trust_env=False)
        bare = httpx.post(url, content=body, trust_env=False)
        printed, _ = process.communicate(timeout=30)
    assert [one.status_code for one in (chunked, wrong, old, bare)] == [411, 401, 401, 401]
    assert "NOT verified: the timestamp is too old" in printed
    assert "NOT verified: no signature fits" in printed
    assert "NOT verified: header webhook-signature is missing" in printed
    assert "\x1b" not in printed


def test_a_long_body_is_cut_and_says_so() -> None:
    """What stands on the terminal is bounded, and what was left out is counted."""
    assert shown(b"x" * 5_000).endswith("... (1000 more characters)")


# deliveries, redeliver


@pytest.fixture(autouse=True)
def _fresh() -> None:
    webhook.forget()


class Town:
    """A job at its last stage with two deliveries, and a worker in this process."""

    def __init__(self, settings: Settings, intake: Intake, urls: dict[str, str]) -> None:
        endpoints = {name: {"url": url, "allow_private": True, "secrets": [SECRET]} for name, url in urls.items()}
        self.settings = Settings.model_validate({"state_dir": settings.state_dir, "endpoint": endpoints})
        self.shop = Workshop.open(self.settings)
        self.ledger: Ledger = self.shop.ledger
        self.job_id = intake.accept(envelope(), b"From: a@sender.example\r\n\r\nHello").job_id
        ledger = self.ledger
        for stage, state in ((Stage.EXTRACT, "classifying"), (Stage.CLASSIFY, "replying"), (Stage.REPLY, "delivering")):
            claimed = ledger.leases.claim(self.job_id, stage, State.EXTRACTING, "tester")
            assert claimed is not None
            if stage is Stage.REPLY:
                ledger.deliveries.plan(claimed[1], [self._delivery(n, name) for n, name in enumerate(urls)])
            following = list(Stage)[list(Stage).index(stage) + 1]
            row = {"stage": following.value, "state": state, "reason": ""}
            ledger.leases.finish(claimed[1], value={}, job=row, event=f"{stage.value} done", detail={})

    def _delivery(self, number: int, name: str) -> Delivery:
        key = f"{self.job_id}-{number}"
        body = b'{"to": "%s"}' % name.encode()
        return Delivery(
            ordinal=number, transport="webhook", target=name, key=key, content_type="application/json", body=body
        )

    def work(self) -> State:
        """Run the deliver stage, as a worker does."""
        run(self.shop, self.job_id, from_stage(Stage.DELIVER)[0])
        job = self.ledger.jobs.get(self.job_id)
        assert job is not None
        return job.state

    def states(self) -> list[DeliveryState]:
        return self.ledger.deliveries.of(self.job_id)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return postroom(*arguments, state=self.settings.state_dir)


@pytest.fixture
def parts(settings: Settings, intake: Intake) -> Iterator[tuple[Town, Sink, Sink]]:
    with sink(replies("200 OK")) as good, sink(replies("404 Not Found")) as bad:
        town = Town(settings, intake, {"books": good.url, "orders": bad.url})
        yield town, good, bad
        town.shop.close()


def test_what_failed_is_sent_again_and_what_was_sent_is_not(parts: tuple[Town, Sink, Sink]) -> None:
    """The same bytes under the same key, counted anew; the one that was sent stays alone."""
    town, good, bad = parts
    assert town.work() is State.FAILED
    listed = town.cli("deliveries", town.job_id)
    assert listed.returncode == 0, listed.stderr
    assert f"0  sent  webhook to books, 15 bytes, key {town.job_id}-0" in listed.stdout
    assert f"1  failed  webhook to orders, 16 bytes, key {town.job_id}-1" in listed.stdout
    assert "HTTP 404: ok" in listed.stdout
    bad.answer = replies("200 OK")
    told = town.cli("redeliver", town.job_id[-6:])
    assert (told.returncode, told.stdout.strip()) == (0, f"{town.job_id} sends again: 1"), told.stderr
    assert town.work() is State.DONE
    assert len(good.seen) == 1
    first, second = bad.seen
    assert first.body == second.body == b'{"to": "orders"}'
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == f"{town.job_id}-1"
    found: list[dict[str, Any]] = json.loads(town.cli("deliveries", town.job_id, "--json").stdout)
    assert [(one["state"], [attempt["outcome"] for attempt in one["tries"]]) for one in found] == [
        ("sent", ["sent"]),
        ("sent", ["permanent", "sent"]),
    ]


def test_sending_twice_is_for_those_who_ask_for_it(parts: tuple[Town, Sink, Sink]) -> None:
    """--resend with --delivery repeats that one under its key, and nothing else."""
    town, good, bad = parts
    bad.answer = replies("200 OK")
    assert town.work() is State.DONE
    refused = town.cli("redeliver", town.job_id)
    assert (refused.returncode, "--resend" in refused.stderr) == (1, True)
    assert town.work() is State.DONE
    assert town.cli("redeliver", town.job_id, "--delivery", "0", "--resend").returncode == 0
    assert [one.state for one in town.states()] == ["pending", "sent"]
    assert town.work() is State.DONE
    assert [len(good.seen), len(bad.seen)] == [2, 1]
    assert {seen.headers["webhook-id"] for seen in good.seen} == {f"{town.job_id}-0"}


def test_a_redelivery_that_cannot_be_made_says_why(parts: tuple[Town, Sink, Sink], intake: Intake) -> None:
    """No such delivery, nothing planned, a job before its reply, a cancelled one, one that a worker holds."""
    town, good, bad = parts

    def refusal(job_id: str, *more: str) -> str:
        told = town.cli("redeliver", job_id, *more)
        assert told.returncode == 1
        return told.stderr

    assert "has no delivery 7; it has 0, 1" in refusal(town.job_id, "--delivery", "7")
    assert "has nothing to send" in refusal(intake.accept(envelope("other"), b"x").job_id)
    claimed = town.ledger.leases.claim(town.job_id, Stage.DELIVER, State.DELIVERING, "tester")
    assert claimed is not None
    assert "a worker holds it" in refusal(town.job_id)
    town.ledger.leases.stop(claimed[1], job={"state": "delivering"}, event="test", detail={})
    assert town.ledger.jobs.retry(town.job_id, Stage.CLASSIFY, why="test")
    assert "may still change" in refusal(town.job_id)
    town.ledger.jobs.cancel(town.job_id, why="test")
    assert "was cancelled" in refusal(town.job_id)
    assert not good.seen
    assert not bad.seen
