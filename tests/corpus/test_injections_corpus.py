"""How often letters that nobody meant to steer a model with are taken for orders to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import demo
from tasks.injections import search
from tasks.models import Document, Kind
from tasks.readers import read_message
from tests.corpus.places import documents, mails, needs_documents, needs_mail

pytestmark = [pytest.mark.corpus, pytest.mark.slow, pytest.mark.timeout(1800)]

MOST = 0.01
"""Share of messages that may be taken for one."""
LARGEST = 300_000
"""Bytes; larger ones are mostly pictures, whose recognition is not what is measured."""
OWN = (Path(__file__).parents[1] / "e2e" / "inputs", Path(demo.__file__).parent / "inputs")


def _own() -> list[Path]:
    return sorted(path for folder in OWN for path in folder.rglob("*") if path.is_file() and path.suffix != ".toml")


def _share(paths: list[Path], kind: Kind) -> float:
    wrong = [(path.name, told) for path in paths if (told := _told(path, kind))]
    print(f"\n{len(wrong)} of {len(paths)} messages hold text that reads like orders to a model: {wrong}")
    return len(wrong) / len(paths)


def _told(path: Path, kind: Kind) -> list[str]:
    own = Kind.MAIL if path.suffix == ".eml" else kind
    read = read_message(path.read_bytes(), kind=own, name=path.name, content_type="")
    head = [read.mail.subject, read.mail.from_name] if read.mail else []
    return [one.quote for text in [*head, *map(_text, read.documents)] for one in search(text)]


def _text(document: Document) -> str:
    return f"{document.text}\n{document.reason}"


@needs_mail
def test_few_mails_are_taken_for_orders() -> None:
    """Of public test suites: all of them are innocent."""
    assert _share([path for path in mails() if path.stat().st_size < LARGEST], Kind.MAIL) <= MOST


@needs_documents
def test_few_documents_are_taken_for_orders() -> None:
    """Invoices, forms, articles, tables."""
    paths = [
        path for path in documents() if path.parent.name not in ("hostile", "scan") and path.stat().st_size < LARGEST
    ]
    assert _share(paths, Kind.FILE) <= MOST


def test_no_input_of_ours_is_taken_for_orders() -> None:
    """The demo's and its tests' own letters."""
    assert _share(_own(), Kind.FILE) == 0
