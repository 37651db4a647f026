"""What documents mean: vectors made in the background, a few at a time, and the search for what is near."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from config.engine import ModelSettings
from config.settings import Settings
from daemon.meanings import embedder
from tasks import guard as guards
from tasks import meaning as under_test
from tasks import pipeline
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.leases import _replace_documents
from tasks.ledger.schema import documents
from tasks.ledger.vectors import PAGE, packed, unpacked, vectors
from tasks.meaning import Background, Meanings, meaning, similar
from tasks.model import Models
from tasks.workshop import Workshop
from tests.commands import postroom
from tests.standin_model import StandIn, standing_in
from tests.unit.test_pipeline import MAIL, ROUTE, accept
from tests.unit.test_pipeline import StandIn as StandInJudge

TEXTS = {
    "bill": "Invoice 17 for ten boxes of paper, please pay 120 EUR by May.",
    "reminder": "Reminder: please pay invoice 17 for ten boxes of paper.",
    "job": "I apply for the position of gardener, my resume is attached.",
}


@pytest.fixture
def server() -> Iterator[StandIn]:
    guards.forget()
    with standing_in() as one:
        yield one
    guards.forget()


@pytest.fixture
def ids(settings: Settings, ledger: Ledger, intake: Intake) -> dict[str, str]:
    """Jobs whose texts are read."""
    shop = Workshop(settings, [ROUTE], ledger, StandInJudge())  # type: ignore[arg-type]
    made = {}
    for name, text in TEXTS.items():
        raw = MAIL.replace(b"Pay 10 EUR.", text.encode()).replace(b"<m1@", f"<{name}@".encode())
        made[name] = accept(intake, raw, key=name)
        pipeline.run(shop, made[name], pipeline.STAGES[1])
    shop.heart.stop()
    return made


def models(server: StandIn, model: str = "embedder") -> Models:
    return Models(ModelSettings(host=server.url, embed=model))


def test_every_text_gets_its_vector_and_is_found(server: StandIn, ledger: Ledger, ids: dict[str, str]) -> None:
    """Once; what is near comes first, the job itself not at all; a sentence finds what means the same."""
    meanings = Meanings(ledger, "embedder", models(server).embed)
    assert meanings.look() == (3, True)
    assert meanings.look() == (0, False)
    assert ledger.vectors.count("embedder") == 3
    found = similar(ledger, ids["bill"], "embedder", 5)
    assert [one.job_id for one in found] == [ids["reminder"], ids["job"]]
    assert 1 > found[0].cosine > 2 * found[1].cosine > 0
    asked = models(server).embed("who wants to be a gardener? my position is attached")
    assert ledger.vectors.near(asked, "embedder", 1)[0].job_id == ids["job"]
    assert len(server.embedded) == 4


def test_another_model_makes_them_anew(server: StandIn, ledger: Ledger, ids: dict[str, str]) -> None:
    """Until then the old ones are not compared with its own; a document that is read anew has none until the next look."""
    Meanings(ledger, "embedder", models(server).embed).look()
    with pytest.raises(Permanent, match="has no vector of other yet"):
        similar(ledger, ids["bill"], "other", 5)
    assert Meanings(ledger, "other", models(server, "other").embed).look()[0] == 3
    assert (ledger.vectors.count("other"), ledger.vectors.count("embedder")) == (3, 0)
    text = ledger.jobs.documents(ids["job"])
    with ledger.database.write() as connection:
        _replace_documents(connection, ids["job"], text)
    assert ledger.vectors.count("other") == 2
    ledger.vectors.keep(ids["job"], 7, "other", [1.0], 1)
    assert ledger.vectors.count("other") == 2, "of a document that is not there"


def test_a_text_is_looked_at_within_bounds(server: StandIn) -> None:
    """The first eight portions of a long one; a portion that is too long for the model by its first half."""
    vector, characters = meaning("word of a long report\n" * 5000, models(server).embed)
    assert math.isclose(sum(value * value for value in vector), 1.0, abs_tol=1e-6)
    assert len(server.embedded) == 8
    assert characters < 110_000
    server.most_embedded = 100
    meaning("another word " * 40, models(server).embed)
    assert max(map(len, server.embedded[8:])) <= 100
    with pytest.raises(Permanent, match="there is no text"):
        meaning(" \u200b ", models(server).embed)
    assert unpacked(packed([0.5, -2.0])).tolist() == [0.5, -2.0]


@pytest.mark.sqlite_only
def test_what_has_no_vector_is_not_asked_again(server: StandIn, ledger: Ledger, ids: dict[str, str]) -> None:
    """A text that the model can make nothing of is passed over from then on; an outage keeps nothing."""
    server.lacks = {"embedder"}
    with pytest.raises(Unavailable):
        Meanings(ledger, "embedder", models(server).embed).look()
    server.lacks = set()
    server.mode = "out of memory"
    failing = Meanings(ledger, "embedder", models(server).embed)
    assert failing.look() == (0, True)
    assert failing.look() == (0, False), "what failed keeps nothing else from its turn"
    server.mode, server.most_embedded = "well", 0
    meanings = Meanings(ledger, "embedder", models(server).embed)
    assert meanings.look()[0] == 3
    assert meanings.look()[0] == 0
    with pytest.raises(Permanent, match="no vector"):
        similar(ledger, ids["bill"], "embedder", 5)


@pytest.mark.sqlite_only
def test_more_than_a_page_is_compared(ledger: Ledger, ids: dict[str, str]) -> None:
    """All vectors, a page of them in memory at once; the nearest of them all is found wherever it stands."""
    with ledger.database.write() as connection:
        [row] = connection.execute(sa.select(documents).where(documents.c.job_id == ids["job"])).mappings().all()
        many = [{**row, "ordinal": number} for number in range(1, 2 * PAGE + 10)]
        connection.execute(sa.insert(documents), many)
        common = {"job_id": ids["job"], "model": "m", "dims": 2, "characters": 1, "made_at": 1}
        rows = [{**common, "ordinal": one["ordinal"], "vector": packed([0.0, 1.0])} for one in many]
        rows[-1]["vector"] = packed([1.0, 0.0])
        connection.execute(sa.insert(vectors), rows)
    [found] = ledger.vectors.near([5.0, 0.0], "m", 3)
    assert (found.job_id, found.ordinal, found.cosine) == (ids["job"], 2 * PAGE + 9, 1.0)


@pytest.mark.sqlite_only
def test_it_is_made_in_the_background(
    server: StandIn, settings: Settings, ledger: Ledger, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thread of a model worker, one of them a machine; the commands tell what is near, and what is missing."""
    with pytest.raises(Permanent, match="no model for this is configured"):
        embedder(settings)
    monkeypatch.setattr(under_test, "PAUSE", 0.05)
    both = [Background(ledger, models(server), "embedder", 0.05, settings.state_dir / "turns") for _ in range(2)]
    for one in both:
        one.start()
    until = time.monotonic() + 60
    while ledger.vectors.count("embedder") < 3 and time.monotonic() < until:
        time.sleep(0.02)
    for one in both:
        one.stop()
        one._thread.join(30)
    assert len(server.embedded) == 3
    variables = {"POSTROOM_MODEL__HOST": server.url, "POSTROOM_MODEL__EMBED": "embedder"}
    told = postroom("similar", ids["bill"], "--limit", "1", state=settings.state_dir, **variables)
    assert ids["reminder"] in told.stdout
    found = postroom("jobs", "--like", "pay invoice 17", "--json", state=settings.state_dir, **variables)
    listed = json.loads(found.stdout)
    assert [one["id"] for one in listed][-1] == ids["job"]
    assert listed[0]["cosine"] > listed[-1]["cosine"]
