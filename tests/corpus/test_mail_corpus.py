"""All messages of the shared corpus through accept and extract: no crash, text or a reason, names as expected."""

from __future__ import annotations

import concurrent.futures
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.routes import Route
from config.settings import Settings
from tasks import pipeline
from tasks.blobs import Blobs
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.model import Judge
from tasks.models import Extracted, Stage
from tasks.readers.names import clean_name
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.corpus.places import MAIL, mails, needs_mail

pytestmark = [pytest.mark.corpus, pytest.mark.slow, pytest.mark.timeout(1800), needs_mail]

_UNNAMED = re.compile(r"attachment-\d+(\.\w+)?$")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Extracted]]:
    """Every message accepted and taken through the extract stage, two at a time; what the ledger then has of it."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("corpus"))
    ledger = Ledger.open(settings.ledger)
    shop = Workshop(settings, [Route(name="rest")], ledger, Judge(settings.model))
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)

    def through(path: Path) -> Extracted:
        receipt = door.accept(envelope(str(path)), path.read_bytes())
        assert pipeline.run(shop, receipt.job_id, pipeline.from_stage(Stage.EXTRACT)[0]), path
        job = ledger.jobs.get(receipt.job_id)
        assert job is not None
        assert job.stage is Stage.CLASSIFY
        return pipeline.extracted_of(shop, job)

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = dict(zip(mails(), pool.map(through, mails()), strict=True))
    print(f"\n{len(found)} messages in {time.monotonic() - begin:.0f} s")
    yield found
    door.close()
    shop.close()


def test_each_ends_with_text_or_a_reason(extracted: dict[Path, Extracted]) -> None:
    """Every document of every message has text, or says why it has none."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for path, result in extracted.items():
        assert result.documents, path
        for document in result.documents:
            assert document.text or document.reason, (path, document.name)
            states[document.status] += 1
            if document.status != "read":
                reasons[f"{document.status}: {document.reason[:90]}"] += 1
    print(f"\n{states.total()} documents: {dict(states)}")
    for reason, count in reasons.most_common(15):
        print(f"{count:5} {reason}")


def test_each_has_its_facts(extracted: dict[Path, Extracted]) -> None:
    """No message was too much for the parser: all have facts from their header."""
    assert [path for path, result in extracted.items() if result.mail is None] == []


def test_subjects_and_attachment_names_equal_the_expected_ones(extracted: dict[Path, Extracted]) -> None:
    """At least 95 of 100 subjects and lists of attachment names equal expected.json (which names no senders).

    Expected names are cleaned as ours are. U+FFFD in an expected value stands for a character that the program which
    made the list could not decode; any one character of ours may stand there.
    """
    subjects: Counter[bool] = Counter()
    names: Counter[bool] = Counter()
    strict: Counter[bool] = Counter()
    for expected in json.loads((MAIL / "expected.json").read_text()):
        path = MAIL / "stalwart" / "_".join(expected["path"].split("/")[3:])
        if path not in extracted:
            continue
        result = extracted[path]
        assert result.mail is not None
        subject = " ".join((expected["subject"] or "").split())
        wanted = sorted(clean_name(name) for name in expected["attachments"])
        ours = sorted(d.name for d in result.documents[1:] if not _UNNAMED.match(d.name))
        subjects[_equal([subject], [result.mail.subject])] += 1
        names[_equal(wanted, ours)] += 1
        strict[[subject, *wanted] == [result.mail.subject, *ours]] += 1
    for label, counts in (("subjects", subjects), ("attachment names", names), ("both, to the letter", strict)):
        print(f"\n{label}: {counts[True]} of {counts.total()} equal ({counts[True] / counts.total():.1%})", end="")
    assert subjects[True] >= 0.95 * subjects.total()
    assert names[True] >= 0.95 * names.total()


def _equal(wanted: list[str], ours: list[str]) -> bool:
    if len(wanted) != len(ours):
        return False
    patterns = (re.escape(text).replace("\ufffd", ".") for text in wanted)
    return all(re.fullmatch(pattern, text, re.DOTALL) for pattern, text in zip(patterns, ours, strict=True))
