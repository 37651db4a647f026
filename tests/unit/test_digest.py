"""The daily digest: once a day, through the ledger, with ids and what to do."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from config.settings import Settings
from daemon.cli import cli
from tasks import digest
from tasks.alerts import alert
from tasks.clock import iso, now_ms
from tasks.digest import DAY_MS, LISTED, LONGEST_MS
from tasks.errors import Permanent
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import jobs
from tests.conftest import envelope
from tests.integration.api_parts import take_to_the_end

NOW = now_ms() + 3_600_000  # an hour on: what a test does lies before it


def configured(settings: Settings, **changes: Any) -> Settings:
    values = {"state_dir": settings.state_dir, "secret": "s" * 32, "alerts": {"mail": ["a@x.example", "b@x.example"]}}
    return Settings.model_validate({**values, **changes})


def put(intake: Intake, ledger: Ledger, key: str, **row: Any) -> str:
    job_id = intake.accept(envelope(key), b"raw").job_id
    if row:
        with ledger.database.write() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**row))
    return job_id


@pytest.fixture
def ids(intake: Intake, ledger: Ledger) -> dict[str, str]:
    """One job done, one in review for long, one failed now, one failed last year, one of last year."""
    made = {"done": put(intake, ledger, "done")}
    take_to_the_end(ledger, made["done"])
    old = NOW - 400 * DAY_MS
    rests = {"state": "review", "reason": "confidence 0.4\nis low", "subject": "Bill\x07 \x1b[2J 7", "received_at": old}
    made["review"] = put(intake, ledger, "review", **rests)
    made["failed"] = put(intake, ledger, "failed", state="failed", reason="HTTP 404", received_at=old)
    made["long ago"] = put(intake, ledger, "old", state="failed", received_at=old, updated_at=old)
    return made


def test_it_tells_what_came_and_what_needs_a_person(settings: Settings, ledger: Ledger, ids: dict[str, str]) -> None:
    """Counts of the day; every job in review, however old; what failed in the day; each with its id and commands."""
    ledger.endpoints.disable("books", "HTTP 410", NOW)
    alert(ledger, configured(settings), "k", "books is disabled", "It is.")
    subject, text = digest.written(configured(settings), ledger, NOW)
    assert subject == "1 came, 1 done, 1 in review, 1 failed"
    assert ids["review"] in text
    assert ids["failed"] in text
    assert ids["long ago"] not in text
    assert "1  smtp" in text
    assert "1  invoice" in text
    assert "Bill [2J 7" in text, "nothing that steers a terminal, no line breaks"
    assert "confidence 0.4 is low" in text
    for command in ("postroom approve", "postroom retry", "postroom trace", "postroom endpoints enable books"):
        assert command in text
    assert "books is disabled  (postroom show" in text
    assert "WAITS FOR A DECISION: 1" in text
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.state == "done").values(state="delivering"))
    assert "1  delivering now" in digest.written(configured(settings), ledger, NOW)[1]


@pytest.mark.sqlite_only
def test_nothing_to_tell_is_told_as_that(settings: Settings, ledger: Ledger) -> None:
    """Somebody who expects a mail each morning shall know that it is quiet."""
    subject, text = digest.written(configured(settings), ledger, NOW)
    assert subject == "0 came, 0 done"
    assert "nothing" in text
    assert "postroom retry" not in text


def test_a_day_has_one_digest_which_is_sent_as_a_job(settings: Settings, ledger: Ledger, ids: dict[str, str]) -> None:
    """To each address, once, however often it is asked for; the next one begins where it ended."""
    configuration = configured(settings)
    job_id = digest.send(configuration, ledger, NOW)
    assert job_id
    assert digest.send(configuration, ledger, NOW) == ""
    planned = ledger.deliveries.of(job_id)
    assert [one.delivery.target for one in planned] == ["a@x.example", "b@x.example"]
    message = email.message_from_bytes(planned[0].delivery.body, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Subject"] == "Postroom: 1 came, 1 done, 1 in review, 1 failed"
    assert ids["review"] in message.get_content()
    assert [one.job_id for one in ledger.backlog.not_enqueued(9, older_than_ms=-7_200_000)][-1:] == [job_id]
    assert digest.send(configuration, ledger, NOW + DAY_MS)
    day = ledger.jobs.page(source="postroom")
    assert [job.subject for job in day] == [
        "0 came, 0 done, 1 in review",
        message["Subject"].removeprefix("Postroom: "),
    ]


@pytest.mark.sqlite_only
def test_long_lists_say_how_many_more_there_are(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """The mail stays short."""
    for number in range(LISTED + 3):
        put(intake, ledger, f"k{number}", state="failed", reason="x" * 5000)
    _, text = digest.written(configured(settings), ledger, NOW)
    assert "and 3 more" in text
    assert len(text) < 8000


@pytest.mark.sqlite_only
def test_after_a_long_silence_a_week_is_told(settings: Settings, ledger: Ledger) -> None:
    """Not all that ever was."""
    digest.send(configured(settings), ledger, NOW - 100 * DAY_MS)
    _, text = digest.written(configured(settings), ledger, NOW)
    assert text.startswith(f"From {iso(NOW - LONGEST_MS)} to {iso(NOW)}")


@pytest.mark.sqlite_only
def test_what_is_wrong_is_said(settings: Settings, ledger: Ledger, tmp_path: Any) -> None:
    """Nobody to tell; a template that is missing, or broken."""
    with pytest.raises(Permanent, match=r"write mail = .* into \[alerts\]"):
        digest.send(configured(settings, alerts={}), ledger, NOW)
    with pytest.raises(Permanent, match=r"digest.txt.j2 is missing"):
        digest.written(configured(settings, templates_dir=tmp_path), ledger, NOW)
    (tmp_path / "digest").mkdir()
    (tmp_path / "digest" / "digest.txt.j2").write_text("{{ day.nothing }}")
    with pytest.raises(Permanent, match=r"template digest/digest.txt.j2: .*nothing"):
        digest.written(configured(settings, templates_dir=tmp_path), ledger, NOW)


@pytest.mark.sqlite_only
def test_the_command(settings: Settings, ledger: Ledger, ids: dict[str, str]) -> None:
    """--dry-run prints and keeps nothing; a second call the same day sends nothing and says so."""
    environment = {"POSTROOM_STATE_DIR": str(settings.state_dir), "POSTROOM_LEDGER_URL": settings.ledger_url}
    environment |= {"POSTROOM_ALERTS__MAIL": '["admin@team.example"]'}

    def run(*arguments: str) -> str:
        ended = CliRunner().invoke(cli, ["digest", *arguments], env=environment)
        assert ended.exit_code == (2 if "soon" in arguments else 0), ended.output
        return ended.output

    told = environment.pop("POSTROOM_ALERTS__MAIL")
    assert "nobody is told: write mail" in run(), "a timer where nobody is to be told is no failure"
    environment["POSTROOM_ALERTS__MAIL"] = told
    assert ids["review"] in run("--dry-run", "--since", "2d")
    assert not ledger.jobs.page(source="postroom")
    assert "goes to 1 addresses" in run()
    assert "was made before" in run()
    assert "is no time" in run("--since", "soon")
