"""Alerts on their way out: a real SMTP server, a real receiver, and an admin who looks at what was sent."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import Settings
from tasks.alerts import alert
from tasks.ledger import Ledger
from tasks.models import Job, Stage, State
from tasks.pipeline import from_stage, run
from tasks.transports import webhook
from tasks.workshop import Workshop
from tests.commands import postroom
from tests.integration.api_parts import running
from tests.integration.test_smtp_out import sink as mail_sink
from tests.integration.webhook_parts import problem, replies, sink

[DELIVER] = from_stage(Stage.DELIVER)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    webhook.forget()
    yield
    webhook.forget()


def configured(settings: Settings, port: int, url: str) -> Settings:
    values: dict[str, Any] = {
        "state_dir": settings.state_dir,
        "ledger_url": settings.ledger_url,
        "smtp_out": {"port": port, "domain": "post.example"},
        "endpoint": {"pager": {"url": url, "allow_private": True}},
        "alerts": {"mail": ["admin@team.example", "night@team.example"], "webhook": "pager"},
    }
    return Settings.model_validate(values)


def alert_job(ledger: Ledger) -> Job:
    [job] = ledger.jobs.page(source="postroom")
    return job


def test_everybody_is_told_once(settings: Settings, ledger: Ledger) -> None:
    """A mail to each person and one request, although it was noticed three times and the stage ran twice."""
    with mail_sink() as (post, port), sink(replies("200 OK")) as pager:
        shop = Workshop.open(configured(settings, port, pager.url))
        for _ in range(3):
            alert(ledger, shop.settings, "k", "disk full", "Make room.")
        job = alert_job(ledger)
        for _ in range(2):
            run(shop, job.id, DELIVER)
        assert shop.ledger.deliveries.sent_to("admin@team.example", 0) == [], "an alert is no reply to be counted"
        shop.close()
    assert alert_job(ledger).state is State.DONE
    assert [recipients for _, recipients, _, _ in post.got] == [["admin@team.example"], ["night@team.example"]]
    message = email.message_from_bytes(post.got[0][2], policy=email.policy.default)
    assert message["Subject"] == "Postroom: disk full"
    assert message["Auto-Submitted"] == "auto-generated"
    [seen] = pager.seen
    assert json.loads(seen.body)["data"]["subject"] == "disk full"
    assert seen.headers["idempotency-key"] == f"{job.id}-2"


def test_an_alert_that_cannot_be_sent_fails_alone(settings: Settings, ledger: Ledger) -> None:
    """The receiver refuses it: the people have heard, the job is a dead letter, and no alert follows from it."""
    with mail_sink() as (post, port), sink(replies("404 Not Found")) as pager:
        shop = Workshop.open(configured(settings, port, pager.url))
        alert(ledger, shop.settings, "k", "disk full", "Make room.")
        run(shop, alert_job(ledger).id, DELIVER)
        shop.close()
    assert len(post.got) == 2
    assert alert_job(ledger).state is State.FAILED


@pytest.mark.sqlite_only  # a process for each command
def test_an_admin_finds_it_like_any_job(settings: Settings, ledger: Ledger) -> None:
    """`jobs --source postroom`, `show`, `deliveries` and `retry` on the terminal; story, raw text and result by HTTP."""
    alert(ledger, configured(settings, 9, "http://127.0.0.1:9/"), "k", "disk full", "Make room.")
    job = alert_job(ledger)

    def cli(*arguments: str) -> str:
        told = postroom(*arguments, state=settings.state_dir)
        assert told.returncode == 0, told.stderr
        return told.stdout

    assert "disk full" in cli("jobs", "--source", "postroom")
    assert "webhook to pager" in cli("show", job.id)
    assert "smtp to admin@team.example" in cli("deliveries", job.id)
    refused = postroom("retry", job.id, "--from", "classify", state=settings.state_dir)
    assert (refused.returncode, "only be sent again" in refused.stderr) == (1, True)
    assert "from deliver" in cli("retry", job.id)
    with running(settings) as house:
        told = house.http.get(f"/jobs/{job.id}").json()
        assert (told["source"], told["classification"], len(told["deliveries"])) == ("postroom", None, 3)
        assert house.http.get(f"/jobs/{job.id}/raw").content == b"Make room."
        problem(house.http.get(f"/jobs/{job.id}/result"), 409, "not-ended")
        house.ledger.jobs.cancel(job.id, why="test")
        problem(house.http.get(f"/jobs/{job.id}/result"), 404, "no-result")
