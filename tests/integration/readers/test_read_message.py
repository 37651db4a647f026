"""Whole messages through `read_message`, every piece in a real child process."""

from __future__ import annotations

import concurrent.futures

from tasks.models import Document, Extracted, Kind
from tasks.readers import Limits, read_message
from tests.integration.readers import samples


def read(raw: bytes, kind: Kind = Kind.MAIL, name: str = "", claimed: str = "", **limits: float) -> Extracted:
    """Read with the default limits or some of one's own."""
    own = Limits(**limits) if limits else None  # type: ignore[arg-type]
    return read_message(raw, kind=kind, name=name, content_type=claimed, limits=own)


def by_name(extracted: Extracted) -> dict[str, Document]:
    """The documents by their names."""
    return {document.name: document for document in extracted.documents}


def test_a_mail_with_an_invoice() -> None:
    """Body first, then each attachment with its text, type, pages and language."""
    files = {"invoice.pdf": ("application/octet-stream", samples.pdf(attachment=samples.FACTUR_X))}
    text = "Dear team,\n\nplease find the invoice for the order attached. Thank you for your payment by Friday.\n"
    extracted = read(samples.mail(text, files=files))
    assert extracted.mail is not None
    assert extracted.mail.subject == "Rechnung für März"
    assert [document.ordinal for document in extracted.documents] == [0, 1, 2]
    body, pdf, xml = extracted.documents
    assert (body.name, body.status, body.language) == ("body", "read", "en")
    assert body.text.startswith("Dear team,")
    assert (pdf.name, pdf.content_type) == ("invoice.pdf", "application/pdf")
    assert "Grand total: 1.234,56 EUR" in pdf.text
    assert (xml.name, xml.parent) == ("factur-x.xml", "invoice.pdf")
    assert "Invoice number: R-77" in xml.text


def test_plain_text_is_preferred_and_html_stands_in() -> None:
    """The body is the plain part; where that is blank, the HTML."""
    assert read(samples.mail("plain words", "<p>html words</p>")).documents[0].text == "plain words"
    body = read(samples.mail(" \n", "<p>html <b>words</b></p>")).documents[0]
    assert (body.text, body.content_type) == ("html words", "text/html")


def test_quoted_history_is_kept() -> None:
    """Nothing is cut in silence: what was answered to is still there."""
    text = "Yes.\n\nOn Monday, Bob wrote:\n> Shall we?\n> Bob\n"
    assert read(samples.mail(text)).documents[0].text == text.strip()


def test_one_bad_attachment_stops_only_itself() -> None:
    """A bomb beside a good file: the one has a reason, the other its text."""
    files = {
        "bomb.pdf": ("application/pdf", samples.flate_bomb(1200)),
        "broken.docx": ("application/zip", samples.word()[:500]),
        "locked.pdf": ("application/pdf", samples.pdf(password="x")),
        "good.csv": ("text/csv", b"a,b\n1,2"),
    }
    documents = by_name(read(samples.mail(files=files)))
    assert documents["bomb.pdf"].status == "unreadable"
    assert "1024 MiB" in documents["bomb.pdf"].reason
    assert documents["broken.docx"].status == "unreadable"
    assert documents["locked.pdf"].status == "unreadable"
    assert "password" in documents["locked.pdf"].reason
    assert documents["good.csv"].text == "a\tb\n1\t2"


def test_what_has_no_text_is_skipped_with_its_reason() -> None:
    """Programs and signatures are no documents to read; a wrong claim is told."""
    files = {"a.exe": ("application/pdf", b"\x7fELF" + b"\0" * 60), "b.pdf": ("application/pdf", bytes(range(256)))}
    documents = by_name(read(samples.mail(files=files)))
    assert documents["a.exe"].status == "skipped"
    assert documents["a.exe"].content_type == "application/x-executable"
    assert documents["b.pdf"].reason == "claimed to be application/pdf, but the bytes are not"


def test_archives_and_mails_are_walked_to_their_depth() -> None:
    """A mail in a ZIP in a mail: every file is read, and names what it was found in."""
    inner = samples.mail(files={"deep.csv": ("text/csv", b"x,y\n3,4")})
    outer = samples.mail(files={"pack.zip": ("application/zip", samples.zipped({"fwd.eml": inner}))})
    documents = by_name(read(outer))
    assert documents["fwd.eml"].parent == "pack.zip"
    assert documents["deep.csv"].parent == "fwd.eml"
    assert documents["deep.csv"].text == "x\ty\n3\t4"


def test_depth_number_and_size_have_budgets() -> None:
    """Matryoshkas, thousands of files and gigabytes end at the limit, with a reason each."""
    doll = b"core"
    for level in range(5):
        doll = samples.zipped({f"{level}.zip" if level else "core.txt": doll})
    documents = read(doll, Kind.FILE, "doll.zip", depth=2).documents
    assert len(documents) == 4
    assert (documents[-1].status, documents[-1].reason) == ("skipped", "packed over 2 deep")

    many = samples.zipped({f"{n}.txt": b"x" for n in range(30)})
    documents = read(many, Kind.FILE, "many.zip", files=5).documents
    assert len(documents) <= 6
    assert "not unpacked" in documents[0].reason

    big = samples.zipped({f"{n}.txt": b"a" * (1 << 20) for n in range(8)})
    documents = read(big, Kind.FILE, "big.zip", unpacked_bytes=3 << 20).documents
    assert sum(document.size for document in documents[1:]) <= 3 << 20
    assert "not unpacked" in documents[0].reason


def test_the_unpacking_budget_is_the_whole_messages() -> None:
    """Two archives share one budget: the second gets what the first left."""
    pack = samples.zipped({"x.txt": b"a" * (2 << 20)})
    other = samples.zipped({"y.txt": b"b" * (2 << 20)})
    raw = samples.mail(files={"1.zip": ("application/zip", pack), "2.zip": ("application/zip", other)})
    documents = by_name(read(raw, unpacked_bytes=3 << 20))
    assert documents["x.txt"].status == "read"
    assert "y.txt" not in documents
    assert "not unpacked" in documents["2.zip"].reason


def test_text_over_the_budget_is_cut_with_a_note() -> None:
    """The cut is told with both numbers."""
    document = read(b"word " * 1000, Kind.FILE, "a.txt", text_chars=100).documents[0]
    assert len(document.text) == 100
    assert "only the first 100 of 4999 characters were kept" in document.reason


def test_time_for_a_whole_message_is_bounded() -> None:
    """What is left when the time is over is skipped, with that reason."""
    files = {f"{n}.csv": ("text/csv", b"%d,2" % n) for n in range(3)}
    documents = read(samples.mail(files=files), message_seconds=0.0).documents
    assert [document.status for document in documents[1:]] == ["skipped"] * 3
    assert all("longer than 0 seconds" in document.reason for document in documents[1:])


def test_events() -> None:
    """JSON is pretty-printed as `event`; forms become lines; posted files are documents."""
    (event,) = read(b'{"id":"evt_1","total":120.00}', Kind.EVENT, claimed="application/json").documents
    assert (event.name, event.content_type) == ("event", "application/json")
    assert event.text == '{\n  "id": "evt_1",\n  "total": 120.00\n}'
    (form,) = read(b"a=1&b=two", Kind.EVENT, claimed="application/x-www-form-urlencoded").documents
    assert form.text == "a: 1\nb: two"
    body = (
        b'--X\r\nContent-Disposition: form-data; name="who"\r\n\r\nAnna\r\n'
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\na,b\r\n--X--\r\n'
    )
    event, file = read(body, Kind.EVENT, claimed="multipart/form-data; boundary=X").documents
    assert event.text == "who: Anna\nfile: (file t.csv)"
    assert (file.name, file.text, file.parent) == ("t.csv", "a\tb", "event")


def test_files() -> None:
    """A dropped file is one document under its cleaned name."""
    (document,) = read(samples.word(), Kind.FILE, "../contract.docx").documents
    assert document.name == "contract.docx"
    assert "Contract number 4711" in document.text


def test_a_mail_without_anything_says_so() -> None:
    """No body, no attachment: one document, with its reason."""
    for raw in (b"", b"Subject: x\n\n", b"\0" * 50):
        (document,) = read(raw).documents
        assert document.text or document.reason


def test_many_threads_read_at_once() -> None:
    """Eight threads share one warm server; every one gets its own answer."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: read(samples.mail(f"message number {n}")).documents[0].text, range(40)))
    assert texts == [f"message number {n}" for n in range(40)]
