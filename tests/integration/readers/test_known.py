"""The same file is read once, whatever message it comes in (tasks/readers/known.py)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa

from tasks.errors import Unreadable
from tasks.ledger import Ledger
from tasks.ledger.readings import readings
from tasks.models import Document, Kind
from tasks.readers import Known, Limits, read_message, walk
from tasks.readers.sandbox.client import Result
from tests.integration.readers import samples
from tests.integration.readers.fixtures import ZIP_CRYPTO

pytestmark = pytest.mark.sqlite_only


class Asked:
    """What the sandbox is asked, on the way to it."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.fault: Unreadable | None = None
        self.slow = 0.0

    def call(self, request: dict[str, Any], data: bytes, limits: Limits) -> Result:
        if request["op"] == "read" and data != BODY:
            self.read.append(request["as"])
            time.sleep(self.slow)
            if self.fault:
                raise self.fault
        return SANDBOX.call(request, data, limits)

    def taken(self) -> list[str]:
        read, self.read = self.read, []
        return read


SANDBOX = walk.SANDBOX
BODY = b"Dear team,\n\nplease find the invoice attached.\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Counts the children that read attachments."""
    own = Asked()
    monkeypatch.setattr(walk, "SANDBOX", own)
    return own


def mail(ledger: Ledger, files: dict[str, tuple[str, bytes]], *passwords: str) -> list[Document]:
    """The attachments of a mail that comes now."""
    raw = samples.mail(BODY.decode(), files=files)
    found = read_message(
        raw,
        kind=Kind.MAIL,
        name="",
        content_type="message/rfc822",
        known=Known(ledger.readings, b"secret"),
        unlocking=lambda _: passwords,
    )
    return list(found.documents[1:])


def test_an_attachment_that_came_before_starts_no_child(ledger: Ledger, asked: Asked) -> None:
    """In another mail and under another name: text, pages and what is inside are as they were."""
    pdf = samples.pdf(attachment=samples.FACTUR_X)
    first = mail(ledger, {"invoice.pdf": ("application/pdf", pdf)})
    assert asked.taken() == ["application/pdf", "application/xml"]
    again = mail(ledger, {"copy.pdf": ("application/octet-stream", pdf)})
    assert asked.taken() == []
    assert [one.name for one in again] == ["copy.pdf", "factur-x.xml"]
    assert [one.text for one in again] == [one.text for one in first]
    assert "Invoice number: R-77" in again[1].text
    assert again[1].parent == "copy.pdf"


def test_what_decides_how_bytes_are_read_tells_two_files_apart(ledger: Ledger, asked: Asked) -> None:
    """The same bytes as a table and as text, in one charset and in another."""
    data = "Größe;1\nBreite;2\n".encode("latin-1")
    mail(ledger, {"a.csv": ("text/csv", data)})
    [text] = mail(ledger, {"a.txt": ("text/plain", data)})
    assert asked.taken() == ["text/csv", "text/plain"]
    assert "Größe;1" in text.text


def test_a_file_in_a_known_archive_is_taken_out_again_when_it_is_not_known(ledger: Ledger, asked: Asked) -> None:
    """The archive is opened once more, and what was read of the others stands."""
    pack = {"pack.zip": ("application/zip", samples.zipped({"a.csv": b"a,b\n1,2", "b.csv": b"c,d\n3,4"}))}
    first = mail(ledger, pack)
    asked.taken()
    with ledger.database.write() as connection:
        connection.execute(sa.delete(readings).where(readings.c.sha256 == first[2].sha256))
    assert mail(ledger, pack) == first
    assert asked.taken() == ["application/zip", "text/csv"]


def test_a_damaged_entry_is_not_believed(ledger: Ledger, asked: Asked) -> None:
    """The file is read again, and the entry mended."""
    files = {"a.csv": ("text/csv", b"a,b\n1,2")}
    mail(ledger, files)
    with ledger.database.write() as connection:
        value = connection.execute(sa.select(readings.c.value)).scalar_one()
        changed = value[:20] + bytes([value[20] ^ 1]) + value[21:]
        connection.execute(sa.update(readings).values(value=changed))
    asked.taken()
    assert [one.text for one in mail(ledger, files)] == ["a\tb\n1\t2"]
    assert asked.taken() == ["text/csv"]
    mail(ledger, files)
    assert asked.taken() == []


def test_what_this_time_is_to_blame_for_is_not_kept(ledger: Ledger, asked: Asked) -> None:
    """A child that was killed says nothing about the next; a damaged file is damaged for good."""
    files = {"a.csv": ("text/csv", b"a,b\n1,2")}
    asked.fault = Unreadable("reading took longer than 60 seconds", lasting=False)
    assert mail(ledger, files)[0].status == "unreadable"
    asked.fault = None
    assert mail(ledger, files)[0].status == "read"
    broken = {"broken.docx": ("application/zip", samples.word()[:500])}
    reason = mail(ledger, broken)[0].reason
    asked.taken()
    assert mail(ledger, broken)[0].reason == reason
    assert asked.taken() == []


def test_budgets_of_a_message_hold_for_what_is_known(ledger: Ledger) -> None:
    """An archive that was read in full is cut where this message has less left; that is not kept."""
    big = samples.zipped({f"{number}.txt": b"%d" % number * (1 << 20) for number in range(2)})
    files = {"big.zip": ("application/zip", big)}
    raw = samples.mail(files={"other.zip": ("application/zip", samples.zipped({"x.txt": b"x" * (1 << 20)})), **files})
    known = Known(ledger.readings)
    for _ in range(2):
        limits = Limits(unpacked_bytes=(5 << 20) // 2)
        found = read_message(raw, kind=Kind.MAIL, name="", content_type="", known=known, limits=limits).documents
        assert sum(one.size for one in found if one.name.endswith(".txt")) <= limits.unpacked_bytes
        assert "not unpacked" in next(one for one in found if one.name == "big.zip").reason


def test_a_file_that_comes_twice_at_once_is_read_once(ledger: Ledger, asked: Asked) -> None:
    """The second thread waits for the first, and finds what it read."""
    files = {"a.csv": ("text/csv", b"a,b\n1,2")}
    asked.slow = 0.5
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(mail(ledger, files)[0].text)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["a\tb\n1\t2"] * 3
    assert asked.taken() == ["text/csv"]


def test_passwords_open_and_are_kept_nowhere(ledger: Ledger, asked: Asked) -> None:
    """A locked file is tried with the passwords it meets; what they open is known for them alone."""
    files = {"a.zip": ("application/zip", ZIP_CRYPTO), "a.pdf": ("application/pdf", samples.pdf(password="sesame"))}
    without = {one.name: one for one in mail(ledger, files)}
    assert without["a.pdf"].locked
    assert without["offer.txt"].locked
    assert without["offer.txt"].reason == "it is encrypted in the archive and opens only with a password"
    assert without["open.txt"].text == "Anybody may read this."
    opened = {one.name: one for one in mail(ledger, files, "wrong", "sesame")}
    assert "Grand total: 1.234,56 EUR" in opened["a.pdf"].text
    assert opened["offer.txt"].text == "The offer is 4711 EUR."
    asked.taken()
    assert {one.name: one for one in mail(ledger, files, "wrong", "sesame")} == opened
    assert asked.taken() == []
    assert {one.name: one for one in mail(ledger, files)} == without
    assert "sesame" not in str([one.model_dump() for one in opened.values()])
