"""All documents of the shared corpus through `read_message`: text or the right reason, facts of truth.json in the text."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tasks.models import Extracted, Kind
from tasks.readers import read_message
from tests.corpus.places import DOCUMENTS, documents, needs_documents

pytestmark = [pytest.mark.corpus, pytest.mark.slow, pytest.mark.timeout(1800), needs_documents]

_REASONS = {
    "libreoffice-writer-password.pdf": "password",
    "password_protected.xlsx": "password",
    "testZIP_corrupted_oom.zip": "damaged",
}
"""Hostile files that nothing can be read from, and a word of the right reason."""
_MONTHS = (
    "january|jan|janvier|januar|enero|januari", "february|feb|février|februar|febrero|februari",
    "march|mar|mars|märz|marzo|maart", "april|apr|avril|abril", "may|mai|mayo|mei", "june|jun|juin|juni|junio",
    "july|jul|juillet|juli|julio", "august|aug|août|agosto|augustus", "september|sep|sept|septembre|septiembre",
    "october|oct|octobre|oktober|octubre", "november|nov|novembre|noviembre", "december|dec|décembre|dezember|diciembre",
)  # fmt: skip


@cache
def extracted() -> dict[Path, tuple[Extracted, float]]:
    """Every document read once, with the seconds it took."""
    found = {}
    for path in documents():
        begin = time.monotonic()
        kind = Kind.MAIL if path.suffix == ".eml" else Kind.FILE
        result = read_message(path.read_bytes(), kind=kind, name=path.name, content_type="")
        found[path] = (result, time.monotonic() - begin)
    return found


def test_each_ends_with_text_or_the_right_reason() -> None:
    """Documents that can be read are; encrypted and broken ones say that they are."""
    for path, (result, _) in extracted().items():
        first = result.documents[0]
        assert first.text or first.reason or len(result.documents) > 1, path
        if path.name in _REASONS:
            assert first.status == "unreadable", path
            assert _REASONS[path.name] in first.reason, (path, first.reason)
        elif path.parent.name != "hostile":
            assert first.status == "read", (path, first.reason)
            assert any(document.text for document in result.documents), path


def test_time_and_states() -> None:
    """Nothing takes longer than its limits; the slowest are printed."""
    states: Counter[str] = Counter()
    for result, _ in extracted().values():
        states.update(document.status for document in result.documents)
    slowest = sorted(((seconds, path.name) for path, (_, seconds) in extracted().items()), reverse=True)
    total = sum(seconds for seconds, _ in slowest)
    print(f"\n{len(slowest)} files, {dict(states)}, {total:.0f} s; slowest: {slowest[:5]}")
    assert slowest[0][0] < 240


def test_facts_stand_in_the_text() -> None:
    """Invoice facts of truth.json are found in the text: 98 of 100 in text PDFs, 95 of 100 in scans."""
    counts: dict[str, Counter[bool]] = {"text": Counter(), "scan": Counter()}
    for name, facts in json.loads((DOCUMENTS / "truth.json").read_text()).items():
        result, _ = extracted()[DOCUMENTS / name]
        text = "\n".join(document.text for document in result.documents)
        sort = "scan" if name.startswith("scan/") else "text"
        for fact, value in facts.items():
            there = stands_in(text, fact, str(value))
            counts[sort][there] += 1
            if not there:
                print(f"\nnot found: {name} {fact} {value}", end="")
    for sort, count in counts.items():
        print(f"\n{sort}: {count[True]} of {count.total()} facts found", end="")
    assert counts["text"][True] >= 0.98 * counts["text"].total()
    assert counts["scan"][True] >= 0.95 * counts["scan"].total()


def stands_in(text: str, fact: str, value: str) -> bool:
    """Is the value in the text, in any of the ways people write dates and amounts?"""
    if fact == "date":
        return _date_in(text, dt.date.fromisoformat(value))
    if fact.startswith("amount"):
        return _amount_in(text, float(value))
    squeezed = re.sub(r"[\s.]", "", text).lower()
    return re.sub(r"[\s.]", "", value).lower() in squeezed


def _amount_in(text: str, amount: float) -> bool:
    whole, _, cents = f"{amount:.2f}".partition(".")
    grouped = re.sub(r"(?<=\d)(?=(\d{3})+$)", "[., '\u202f]?", whole)
    ending = r"(?:[.,]00?)?" if cents == "00" else rf"[.,]{cents[0]}{'0?' if cents[1] == '0' else cents[1]}"
    return re.search(rf"(?<!\d){grouped}{ending}(?!\d)", text) is not None


def _date_in(text: str, date: dt.date) -> bool:
    day, month, year = date.day, date.month, date.year
    numbers = rf"0?{day}[./-]\s?0?{month}[./-]\s?(?:{year}|{year % 100:02})"
    american = rf"0?{month}/0?{day}/(?:{year}|{year % 100:02})"
    iso = rf"{year}[-./]?{month:02}[-./]?{day:02}"
    names = f"(?:{_MONTHS[month - 1]})"
    written = (
        rf"0?{day}(?:st|nd|rd|th|\.)?[\s-]*{names}[.,]?[\s-]*{year}|{names}\.?\s*0?{day}(?:st|nd|rd|th)?\s?,?\s*{year}"
    )
    return re.search(rf"(?<!\d)(?:{numbers}|{american}|{iso}|{written})(?!\d)", text, re.IGNORECASE) is not None
