"""Which parts of a mail become documents: pictures in the text, attached mails, invitations, hostile names."""

from __future__ import annotations

import io
from email.message import EmailMessage

import pytest
from PIL import Image

from tasks.models import Document, Kind
from tasks.readers import read_message

WORDS = "<p>The lamp is broken.</p>"


def picture(size: int = 0) -> bytes:
    """A PNG of at least so many bytes."""
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "white").save(file, "PNG")
    return file.getvalue() + bytes(max(0, size - len(file.getvalue())))


def documents(
    html: str, data: bytes, *, subtype: str = "png", cid: str = "<logo@x>", name: str = "l.png"
) -> list[Document]:
    """What a mail with HTML and one related part becomes."""
    mail = EmailMessage()
    mail["From"] = "a@x.test"
    mail.set_content(html, subtype="html")
    mail.add_related(data, "image", subtype, cid=cid, filename=name, disposition="inline")
    return list(read_message(mail.as_bytes(), kind=Kind.MAIL, name="", content_type="message/rfc822").documents)


@pytest.mark.parametrize("reference", ["cid:logo@x", "CID:logo@x", "cid:logo%40x"])
def test_a_logo_is_skipped(reference: str) -> None:
    """A small picture that the HTML shows is passed over, and the document says why."""
    body, logo = documents(f'{WORDS}<img src="{reference}">', picture())
    assert body.text == "The lamp is broken."
    assert (logo.name, logo.status, logo.content_type) == ("l.png", "skipped", "image/png")
    assert logo.reason.startswith("a small picture within the text")


@pytest.mark.parametrize(
    ("html", "data"),
    [
        (f'{WORDS}<img src="cid:logo@x">', picture(20_000)),
        (f'{WORDS}<img src="cid:other@x">', picture()),
        (WORDS, picture()),
        ('<img src="cid:logo@x">', picture()),
    ],
)
def test_other_pictures_are_read(html: str, data: bytes) -> None:
    """A large picture, one that nothing refers to, and the only content of a mail are read."""
    assert documents(html, data)[1].status == "read"


def test_a_document_that_calls_itself_a_picture_is_read() -> None:
    """The bytes decide: text under a picture's type and name is no ornament."""
    found = documents(f'{WORDS}<img src="cid:logo@x">', b"Total due: 3.00 EUR, please pay by Friday.\n")
    assert found[1].status == "read"
    assert "3.00" in found[1].text


def test_an_attached_mail_and_an_invitation_are_documents() -> None:
    """A forwarded mail is a document with its own attachments below it; so is the calendar part of an invitation."""
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "shop@x.test", "Your bill"
    inner.set_content("Total 3.00")
    inner.add_attachment("a,b\n1,2\n", subtype="csv", filename="lines.csv")
    mail = EmailMessage()
    mail["From"] = "a@x.test"
    mail.set_content("Please see below.")
    mail.add_alternative(
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Visit\r\nDTSTART:20261103T101500Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        subtype="calendar",
    )
    mail.add_attachment(inner)
    found = read_message(mail.as_bytes(), kind=Kind.MAIL, name="", content_type="message/rfc822").documents
    by_type = {document.content_type: document for document in found}
    assert found[0].text == "Please see below."
    assert "Visit" in by_type["text/calendar"].text
    assert "Total 3.00" in by_type["message/rfc822"].text
    assert "Your bill" in by_type["message/rfc822"].text
    assert (by_type["text/csv"].name, by_type["text/csv"].parent) == ("lines.csv", by_type["message/rfc822"].name)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=utf-8''%2e%2e%2fR%C3%A9sum%C3%A9.txt", "Résumé.txt"),
        ('attachment; filename*0="a long "; filename*1="name.txt"', "a long name.txt"),
        ('attachment; filename="=?utf-8?q?gr=C3=BCn=2Etxt?="', "grün.txt"),
        ("attachment; filename*=utf-8''a%00b%0Ac.txt", "ab c.txt"),
        ("attachment; filename*=utf-8''a%E2%80%AEfdp.exe", "afdp.exe"),
    ],
)
def test_names(disposition: str, name: str) -> None:
    """RFC 2231 and RFC 2047 names are decoded, then made safe: no paths, no control characters, no turned writing."""
    raw = (
        "From: a@x.test\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: text/plain\n"
        f"Content-Disposition: {disposition}\n\ntext\n--b--\n"
    ).encode()
    found = read_message(raw, kind=Kind.MAIL, name="", content_type="message/rfc822").documents
    assert found[1].name == name
