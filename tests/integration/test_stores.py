"""The blob store in a folder and in an S3-compatible bucket: one contract, two kinds."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest

from config.engine import RetentionSettings
from config.settings import Settings
from config.storage import BlobSettings
from daemon.backup import put_back, take
from tasks import guard as guards
from tasks import retention
from tasks.blobs import Blobs
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake, raw_of
from tasks.ledger import Ledger
from tasks.models import State
from tasks.objects import Objects
from tasks.pipeline import STAGES, run
from tasks.stores import Store, open_store
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.integration.objectstore import ObjectServer, running

BYTES = b"Subject: hello\r\n\r\n" + b"x" * 100_000
DIGEST = hashlib.sha256(BYTES).hexdigest()
SOON = 60
"""Seconds that lie ahead: what is stored now is older than then."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running(tmp_path_factory.mktemp("objects")) as started:
        yield started


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    guards.forget()
    yield
    guards.forget()


@dataclass
class Place:
    """A store, and how to reach into it past its own code."""

    store: Store
    overwrite: Callable[[str, bytes], object]
    lose: Callable[[str], object]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        blobs = Blobs(tmp_path / "blobs")
        return Place(
            blobs, lambda digest, data: blobs.path(digest).write_bytes(data), lambda it: blobs.path(it).unlink()
        )
    objects = Objects(request.getfixturevalue("server").settings())

    def key(digest: str) -> str:
        return f"{digest[:2]}/{digest[2:]}"

    return Place(
        objects,
        lambda digest, data: obstore.put(objects._store, key(digest), data),
        lambda digest: obstore.delete(objects._store, key(digest)),
    )


def test_what_is_stored_is_read_again(place: Place) -> None:
    """Under its SHA-256, any number of times, an empty one too."""
    for data in (BYTES, b"", BYTES):
        digest = place.store.put(data)
        assert digest == hashlib.sha256(data).hexdigest()
        assert place.store.get(digest) == data
    assert place.store.check()


@pytest.mark.parametrize("harmed", [BYTES[:-1], b"y" + BYTES[1:], b""], ids=["truncated", "changed", "empty"])
def test_wrong_bytes_are_never_read(place: Place, harmed: bytes) -> None:
    """What is not whole is told with its place; the same message again mends it."""
    place.store.put(BYTES)
    place.overwrite(DIGEST, harmed)
    with pytest.raises(Permanent, match="is damaged") as told:
        place.store.get(DIGEST)
    assert f"{DIGEST[:2]}/{DIGEST[2:]}" in told.value.reason
    place.store.put(BYTES)
    assert place.store.get(DIGEST) == BYTES


def test_what_is_missing_is_told(place: Place) -> None:
    """A dead letter, no outage: the rest of the store is there."""
    place.store.put(b"something else")
    place.store.put(BYTES)
    place.lose(DIGEST)
    with pytest.raises(Permanent, match="is missing"):
        place.store.get(DIGEST)


def sweep(store: Store, digest: str, before: float) -> bool:
    """One sweep of the folder that holds it, with nothing referred to; whether it made room."""
    folder = int(digest[:2], 16)
    with store.sweeping() as may:
        assert may
        store.remove_parts(folder, before)
        return sum(store.remove(one, before) for one, _ in store.old(folder, before)) > 0


def test_what_nobody_needs_is_swept(place: Place) -> None:
    """Only what is old; in a bucket it is laid aside first, and removed by a later sweep."""
    place.store.put(BYTES)
    folder = int(DIGEST[:2], 16)
    assert place.store.old(folder, time.time() - SOON) == []
    assert not place.store.remove(DIGEST, time.time() - SOON)
    assert place.store.old(folder, time.time() + SOON) == [(DIGEST, len(BYTES))]
    first = sweep(place.store, DIGEST, time.time() + SOON)
    assert first or sweep(place.store, DIGEST, time.time() + SOON)
    assert place.store.old(folder, time.time() + SOON) == []
    with pytest.raises(Permanent, match="is missing"):
        place.store.get(DIGEST)


def test_what_an_accept_stores_while_it_is_swept_is_kept(server: ObjectServer) -> None:
    """The sweep has looked, the accept stores it, the sweep takes it away: it is found, and put back for good."""
    store = Objects(server.settings())
    store.put(BYTES)
    sweep(store, DIGEST, time.time() + SOON)
    assert store._read(f"{DIGEST[:2]}/{DIGEST[2:]}") is None
    assert store.get(DIGEST) == BYTES
    assert store._read(f"{DIGEST[:2]}/{DIGEST[2:]}") == BYTES
    store.remove_parts(int(DIGEST[:2], 16), time.time() + SOON)
    assert list(store._listed("gone")) == []
    assert store.get(DIGEST) == BYTES


def test_a_bucket_that_is_not_there_is_an_outage(server: ObjectServer) -> None:
    """So is a wrong key, and a server that is gone: nobody hears that a message was taken, and no job fails."""
    good = server.settings()
    wrong = [
        good.model_copy(update={"url": "s3://nowhere/x"}),
        good.model_copy(update={"endpoint": "http://127.0.0.1:9"}),
    ]
    for settings in wrong:
        store = Objects(settings)
        with pytest.raises(Unavailable, match="cannot store"):
            store.put(BYTES)
        with pytest.raises(Unavailable, match="cannot read"):
            store.get(DIGEST)
        with pytest.raises(Unavailable):
            store.check()
    assert {one.name for one in guards.guards()} == {f"blobs:{one.url}" for one in wrong}


@pytest.fixture
def chosen(settings: Settings, server: ObjectServer) -> Settings:
    return settings.model_copy(update={"blobs": server.settings()})


@pytest.mark.sqlite_only
def test_a_job_goes_through_an_outage_of_the_bucket(chosen: Settings, ledger: Ledger, server: ObjectServer) -> None:
    """No receipt while it is away, no attempt lost, and all goes on when it is back."""
    door = Intake(ledger, open_store(chosen), chosen.inline_limit)
    shop = Workshop(chosen, [], ledger, None)  # type: ignore[arg-type]  # no model is asked
    job_id = door.accept(envelope("before"), BYTES).job_id
    server.go_away()
    try:
        with pytest.raises(Unavailable, match="cannot store"):
            door.accept(envelope("meanwhile"), BYTES + b"!")
        assert not run(shop, job_id, STAGES[1])
        job = ledger.jobs.get(job_id)
        assert job is not None
        assert (job.state, job.attempts) == (State.WAITING, 0)
        assert not door.accept(envelope("small"), b"x").duplicate, "what fits into the ledger needs no store"
    finally:
        server.come_back()
    assert not door.accept(envelope("meanwhile"), BYTES + b"!").duplicate
    assert ledger.jobs.counts() == {"waiting": 1, "received": 2}
    assert ledger.jobs.retry(job_id, STAGES[1].stage, why="it is due")
    assert run(shop, job_id, STAGES[1])
    shop.heart.stop()
    door._arrivals.close()


@pytest.mark.sqlite_only
def test_backup_and_restore_carry_the_bucket_s_blobs(
    chosen: Settings, ledger: Ledger, server: ObjectServer, tmp_path: Path
) -> None:
    """They are in the file, and go into whatever store the other side has: here another prefix, and a folder."""
    door = Intake(ledger, open_store(chosen), chosen.inline_limit)
    job_id = door.accept(envelope(), BYTES).job_id
    door._arrivals.close()
    made = take(chosen, ledger, tmp_path / "all.tar")
    assert (made.blobs, made.without) == (1, ())
    for number, blobs in enumerate((server.settings(), BlobSettings())):
        other = Settings(state_dir=tmp_path / f"other{number}", blobs=blobs)
        put_back(other, tmp_path / "all.tar", force=False)
        restored = Ledger.open(other.ledger)
        assert raw_of(restored, open_store(other), job_id, DIGEST) == BYTES
        restored.close()


@pytest.mark.sqlite_only
def test_retention_sweeps_the_bucket(chosen: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job refers to stays, what none does goes, in two sweeps."""
    store = open_store(chosen)
    in_first = (b"%07d" % n * 10_000 for n in range(10_000))
    raw, other = itertools.islice((one for one in in_first if hashlib.sha256(one).digest()[0] == 0), 2)
    door = Intake(ledger, store, chosen.inline_limit)
    door.accept(envelope(), raw)
    door._arrivals.close()
    orphan = store.put(other)
    monkeypatch.setattr(retention, "GRACE_SECONDS", -SOON)
    monkeypatch.setattr(retention, "FOLDERS", 1)
    removed = [sum(one.blobs for one in retention.sweep(ledger, store, RetentionSettings())) for _ in range(3)]
    assert removed == [0, 1, 0]
    assert store.get(hashlib.sha256(raw).hexdigest()) == raw
    with pytest.raises(Permanent, match="is missing"):
        store.get(orphan)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "https://bucket"}, "write s3://BUCKET"),
        ({"url": "s3://Bad_Bucket"}, "write s3://BUCKET"),
        ({"url": "s3://post", "endpoint": "127.0.0.1:9000"}, "write https://host"),
        ({"url": "s3://post", "access_key": "only"}, "go together"),
    ],
)
def test_a_wrong_setting_says_what_to_write(given: dict[str, str], told: str) -> None:
    """Before any process starts."""
    with pytest.raises(ValueError, match=told):
        BlobSettings(**given)  # type: ignore[arg-type]  # that is the point
