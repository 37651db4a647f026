"""The labelled set of tests/eval: what it holds, and that its words can be trusted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from config.routes import read_route
from config.settings import TEMPLATES
from daemon.evaluation.cases import ROUTE, Case, check_labels, load_cases
from tasks.evidence import Source, find
from tests.eval.make_documents import SET, made

CASES = load_cases(SET)
JUDGED_BY = read_route(SET / ROUTE, TEMPLATES, frozenset())
DIRECT = frozenset({".eml", ".txt", ".html"})
"""Files whose text can be compared without a reader."""


def test_size_labels_and_languages() -> None:
    """At least 120 documents in 8 labels and 4 languages, evenly."""
    assert len(CASES) >= 120
    labels, languages = Counter(case.label for case in CASES), Counter(case.language for case in CASES)
    assert len(labels) == 8
    assert min(labels.values()) >= 15
    assert set(languages) == {"en", "de", "fr", "es"}
    assert min(languages.values()) >= 30


def test_halves() -> None:
    """Each half has about half of the set, and every label and language."""
    for half in ("tuning", "unseen"):
        cases = load_cases(SET, half)
        assert len(cases) >= 60
        assert len({case.label for case in cases}) == 8
        assert len({case.language for case in cases}) == 4


def test_every_label_and_field_stands_in_the_route() -> None:
    """The set's own route knows all that the cases tell."""
    check_labels(CASES, [JUDGED_BY])


@pytest.mark.parametrize("case", [case for case in CASES if case.path.suffix in DIRECT], ids=lambda case: case.name)
def test_every_value_stands_in_its_document(case: Case) -> None:
    """What a case says of its fields can be found in its text, so that nobody is asked for what is not there."""
    source = Source(case.path.read_text("utf-8"), language=case.language)
    for name, values in {**case.fields, **case.may}.items():
        kind = JUDGED_BY.labels[case.label].fields[name].type
        assert any(find(kind, value, value, [source]) for value in values), (name, values)


def test_documents_can_be_made_again() -> None:
    """The committed PDF and DOCX files are what the script makes, to the byte."""
    for name, make in made().items():
        if not name.endswith(".png"):  # Pillow's bundled font and zlib differ between versions
            assert make() == (SET / name).read_bytes(), name


def test_addresses_are_nobodys() -> None:
    """All mail addresses lie below .example, which nobody can register (RFC 2606)."""
    for path in SET.glob("*.eml"):
        head = path.read_text("utf-8").split("\n\n", 1)[0]
        addresses = [word.strip("<>") for word in head.split() if "@" in word]
        assert addresses
        assert all(Path(address).suffix == ".example" for address in addresses), path.name
