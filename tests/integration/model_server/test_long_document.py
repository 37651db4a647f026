"""The report of 200 pages before the embedded model: it takes many minutes, so that only the full run has it."""

from __future__ import annotations

import os

import pytest

from config.engine import ModelSettings
from tasks.model import Judge, Progress
from tasks.models import Kind
from tasks.readers import read_message
from tests.integration.long_document import PLACES, ROUTE, VALUES, report
from tests.integration.model_server.parts import Server

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("POSTROOM_TEST_FULL"), reason="takes many minutes: set POSTROOM_TEST_FULL=1"),
]


def test_the_facts_at_start_middle_and_end_are_found(server: Server) -> None:
    """With the settings as they ship, on any machine: what there is time for holds all three; progress ends at 100."""
    documents = read_message(report(), kind=Kind.FILE, name="report.pdf", content_type="application/pdf").documents
    progress: list[Progress] = []
    judge = Judge(ModelSettings(host=server.url, read_timeout=1800, call_timeout=3000))
    told = judge.classify(documents, None, ROUTE, progress.append)
    assert told.values() == VALUES, told.notes
    assert {one.name: one.page for one in told.fields} == PLACES
    assert any("parts to fit" in note or "part to fit" in note for note in told.notes)
    percents = [one.percent for one in progress]
    assert percents == sorted(percents)
    assert percents[-1] == 100
