"""A PDF of 200 pages: found are the facts at its start, in its middle and at its end; nothing is cut without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config.engine import ModelSettings
from tasks.model import Judge, Progress
from tasks.models import Classification, Document, Kind
from tasks.readers import read_message
from tests.integration.long_document import PAGES, PLACES, ROUTE, VALUES, report
from tests.standin_model import StandIn, standing_in


@pytest.fixture(scope="module")
def documents() -> tuple[Document, ...]:
    """The report as the readers give it."""
    found = read_message(report(), kind=Kind.FILE, name="report.pdf", content_type="application/pdf").documents
    assert found[0].pages == PAGES
    assert found[0].text.count("\f") == PAGES - 1
    return found


@pytest.fixture
def model() -> Iterator[StandIn]:
    with standing_in("report") as server:
        server.mode = "reads"
        yield server


def judged(
    model: StandIn, documents: tuple[Document, ...], progress: list[Progress] | None = None, **settings: float
) -> Classification:
    judge = Judge(ModelSettings.model_validate({"host": model.url, **settings}))
    return judge.classify(documents, None, ROUTE, progress.append if progress is not None else None)


def found_all(told: Classification) -> None:
    """Every fact, on its page, and nothing for a person to do."""
    assert told.values() == VALUES
    assert {one.name: one.page for one in told.fields} == PLACES
    assert told.review == ""


def test_all_three_facts_are_found_and_no_prompt_is_cut(model: StandIn, documents: tuple[Document, ...]) -> None:
    """All pages are shown, in prompts that fit; the story says how; progress goes up to 100 and memory stays bounded."""
    progress: list[Progress] = []
    start = high_water(reset=True)
    told = judged(model, documents, progress, document_time=0)
    grown = high_water() - start
    found_all(told)
    assert all(call.sent == call.kept < call.num_ctx for call in model.calls)
    forms = [call for call in model.calls if call.form]
    assert 10 < len(forms) < 60
    assert sum(call.sent for call in forms) > sum(len(re.findall(r"\w+", one.text)) for one in documents)
    assert any(f"the text was read in {len(forms) - 1} parts to fit 8192 tokens" in note for note in told.notes)
    assert any("the label was voted on: start and end say report" in note for note in told.notes)
    percents = [one.percent for one in progress]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert len(set(percents)) > len(forms)
    assert grown < 300 << 20


def test_a_slow_machine_reads_the_pages_that_matter(model: StandIn, documents: tuple[Document, ...]) -> None:
    """When time is over after one part, that part had the facts; which pages were not read is told."""
    told = judged(model, documents, document_time=1e-9)
    found_all(told)
    assert len([call for call in model.calls if call.form]) == 1
    [note] = [note for note in told.notes if "document_time" in note]
    assert re.search(r"the model read report\.pdf pages 1[-,].*101.*200.*was over before report\.pdf pages", note)


def test_a_fact_on_a_page_that_was_not_read_is_for_a_person(model: StandIn, documents: tuple[Document, ...]) -> None:
    """What is needed and not found is told with the pages on which it may stand."""
    pages = documents[0].text.split("\f")[:40]
    pages[20] = pages[20].replace("Section 21", "Put to paper on: 14 March 2026")
    short = documents[0].model_copy(update={"text": "\f".join(pages)})
    told = judged(model, (short,), document_time=1e-9)
    assert (
        "report needs penalty_amount, signing_date, not found in what the model read of it; report.pdf pages"
        in told.review
    )


def test_a_larger_context_is_taken_where_it_may_grow(model: StandIn, documents: tuple[Document, ...]) -> None:
    """num_ctx is doubled up to max_ctx and the model's own limit: the same text in one call instead of four."""
    short = documents[0].model_copy(update={"text": "\f".join(documents[0].text.split("\f")[:24])})
    judged(model, (short,), max_ctx=1_000_000)
    assert {call.num_ctx for call in model.calls} == {32_768}
    assert all(call.sent == call.kept for call in model.calls)
    assert len([call for call in model.calls if call.form]) <= 2


def test_a_short_document_keeps_the_usual_context(model: StandIn, documents: tuple[Document, ...]) -> None:
    """One call for the label and one for the form, whatever max_ctx allows."""
    short = documents[0].model_copy(update={"text": documents[0].text.partition("\f")[0], "pages": 1})
    judged(model, (short,), max_ctx=32_768)
    assert {call.num_ctx for call in model.calls} == {8192}
    assert len(model.calls) <= 5


def test_the_stand_in_cuts_in_silence(model: StandIn, documents: tuple[Document, ...]) -> None:
    """The test's own test: the whole report in one prompt loses its middle and no error tells of it."""
    asked = {"model": "m", "messages": [{"role": "user", "content": documents[0].text}], "options": {"num_ctx": 8192},
             "format": {"properties": dict.fromkeys(VALUES)}}  # fmt: skip
    answer = httpx.post(f"{model.url}/api/chat", json=asked, timeout=60)
    assert answer.status_code == 200
    assert "2026" in answer.text
    assert "KX-4471" not in answer.text
    assert model.calls[0].kept < model.calls[0].sent


def high_water(*, reset: bool = False) -> int:
    """Bytes that this process has held at once since the last reset (proc(5), VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) << 10
