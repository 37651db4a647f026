"""The command line, as an admin types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Stage, State
from tests.commands import postroom
from tests.conftest import envelope

pytestmark = pytest.mark.sqlite_only
COMMANDS = (
    "up",
    "check",
    "try",
    "jobs",
    "show",
    "retry",
    "export",
    "backup",
    "restore",
    "retention",
    "trace",
    "digest",
    "approve",
    "cancel",
    "submit",
    "token",
    "deliveries",
    "redeliver",
    "endpoints",
    "hooks",
    "imap",
    "smtp",
    "folder",
    "web",
    "worker",
    "rescue",
    "flower",
    "migrate",
    "systemd",
)


@pytest.fixture
def job_id(intake: Intake) -> str:
    return intake.accept(envelope(sender="ada@sender.example"), b"From: ada@sender.example\r\n\r\nHello").job_id


def test_help_names_every_command(settings: Settings) -> None:
    """One screen tells what there is; no command is without a sentence."""
    told = postroom("--help", state=settings.state_dir).stdout
    for name in COMMANDS:
        line = next(line for line in told.splitlines() if line.strip("│ ").split()[:1] == [name])
        assert len(line.split()) > 3, line


def test_jobs_and_show_tell_the_story(settings: Settings, job_id: str) -> None:
    """The list has the job, and a few characters of its id show it whole."""
    assert job_id in postroom("jobs", state=settings.state_dir).stdout
    told = postroom("show", job_id[-6:], state=settings.state_dir)
    assert told.returncode == 0
    assert "ada@sender.example" in told.stdout
    assert "accepted" in told.stdout
    assert json.loads(postroom("show", job_id, "--json", state=settings.state_dir).stdout)["id"] == job_id


def test_a_job_that_is_not_there(settings: Settings, ledger: Ledger) -> None:
    """One line, exit status 1, no traceback."""
    told = postroom("show", "nonesuch", state=settings.state_dir)
    assert told.returncode == 1
    assert told.stderr.startswith("postroom: no job 'nonesuch'")
    assert "Traceback" not in told.stderr


def test_only_events_are_fetched_again(settings: Settings, job_id: str, ledger: Ledger) -> None:
    """A mail has nothing to fetch, and the answer says where to begin instead."""
    refused = postroom("retry", job_id, "--from", "fetch", state=settings.state_dir)
    assert refused.returncode == 1
    assert "is a mail: only events have files to fetch; write --from extract" in refused.stderr
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert job.stage is Stage.EXTRACT


def test_cancel_and_retry(settings: Settings, job_id: str, ledger: Ledger) -> None:
    """A job can be stopped, and put to work again from a stage."""
    assert postroom("cancel", job_id, state=settings.state_dir).returncode == 0
    again = postroom("cancel", job_id, state=settings.state_dir)
    assert (again.returncode, "it is cancelled" in again.stderr) == (1, True)
    assert postroom("retry", job_id, "--from", "extract", state=settings.state_dir).returncode == 0
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.stage) == (State.EXTRACTING, Stage.EXTRACT)


def test_approve_takes_only_what_waits_for_it(settings: Settings, job_id: str) -> None:
    """Approving is for jobs in review."""
    told = postroom("approve", job_id, state=settings.state_dir)
    assert told.returncode == 1
    assert "not in review" in told.stderr


def test_submit_twice_is_one_job(settings: Settings, tmp_path: Path, ledger: Ledger) -> None:
    """The same file again is told to be known, although no broker listens."""
    file = tmp_path / "note.txt"
    file.write_text("Hello")
    broker = {"POSTROOM_BROKER_URL": "redis://127.0.0.1:9/0"}
    first = postroom("submit", str(file), state=settings.state_dir, **broker)
    second = postroom("submit", str(file), state=settings.state_dir, **broker)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() in second.stdout
    assert "accepted before" in second.stdout
    assert len(ledger.jobs.page()) == 1


def test_submit_names_a_file_that_is_not_there(settings: Settings, ledger: Ledger) -> None:
    """The path and why."""
    told = postroom("submit", "/no/such/file.pdf", state=settings.state_dir)
    assert told.returncode == 1
    assert told.stderr.strip() == "postroom: /no/such/file.pdf cannot be read: No such file or directory"


@pytest.mark.parametrize("process", ["check", "smtp", "worker", "rescue", "web", "up"])
def test_bad_configuration_ends_with_status_2(settings: Settings, tmp_path: Path, process: str) -> None:
    """Every process refuses a wrong file with one line and the status that systemd does not restart."""
    config = tmp_path / "postroom.toml"
    config.write_text("[smtp]\nprt = 25\n")
    told = postroom(process, state=settings.state_dir, config=config)
    assert told.returncode == 2
    assert told.stderr.strip() == f"{config}:2: smtp.prt: unknown key; did you mean `port`?"


def test_check_tells_what_cannot_be_reached(settings: Settings, tmp_path: Path) -> None:
    """Unreachable SMTP and endpoint: what, where, what to do, exit status 1; all the rest is looked at too."""
    config = tmp_path / "postroom.toml"
    config.write_text(
        '[smtp_out]\nhost = "127.0.0.1"\nport = 9\n'
        '[endpoint.accounting]\nurl = "http://127.0.0.1:9/in"\nallow_private = true\n'
        '[endpoint.orders]\nurl = "http://127.0.0.1:9/in"\nallow_private = true\n'
    )
    told = postroom("check", state=settings.state_dir, config=config)
    assert told.returncode == 1, told.stderr
    lines = {line.split(None, 1)[1].split(":")[0]: line for line in told.stdout.splitlines()}
    assert lines["ledger"].startswith("ok")
    smtp = next(line for line in told.stdout.splitlines() if "smtp_out" in line)
    assert smtp == (
        "failed  smtp_out 127.0.0.1:9: refuses the connection: nothing listens there;"
        " start it, or set [smtp_out] host and port to the server that takes our replies"
    )
    assert "mend [endpoint.accounting] url" in told.stdout
