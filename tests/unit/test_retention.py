"""What is forgotten, and what never is."""

from __future__ import annotations

import os
import time

import pytest
import sqlalchemy as sa

from config.engine import RetentionSettings
from config.settings import Settings
from daemon.retention import SlowTick
from tasks.blobs import Blobs
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import attempts, deliveries, documents, events, jobs, results
from tasks.models import Kind, Stage, State
from tasks.retention import DAY_MS, preview, sweep
from tests.commands import postroom
from tests.conftest import envelope
from tests.integration.api_parts import take_to_the_end

LARGE = b"x" * 70_000


def job(intake: Intake, ledger: Ledger, key: str, state: str, days: float, **changes: object) -> str:
    """A job that came to `state` so many days ago."""
    raw = LARGE + key.encode()
    job_id = intake.accept(envelope(key, **changes), raw).job_id
    past = now_ms() - int(days * DAY_MS)
    values = {"state": state, "received_at": past, "updated_at": past, "key_until": jobs.c.key_until - now_ms() + past}
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))
    return job_id


def age_blobs(blobs: Blobs) -> None:
    for path in blobs.root.glob("??/*"):
        os.utime(path, (1, 1))


def left(ledger: Ledger) -> set[str]:
    return {one.id for one in ledger.jobs.page(limit=1000)}


def test_only_what_ended_and_is_old_goes(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """By state and age; open jobs, those in review and states without a limit stay however old they are."""
    old = job(intake, ledger, "a", "done", 11)
    stays = {
        job(intake, ledger, "b", "done", 9),
        job(intake, ledger, "c", "failed", 300),
        *(
            job(intake, ledger, state.value, state.value, 300)
            for state in State
            if state.value not in {"done", "failed"}
        ),
    }
    blobs, limits = Blobs(settings.blobs_dir), RetentionSettings(done=10)
    [told, *_] = preview(ledger, blobs, limits)
    assert (told.state, told.jobs, left(ledger)) == ("done", 1, stays | {old})
    assert sum(step.jobs for step in sweep(ledger, blobs, limits)) == 1
    assert left(ledger) == stays


def test_nothing_goes_by_default(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """Whoever says nothing keeps everything."""
    kept = job(intake, ledger, "a", "done", 10_000)
    list(sweep(ledger, Blobs(settings.blobs_dir), settings.retention))
    assert left(ledger) == {kept}


@pytest.mark.parametrize("source", ["webhook:shop", "api", "api:scanner"])
def test_a_key_that_may_come_again_is_remembered(
    settings: Settings, intake: Intake, ledger: Ledger, source: str
) -> None:
    """Jobs of webhooks stay for their keys' days, those of the API for 30, whatever the settings say."""
    days = 30 if source.startswith("webhook") else 0
    kept = job(intake, ledger, "a", "done", 29, source=source, key_days=days)
    job(intake, ledger, "b", "done", 31, source=source, key_days=days)
    list(sweep(ledger, Blobs(settings.blobs_dir), RetentionSettings(done=1)))
    assert left(ledger) == {kept}
    assert intake.accept(envelope("a", source=source), LARGE + b"a").duplicate


def test_a_job_goes_with_all_its_rows(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """No text, value, delivery or event of it is left."""
    job_id = intake.accept(envelope(), b"x").job_id
    take_to_the_end(ledger, job_id)
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).values(received_at=1, updated_at=1))
        assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar_one() > 3
    list(sweep(ledger, Blobs(settings.blobs_dir), RetentionSettings(done=1)))
    with ledger.database.read() as connection:
        for table in (jobs, documents, results, deliveries, attempts, events):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


def test_a_job_that_a_worker_holds_stays(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """One that is being run again is not taken away under the worker's hands."""
    job_id = intake.accept(envelope(), b"x").job_id
    assert ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "w")
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).values(state="done", received_at=1, updated_at=1))
    list(sweep(ledger, Blobs(settings.blobs_dir), RetentionSettings(done=1)))
    assert left(ledger) == {job_id}


def test_blobs_go_when_no_job_needs_them(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """One that two jobs share stays with the second; one that is young stays for the accept that may need it."""
    blobs, limits = Blobs(settings.blobs_dir), RetentionSettings(done=10)
    job(intake, ledger, "a", "done", 11)
    needed = ledger.jobs.find(job(intake, ledger, "b", "done", 1)).raw_sha256
    orphan = blobs.put(b"its accept failed")
    part = blobs.path(orphan).with_name(".part-left-by-a-kill")
    part.write_bytes(b"half")
    age_blobs(blobs)
    young = blobs.put(b"its accept has not committed yet")
    told = list(sweep(ledger, blobs, limits))
    assert {path.parent.name + path.name for path in blobs.root.glob("??/*")} == {needed, young}
    assert sum(step.blobs for step in told) == 2
    assert blobs.get(needed) == LARGE + b"b"


def test_what_a_job_fetched_stays_with_it(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """Files that an event named by URL are needed for as long as its job is there, and go with it."""
    blobs = Blobs(settings.blobs_dir)
    job_id = intake.accept(envelope("e", kind=Kind.EVENT, source="webhook:shop"), b"{}").job_id
    claimed = ledger.leases.claim(job_id, Stage.FETCH, State.FETCHING, "me:1:2")
    assert claimed
    digest, other = blobs.put(b"fetched"), blobs.put(b"nobody's")
    ledger.leases.keep(claimed[1], {"files": []}, {digest})
    age_blobs(blobs)
    list(sweep(ledger, blobs, RetentionSettings(done=1)))
    assert blobs.get(digest) == b"fetched"
    assert not blobs.path(other).exists()
    with ledger.database.write() as connection:
        connection.execute(sa.delete(jobs))
    list(sweep(ledger, blobs, RetentionSettings(done=1)))
    assert not blobs.path(digest).exists()


def test_nothing_goes_while_a_backup_is_made(settings: Settings, ledger: Ledger) -> None:
    """The blobs wait for the next sweep."""
    blobs = Blobs(settings.blobs_dir)
    orphan = blobs.put(b"nobody's")
    age_blobs(blobs)
    with blobs.kept_for_backup():
        list(sweep(ledger, Blobs(settings.blobs_dir), RetentionSettings()))
    assert blobs.get(orphan) == b"nobody's"


def test_the_rescue_sweeps_a_step_at_a_time(
    settings: Settings, intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look of the rescue takes one small step, so that a large sweep never keeps it from its work."""
    monkeypatch.setattr("tasks.retention.BATCH", 2)
    for number in range(5):
        job(intake, ledger, str(number), "done", 11)
    limits = RetentionSettings(done=10, every=0.001)
    slow = SlowTick(settings.model_copy(update={"retention": limits}), ledger)
    assert slow.step() is None  # not due in the first moment
    time.sleep(0.01)
    slow.step()
    taken = []
    for expected in (3, 1, 0):
        step = slow.step()
        assert step is not None
        taken.append(step.jobs)
        assert len(left(ledger)) == expected
    assert taken == [2, 2, 1]


@pytest.mark.sqlite_only
def test_the_command_says_what_would_go_and_then_removes_it(settings: Settings, intake: Intake, ledger: Ledger) -> None:
    """--dry-run changes nothing."""
    job(intake, ledger, "a", "done", 11)
    limits = {"POSTROOM_RETENTION__DONE": "10", "POSTROOM_RETENTION__FAILED": "90"}
    told = postroom("retention", "--dry-run", state=settings.state_dir, **limits)
    assert told.stdout.splitlines()[:3] == [
        "1 done jobs that ended 10 days ago or earlier would be removed",
        "0 failed jobs that ended 90 days ago or earlier would be removed",
        "jobs of webhooks and of the API are kept 30 days at least, for their idempotency keys",
    ]
    assert len(left(ledger)) == 1
    assert postroom("retention", state=settings.state_dir, **limits).returncode == 0
    assert left(ledger) == set()
