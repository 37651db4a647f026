"""Documents that need a password: told as such in the same words, and opened where one of the route's fits."""

from __future__ import annotations

import io

import msoffcrypto  # type: ignore[import-untyped]  # has no py.typed
import pytest

from tasks.errors import Unreadable
from tasks.models import LOCKED
from tests.integration.readers import samples
from tests.integration.readers.fixtures import ZIP_AES, ZIP_CRYPTO
from tests.unit.readers.test_formats import read


def office(data: bytes, password: str) -> bytes:
    """An Office document, encrypted as Office does it now (ECMA-376 agile)."""
    out = io.BytesIO()
    msoffcrypto.OfficeFile(io.BytesIO(data)).encrypt(password, out)
    return out.getvalue()


LOCKED_FILES = [
    pytest.param(lambda: samples.pdf("secret words", password="open sesame"), id="pdf"),
    pytest.param(lambda: office(samples.word(), "open sesame"), id="docx"),
    pytest.param(lambda: ZIP_AES, id="zip"),
]


@pytest.mark.parametrize("make", LOCKED_FILES)
def test_each_is_told_in_the_same_words(make: object) -> None:
    """Without a password and with wrong ones; the reason names no password."""
    data = make()  # type: ignore[operator]
    with pytest.raises(Unreadable, match=LOCKED) as without:
        read(data)
    assert without.value.locked
    with pytest.raises(Unreadable, match=f"{LOCKED}, and none of those of its route fits") as wrong:
        read(data, passwords=("hunter2", "hunter3"))
    assert wrong.value.locked
    assert "hunter" not in wrong.value.reason


def test_pdf_opens() -> None:
    """Text by the one library, embedded files by the other: both get the password."""
    content = read(samples.pdf("secret words", password="open sesame"), passwords=("wrong", "open sesame"))
    assert "secret words" in content.text
    assert content.notes == ("opened with one of the route's passwords",)


def test_office_documents_open_and_are_what_they_are() -> None:
    """DOCX and XLSX come out of their container with their own type; the note does not name the password."""
    content = read(office(samples.word(), "open sesame"), passwords=("wrong", "open sesame"))
    assert content.content_type == "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert "Contract number 4711" in content.text
    assert content.notes[0] == "opened with one of the route's passwords"
    assert "Sheet: Orders" in read(office(samples.workbook(), "x"), passwords=("x",)).text


def test_a_workbook_that_excel_opens_by_itself_opens() -> None:
    """What Excel encrypts only against changes needs no password of a route, and no note."""
    content = read(office(samples.workbook(), "VelvetSweatshop"))
    assert "Bolt\t12\t0.5" in content.text
    assert not any("password" in note for note in content.notes)


def test_zip_with_aes_opens() -> None:
    """AE-1 and AE-2, 128 and 256 bits, stored and deflated."""
    content = read(ZIP_AES, passwords=("wrong", "Grüße 7"))
    assert {child.name: child.data.decode() for child in content.children} == {
        "offer.txt": "The offer is 4711 EUR. " * 3,
        "terms.txt": "Payment within 30 days.",
    }
    assert not content.locked


def test_zip_with_a_changed_member_does_not_open() -> None:
    """What does not carry its seal is not taken for text."""
    place = ZIP_AES.index(b"offer.txt") + 9 + 11 + 20
    changed = ZIP_AES[:place] + bytes([ZIP_AES[place] ^ 1]) + ZIP_AES[place + 1 :]
    content = read(changed, passwords=("Grüße 7",))
    assert [(child.name, child.locked) for child in content.children] == [("offer.txt", True), ("terms.txt", False)]
    assert content.locked


def test_zip_with_some_members_locked() -> None:
    """What is open is read, and what is not is told; with the password all of it is read."""
    without = read(ZIP_CRYPTO)
    assert [(child.name, child.locked) for child in without.children] == [("open.txt", False), ("offer.txt", True)]
    assert without.locked
    assert "1 members open only with a password" in without.notes
    assert "offer.txt (needs a password)" in without.text
    opened = read(ZIP_CRYPTO, passwords=("wrong", "sesame"))
    assert [child.data for child in opened.children] == [b"Anybody may read this.", b"The offer is 4711 EUR."]
    assert not opened.locked
