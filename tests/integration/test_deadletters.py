"""Running many jobs again by what they have in common, and telling them whole in a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import Settings
from daemon.deadletters import PAGE, Filter
from tasks.blobs import Blobs
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import jobs
from tasks.models import Stage, State
from tests.commands import postroom
from tests.conftest import envelope

OUTAGE = "the endpoint \\ answered 100% of_the time with 503"


def dead(intake: Intake, ledger: Ledger, key: str, reason: str = OUTAGE, **changes: object) -> str:
    """A job that failed in classify."""
    job_id = intake.accept(envelope(key, **changes), b"From: a@x.example\r\n\r\n" + key.encode()).job_id
    for stage, state in ((Stage.EXTRACT, State.EXTRACTING), (Stage.CLASSIFY, State.CLASSIFYING)):
        claimed = ledger.leases.claim(job_id, stage, state, "w")
        assert claimed
        if stage is Stage.CLASSIFY:
            ledger.leases.stop(claimed[1], job={"state": "failed", "reason": reason}, event="failed", detail={})
        else:
            row = {"stage": "classify", "state": "classifying", "label": changes.get("name", "")}
            ledger.leases.finish(claimed[1], value={}, job=row, event="extract done", detail={})
    return job_id


def states(ledger: Ledger) -> dict[str, State]:
    return {job.id: job.state for job in ledger.jobs.page(limit=1000)}


def test_a_filter_finds_what_fits(intake: Intake, ledger: Ledger) -> None:
    """Each condition narrows; text is plain text; the oldest come first."""
    first, second = dead(intake, ledger, "a"), dead(intake, ledger, "b", source="webhook:shop", name="invoice")
    other = dead(intake, ledger, "c", "a bug")
    none = Filter((State.FAILED,), "", "", 0, "")
    assert [job.id for job in none.jobs(ledger)] == [first, second, other]
    assert [job.id for job in Filter((State.FAILED,), "", "", 0, "100% OF_THE").jobs(ledger)] == [first, second]
    assert [job.id for job in Filter((), "webhook:shop", "", 0, "").jobs(ledger)] == [second]
    assert [job.id for job in Filter((), "", "invoice", 0, "").jobs(ledger)] == [second]
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == first).values(received_at=1000))
    assert [job.id for job in Filter((State.FAILED,), "", "", 1001, "").jobs(ledger)] == [second, other]
    assert Filter((State.DONE,), "", "", 0, "").jobs(ledger) == []


def test_a_filter_goes_over_every_page(intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left out and none comes twice, however many there are."""
    monkeypatch.setattr("daemon.deadletters.PAGE", 3)
    made = [intake.accept(envelope(str(number)), b"x").job_id for number in range(10)]
    assert sorted(job.id for job in Filter((State.RECEIVED,), "", "", 0, "").jobs(ledger)) == sorted(made)
    assert PAGE > 3


@pytest.mark.sqlite_only
def test_all_that_fit_run_again(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """A dry run lists them; the run puts each back where it stopped, and leaves all others as they are."""
    first, second = dead(intake, ledger, "a"), dead(intake, ledger, "b")
    other = dead(intake, ledger, "c", "a bug")
    asked = ("retry", "--state", "failed", "--reason", "503", "--since", "1h")
    told = postroom(*asked, "--dry-run", state=settings.state_dir)
    assert told.stdout.splitlines() == [
        f"{first} would run again from classify: {OUTAGE}",
        f"{second} would run again from classify: {OUTAGE}",
        "2 jobs would run again, 0 were left as they are",
    ]
    assert set(states(ledger).values()) == {State.FAILED}
    told = postroom(*asked, state=settings.state_dir)
    assert told.stdout.splitlines()[-1] == "2 jobs run again, 0 were left as they are"
    assert states(ledger) == {first: State.CLASSIFYING, second: State.CLASSIFYING, other: State.FAILED}
    assert ledger.jobs.find(first).attempts == 0


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name one of JOB and --state"),
        (("abcd", "--state", "failed"), "name one of JOB and --state"),
        (("abcd", "--reason", "x"), "go with --state"),
        (("--state", "failed", "--since", "yesterday"), "'yesterday' is no time"),
        (("--state", "dead"), "'dead' is not one of"),
    ],
)
def test_a_question_that_makes_no_sense(
    settings: Settings, ledger: Ledger, arguments: tuple[str, ...], told: str
) -> None:
    """What was wrong, exit status 2, and nothing is changed."""
    ended = postroom("retry", *arguments, state=settings.state_dir)
    assert ended.returncode == 2
    assert told in " ".join(ended.stderr.split())


@pytest.mark.sqlite_only
def test_jobs_are_told_whole_in_a_file(settings: Settings, intake: Intake, ledger: Ledger, tmp_path: Path) -> None:
    """One JSON object a line with story and raw bytes; a raw message that is gone is told and stops nothing."""
    first = dead(intake, ledger, "a")
    large = intake.accept(envelope("large"), b"x" * 100_000).job_id
    Blobs(settings.blobs_dir).path(ledger.jobs.find(large).raw_sha256).unlink()
    file = tmp_path / "dead.jsonl"
    assert postroom("export", str(file), "--raw", state=settings.state_dir).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    told = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [one["id"] for one in told] == [first, large]
    assert base64.b64decode(told[0]["raw"]) == b"From: a@x.example\r\n\r\na"
    assert [event["event"] for event in told[0]["events"]] == ["accepted", "extract done", "failed"]
    assert told[1]["raw"] is None
    assert "missing" in told[1]["raw_missing"]
    streamed = postroom("export", "-", "--state", "failed", state=settings.state_dir)
    [only] = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert (only["id"], "raw" in only) == (first, False)
