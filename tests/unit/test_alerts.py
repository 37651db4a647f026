"""One alert for one thing, however often and by however many it is noticed."""

from __future__ import annotations

import email
import email.policy
import json
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.errors import ConfigError
from config.settings import TEMPLATES, Settings, load
from daemon.web.results import result_of
from tasks import alerts, log
from tasks.alerts import alert, schema, template_problems
from tasks.blobs import Blobs
from tasks.errors import Permanent
from tasks.intake import raw_of
from tasks.ledger import Ledger
from tasks.loops import no_reply_because
from tasks.models import Envelope, Job, Kind, MailFacts, Stage, State
from tasks.story import story

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = "The receiver answers 503.\n\nRepair it, then say so."


def configured(settings: Settings, **changes: Any) -> Settings:
    """Alerts to two people and one endpoint, unless changed."""
    told = {"mail": ["admin@team.example", "night@team.example"], "webhook": "pager"}
    endpoint = {"pager": {"url": "http://127.0.0.1:9/in", "allow_private": True}}
    values = {"state_dir": settings.state_dir, "alerts": told, "endpoint": endpoint, "secret": "s" * 32}
    return Settings.model_validate({**values, **changes})


def only_job(ledger: Ledger) -> Job:
    [job] = ledger.jobs.page(source="postroom")
    return job


def test_an_alert_is_a_job_at_its_last_stage(settings: Settings, ledger: Ledger) -> None:
    """What is sent, to whom and under which name stands in the ledger in one commit."""
    assert alert(ledger, configured(settings), "endpoint:books:1", "books is disabled", TEXT)
    job = only_job(ledger)
    assert (job.key, job.state, job.stage) == ("endpoint:books:1", State.DELIVERING, Stage.DELIVER)
    assert (job.subject, job.sender, job.label) == ("books is disabled", "", None)
    planned = ledger.deliveries.of(job.id)
    assert [(one.delivery.transport, one.delivery.target) for one in planned] == [
        ("smtp", "admin@team.example"),
        ("smtp", "night@team.example"),
        ("webhook", "pager"),
    ]
    assert len({one.delivery.key for one in planned}) == 3
    assert [one.job_id for one in ledger.backlog.not_enqueued(9, older_than_ms=0)] == [job.id]


def test_the_mail_is_a_new_one_written_by_a_machine(settings: Settings, ledger: Ledger) -> None:
    """It stands in no thread, carries its text and what to look at, and no machine answers it."""
    alert(ledger, configured(settings), "k", "Überlauf\r\nBcc: x@y.test", TEXT + "\n.\nGrüße")
    job = only_job(ledger)
    raw = ledger.deliveries.of(job.id)[0].delivery.body
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert (message["Subject"], message["Bcc"]) == ("Postroom: Überlauf Bcc: x@y.test", None)
    assert (message["To"], message["Auto-Submitted"]) == ("admin@team.example", "auto-generated")
    assert message["Message-ID"] == ledger.deliveries.of(job.id)[0].delivery.key
    assert message["In-Reply-To"] is None
    words = message.get_content().replace("\r\n", "\n")
    assert words.startswith(f"{TEXT}\n.\nGrüße\n")
    assert job.id in words
    headers = {name.lower(): [str(value)] for name, value in message.items()}
    envelope = Envelope(source="smtp", kind=Kind.MAIL, key="k")
    assert no_reply_because(headers, envelope, MailFacts(), frozenset())


def test_the_webhook_follows_its_published_schema(settings: Settings, ledger: Ledger) -> None:
    """docs/webhook-alert.schema.json is the code's, and what is sent passes it."""
    published = json.loads((DOCS / "webhook-alert.schema.json").read_text())
    assert published == schema()
    public = configured(settings, web={"public_url": "https://post.example/"})
    alert(ledger, public, "k", "something", TEXT)
    job = only_job(ledger)
    delivery = ledger.deliveries.of(job.id)[2].delivery
    body = json.loads(delivery.body)
    jsonschema.Draft202012Validator(published).validate(body)
    assert not jsonschema.Draft202012Validator(published).is_valid({**body, "type": "job.processed"})
    assert (body["type"], body["data"]["key"], body["data"]["text"]) == ("alert", "k", TEXT)
    assert body["data"]["url"] == f"https://post.example/jobs/{job.id}"
    assert (delivery.key, delivery.content_type) == (f"{job.id}-2", "application/json")


@pytest.mark.parametrize(
    "name", [path.name.removesuffix(".alert.json.j2") for path in (TEMPLATES / "webhook").glob("*.alert.json.j2")]
)
def test_an_endpoint_with_a_template_gets_alerts_by_the_templates_twin(
    settings: Settings, ledger: Ledger, name: str
) -> None:
    """A chat's webhook gets what it understands, without the receiver's words being read as markup."""
    chat = {"pager": {"url": "http://127.0.0.1:9/in", "allow_private": True, "template": name}}
    alert(ledger, configured(settings, endpoint=chat), "k", '", "x": "<!channel>', TEXT)
    body = json.loads(ledger.deliveries.of(only_job(ledger).id)[2].delivery.body)
    assert body == {"text": f'*", "x": "&lt;!channel&gt;*\n{TEXT}'}


def test_a_broken_template_keeps_no_alert_back(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """`postroom check` tells it; the alert goes out as documented."""
    (tmp_path / "webhook").mkdir()
    (tmp_path / "webhook" / "chat.alert.json.j2").write_text('{"text": {{ data.nonesuch | tojson }}}')
    chat = {"pager": {"url": "http://127.0.0.1:9/in", "allow_private": True, "template": "chat"}}
    broken = configured(settings, endpoint=chat, templates_dir=tmp_path)
    assert "chat.alert.json.j2" in template_problems(broken)[0]
    alert(ledger, broken, "k", "something", TEXT)
    assert json.loads(ledger.deliveries.of(only_job(ledger).id)[2].delivery.body)["type"] == "alert"


def test_many_who_notice_at_once_make_one_alert(settings: Settings, ledger: Ledger) -> None:
    """Sixteen threads with one key: one is told that it is new, and one job is there."""
    told = configured(settings)
    with ThreadPoolExecutor(16) as pool:
        new = list(pool.map(lambda number: alert(ledger, told, "k", f"seen by {number}", TEXT), range(16)))
    assert sum(new) == 1
    assert len(ledger.deliveries.of(only_job(ledger).id)) == 3
    assert alert(ledger, told, "another", "other", TEXT)


def test_an_endpoint_hears_nothing_about_itself(settings: Settings, ledger: Ledger) -> None:
    """What is dead cannot be told that it is; the people are."""
    alert(ledger, configured(settings), "k", "pager is disabled", TEXT, about_endpoint="pager")
    planned = ledger.deliveries.of(only_job(ledger).id)
    assert {one.delivery.transport for one in planned} == {"smtp"}


def test_without_anybody_to_tell_it_is_logged_once(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is done as it is written, and the log has all of it."""
    lines: list[tuple[Any, ...]] = []
    monkeypatch.setattr(log, "alert", lambda *told: lines.append(told))
    for _ in range(2):
        alert(ledger, settings, "k", "something", TEXT)
    job = only_job(ledger)
    assert (job.state, job.stage) == (State.DONE, None)
    assert "logged" in job.reason
    assert lines == [(job.id, "k", "something", TEXT, 0)]
    assert ledger.backlog.not_enqueued(9, older_than_ms=0) == []


def test_an_address_that_cannot_be_written_keeps_the_others_informed(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recipient that no mail can be made for is logged; the rest is sent."""
    lines: list[tuple[Any, ...]] = []
    monkeypatch.setattr(log, "alert_not_told", lambda *told: lines.append(told))
    odd = {"mail": ["admin@\u00fc..example", "night@team.example"], "webhook": ""}
    alert(ledger, configured(settings, alerts=odd), "k", "something", TEXT)
    assert [one.delivery.target for one in ledger.deliveries.of(only_job(ledger).id)] == ["night@team.example"]
    assert lines[0][:2] == ("k", "smtp")


def test_nothing_chokes_on_a_job_that_was_never_read(settings: Settings, ledger: Ledger) -> None:
    """Its story, its raw text and its result can be asked for like any other's."""
    alert(ledger, configured(settings), "k", "something", TEXT)
    job = only_job(ledger)
    told = story(ledger, job)
    assert (told["mail"], told["classification"], told["reply"], told["documents"]) == (None, None, None, [])
    assert len(told["deliveries"]) == 3
    assert raw_of(ledger, Blobs(settings.blobs_dir), job.id, job.raw_sha256) == TEXT.encode()
    assert result_of(ledger, job, "") is None
    done = job.model_copy(update={"state": State.DONE, "stage": None})
    assert result_of(ledger, done, "") is None


def test_an_alert_is_never_read_and_judged(settings: Settings, ledger: Ledger) -> None:
    """A retry from an earlier stage would feed it to the model and replace what it sends."""
    alert(ledger, configured(settings), "k", "something", TEXT)
    job = only_job(ledger)
    for stage in (Stage.EXTRACT, Stage.CLASSIFY, Stage.REPLY):
        with pytest.raises(Permanent, match="--from deliver"):
            ledger.jobs.retry(job.id, stage, why="test")
    assert ledger.jobs.retry(job.id, Stage.DELIVER, why="test")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[alerts]\nwebhook = "pagr"\n', ":2: alerts.webhook: endpoint 'pagr' is not configured; add [endpoint.pagr]"),
        ('[alerts]\nmail = ["admin at home"]\n', ":2: alerts.mail: 'admin at home' is no mail address; write mail = ["),
    ],
)
def test_a_wrong_section_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    """An endpoint that is not there, or what is no address: file, line and what to write."""
    path = tmp_path / "postroom.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}{said}")


def test_the_environment_is_named_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the variable is told."""
    monkeypatch.delenv("POSTROOM_CONFIG", raising=False)
    monkeypatch.setenv("POSTROOM_ALERTS__WEBHOOK", "pager")
    with pytest.raises(ConfigError, match="POSTROOM_ALERTS__WEBHOOK"):
        load()


def test_the_example_passes_the_schema() -> None:
    """What templates are tried with is what is sent."""
    jsonschema.Draft202012Validator(schema()).validate(alerts.EXAMPLE.model_dump(mode="json"))


def test_a_flood_of_alerts_is_stored_and_one_says_so(settings: Settings, ledger: Ledger) -> None:
    """Beyond `per_hour` nobody is told of each: they stand in the ledger, and the last mail says where to look."""
    flooded = configured(settings, alerts={"mail": ["admin@team.example"], "per_hour": 3})
    assert all(alert(ledger, flooded, f"k{number}", "down", TEXT) for number in range(6))
    assert not alert(ledger, flooded, "k5", "down", TEXT)
    found = ledger.jobs.page(source="postroom")
    told = {job.key.partition(":")[0] for job in found if ledger.deliveries.of(job.id)}
    assert told == {"k0", "k1", "k2", "alerts-held"}
    untold = [job for job in found if not ledger.deliveries.of(job.id)]
    assert {(job.state, job.reason) for job in untold} == {(State.DONE, "more than 3 alerts within an hour")}
    [held] = [job for job in found if job.key.startswith("alerts-held")]
    assert b"postroom jobs --source postroom" in ledger.deliveries.of(held.id)[0].delivery.body
