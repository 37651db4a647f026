"""`postroom trace`: a message is found by whatever name an admin has for it, and its story is in order of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from config.settings import Settings
from daemon import journal
from daemon.cli import cli
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.imap_messages import imap_messages
from tasks.ledger.schema import jobs
from tasks.models import Delivery, Outcome, Stage, State
from tests.conftest import envelope
from tests.integration.api_parts import claim, finish

KEY = "<answer.1@post.example>"


def run(settings: Settings, *arguments: str) -> tuple[int, str]:
    environment = {"POSTROOM_STATE_DIR": str(settings.state_dir), "POSTROOM_LEDGER_URL": settings.ledger_url}
    ended = CliRunner().invoke(cli, ["trace", *arguments], env=environment | {"COLUMNS": "200"})
    return ended.exit_code, ended.output + (str(ended.exception) if ended.exit_code == 1 else "")


@pytest.fixture
def job_id(intake: Intake, ledger: Ledger) -> str:
    """A mail that was answered at the second attempt."""
    made = intake.accept(envelope("k1"), b"raw").job_id
    with ledger.database.write() as connection:
        named = sa.update(jobs).where(jobs.c.id == made)
        connection.execute(named.values(message_id="<bill.4711@sender.example>", subject="Bill\x1b[31m 7"))
    finish(ledger, made, Stage.EXTRACT, State.EXTRACTING, {"mail": None}, state="classifying")
    finish(ledger, made, Stage.CLASSIFY, State.CLASSIFYING, {}, state="replying")
    lease = claim(ledger, made, Stage.REPLY, State.REPLYING)
    answer = Delivery(ordinal=0, transport="smtp", target="a@sender.example", key=KEY, body=b"mail")
    ledger.deliveries.plan(lease, [answer])
    ledger.leases.finish(
        lease, value={}, job={"stage": "deliver", "state": "delivering"}, event="reply done", detail={}
    )
    lease = claim(ledger, made, Stage.DELIVER, State.DELIVERING)
    waits = {"state": "waiting", "due_at": 1}
    ledger.leases.stop(lease, job=waits, event="waits", detail={"reason": "busy", "due_at": 1772442851000})
    lease = claim(ledger, made, Stage.DELIVER, State.DELIVERING)
    first = ledger.deliveries.begin(lease, 0, 1)
    ledger.deliveries.failed(lease, 0, first, 1, outcome="transient", reason="451 later", due_at=0)
    second = ledger.deliveries.begin(lease, 0, 2)
    ledger.deliveries.sent(lease, 0, second, 2, Outcome(detail="250 queued as 4F2", code=250))
    ledger.leases.finish(
        lease, value={}, job={"stage": None, "state": "done"}, event="deliver done", detail={"sent": 1}
    )
    return made


def test_a_message_is_found_by_each_of_its_names(settings: Settings, job_id: str) -> None:
    """Its Message-ID with and without brackets, that of our answer, its job's id and a part of it."""
    for name in ("<bill.4711@sender.example>", "bill.4711@sender.example", KEY, job_id, job_id[-6:], job_id.upper()):
        status, said = run(settings, name, "--no-journal")
        assert status == 0, said
        assert job_id in said


@pytest.mark.sqlite_only
def test_the_story_is_whole_and_in_order(settings: Settings, job_id: str) -> None:
    """Arrival, stages with their length, attempts with their outcomes; and a subject cannot steer the terminal."""
    _, said = run(settings, job_id, "--no-journal")
    wanted = (
        "accepted",
        "extract began",
        "extract done",
        "classify done",
        "reply done",
        "attempt 1 began",
        "attempt 1 transient",
        "attempt 2 sent",
        "deliver done",
    )
    places = [said.index(what) for what in wanted]
    assert places == sorted(places)
    assert "smtp to a@sender.example: 250 queued as 4F2" in said
    assert "took 0" in said
    assert "due_at=2026-03-02T09:14:11Z" in said
    assert "\x1b" not in said


@pytest.mark.sqlite_only
def test_a_program_gets_json(settings: Settings, job_id: str) -> None:
    """Lines in order of time, each with its source."""
    status, said = run(settings, job_id, "--no-journal", "--json")
    assert status == 0
    (told,) = json.loads(said)["jobs"]
    assert (told["id"], told["state"]) == (job_id, "done")
    assert [line["at"] for line in told["lines"]] == sorted(line["at"] for line in told["lines"])
    assert {line["source"] for line in told["lines"]} == {"ledger"}


def test_a_name_that_nobody_knows_gets_names_like_it(settings: Settings, job_id: str) -> None:
    """One letter wrong, or a part of it; and a word to go on with when nothing is alike."""
    for name in ("<bil.4711@sender.example>", "bill.4711"):
        status, said = run(settings, name)
        assert (status, job_id in said) == (1, True), said
        assert "it looks like" in said
    status, said = run(settings, "<nobody@nowhere.example>")
    assert (status, "postroom jobs --search" in said) == (1, True)


def test_a_vague_id_is_not_guessed(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """Several jobs of one second begin alike: their ids are told."""
    ids = [intake.accept(envelope(f"k{number}"), b"raw").job_id for number in range(2)]
    status, said = run(settings, ids[0][:4])
    assert status == 1
    assert all(job_id in said for job_id in ids)


def test_what_a_mailbox_has_and_no_job_is_told(settings: Settings, ledger: Ledger) -> None:
    """A mail that was passed over: where it is, and why."""
    zero = dict.fromkeys(("size", "tries", "due_at", "settled", "follows", "at_validity", "at_uid"), 0)
    row: dict[str, Any] = {"account": "support", "folder": "INBOX", "validity": 1, "uid": 7, "state": "too large"}
    row |= {"message_id": "<big@x.example>", "reason": "31 MB", "job_id": "", "at_folder": "", "placed": ""}
    with ledger.database.write() as connection:
        connection.execute(sa.insert(imap_messages).values(seen_at=now_ms(), **zero, **row))
    status, said = run(settings, "big@x.example")
    assert status == 0
    assert "mailbox support/INBOX, UID 7: too large: 31 MB" in said


ENTRIES = (
    {"__REALTIME_TIMESTAMP": "1760000000123456", "_SYSTEMD_UNIT": "postroom-worker@model.service"}
    | {
        "MESSAGE": json.dumps({"event": "stage done", "job": "j", "stage": "classify", "seconds": 1.5, "level": "info"})
    },
    {"__REALTIME_TIMESTAMP": "1760000000124000", "SYSLOG_IDENTIFIER": "postroom", "MESSAGE": list(b"bytes \xff")},
    {"MESSAGE": "without a time"},
)


@pytest.fixture
def journalctl(tmp_path: Path) -> Path:
    """Stands in for the program, with what it writes: this machine's journal cannot be written to by a test."""
    (tmp_path / "entries").write_text("\n".join(map(json.dumps, ENTRIES)) + "\nno json\n")
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat {tmp_path}/entries\n')
    program.chmod(0o755)
    return program


def test_the_journals_lines_are_read(journalctl: Path) -> None:
    """By the job's field; our own lines taken apart, others as they are, broken ones left out."""
    found = journal.lines_of("j", str(journalctl))
    assert (journalctl.parent / "arguments").read_text().split()[0] == "POSTROOM_JOB=j"
    assert [(line.at, line.source, line.what, line.detail) for line in found.lines] == [
        (1760000000123, "postroom-worker@model", "stage done", "stage=classify  seconds=1.5"),
        (1760000000124, "postroom", "bytes \N{REPLACEMENT CHARACTER}", ""),
    ]


@pytest.mark.sqlite_only
def test_the_journal_and_the_ledger_become_one_story(
    settings: Settings, job_id: str, journalctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of time; and it says when the journal has nothing."""
    monkeypatch.setenv("PATH", str(journalctl.parent), prepend=":")
    said = run(settings, job_id)[1].splitlines()
    lines = [line for line in said if line.startswith("20")]
    times = [line.partition(" ")[0] for line in lines]  # what took no millisecond began and ended in the same one
    assert times == sorted(times)
    assert "postroom-worker@model  stage done" in lines[0]
    (journalctl.parent / "entries").write_text("")
    assert "without the journal: the journal has nothing of this job" in run(settings, job_id)[1]
    assert journal.lines_of("j", "no-such-program").why_none == "journalctl is not on this machine"
