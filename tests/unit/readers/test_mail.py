"""Taking a mail apart (tasks/readers/mail.py)."""

from __future__ import annotations

import time

import pytest

from tasks.readers.mail import DEEPEST, MOST_PARTS, parse
from tests.integration.readers import samples


def test_reads_subject_sender_and_attachments() -> None:
    """Encoded headers come decoded, addresses parsed, attachments with name and exact bytes."""
    parsed = parse(samples.mail(files={"Rechnung März.pdf": ("application/pdf", b"%PDF-1.4 x\r\n\0y")}))
    assert parsed.facts.subject == "Rechnung für März"
    assert (parsed.facts.from_name, parsed.facts.from_address) == ("Anna Müller", "anna@example.org")
    assert parsed.facts.to == ("invoices@example.com",)
    assert parsed.facts.message_id == "<1@example.org>"
    assert parsed.facts.date == "2026-11-21T10:00:00+01:00"
    body, attachment = parsed.parts
    assert body.is_body
    assert b"invoice attached" in body.data
    assert (attachment.name, attachment.content_type) == ("Rechnung März.pdf", "application/pdf")
    assert attachment.data == b"%PDF-1.4 x\r\n\0y"
    assert not attachment.is_body


def test_alternatives_share_a_group() -> None:
    """Text and HTML of multipart/alternative are told to be the same words."""
    parts = parse(samples.mail(html="<p>hello")).parts
    assert [part.content_type for part in parts] == ["text/plain", "text/html"]
    assert all(part.is_body for part in parts)
    assert parts[0].group == parts[1].group


def test_inline_text_with_a_name_is_an_attachment() -> None:
    """RFC 8621 section 4.1.4: only unnamed inline text continues the body."""
    raw = _mixed(
        b"Content-Type: text/plain\n\nbody",
        b"Content-Type: text/plain\nContent-Disposition: inline\n\nfooter",
        b"Content-Type: text/plain; name=log.txt\nContent-Disposition: inline\n\nlog",
    )
    parts = parse(raw).parts
    assert [part.is_body for part in parts] == [True, True, False]
    assert parts[0].group != parts[1].group


def test_nested_message_is_one_unit_with_its_own_bytes() -> None:
    """A message/rfc822 part is not taken apart, and not a byte of it changes."""
    inner = b"Subject: inner\nX-Odd:  two  spaces\nContent-Type: multipart/mixed; boundary=z\n\n--z\n\na\n--z--"
    parts = parse(_mixed(b"\nbody", b"Content-Type: message/rfc822\n\n" + inner)).parts
    assert [part.content_type for part in parts] == ["text/plain", "message/rfc822"]
    assert parts[1].data == inner


@pytest.mark.parametrize(
    ("encoding", "encoded", "expected"),
    [
        ("base64", b"aGVsbG8gd29ybGQ=", b"hello world"),
        ("BASE64", b"aGVs!!bG8gd29y\nbGQ", b"hello world"),
        ("quoted-printable", b"a=3Db=\nc", b"a=bc"),
        ("quoted printable", b"a=3Db", b"a=b"),
        ("x-uuencode", b"begin 644 f\n#86)C\n`\nend", b"abc"),
        ("7-bit", b"as it is", b"as it is"),
        ("", b"\xe4 raw", b"\xe4 raw"),
    ],
)
def test_transfer_encodings(encoding: str, encoded: bytes, expected: bytes) -> None:
    """Transfer encodings are undone, misspelt and damaged ones as far as they go."""
    raw = b"Subject: s\nContent-Transfer-Encoding: " + encoding.encode() + b"\n\n" + encoded
    assert parse(raw).parts[0].data.strip() == expected


def test_part_count_is_bounded() -> None:
    """100,000 parts: the first ones are read, the rest is told, within a second or two."""
    begin = time.process_time()
    parsed = parse(_mixed(*[b"\nx"] * 100_000))
    assert time.process_time() - begin < 5
    assert len(parsed.parts) <= MOST_PARTS
    assert parsed.parts[0].data == b"x"
    assert any(str(MOST_PARTS) in note for note in parsed.notes)


def test_depth_is_bounded() -> None:
    """Parts within parts end at the limit, with a note."""
    levels = range(3_000)
    raw = b"".join(b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in levels)
    parsed = parse(b"Subject: deep\nContent-Type: multipart/mixed; boundary=b0\n\n" + raw)
    assert parsed.facts.subject == "deep"
    assert any(str(DEEPEST) in note for note in parsed.notes)


@pytest.mark.parametrize(
    "header",
    [
        b"To: " + b", ".join(b"user%d@example.com" % n for n in range(16_000)),
        b"Subject: " + b" =?utf-8?q?a?=" * 20_000,
        b"Subject: " + b"=?" * 100_000,
        b"To: " + b"(" * 100_000,
        b'To: "' + b"\\" * 100_000,
        b"Content-Type: text/plain" + b"; a*0*=x" * 50_000,
        b"References: " + b"<a@b> " * 50_000,
    ],
)
def test_hostile_headers_cost_little(header: bytes) -> None:
    """Headers that take policy.default seconds to minutes are cut to 8 KB and read in well under a second."""
    begin = time.process_time()
    parsed = parse(header + b"\nFrom: a@example.org\n\nhello")
    assert time.process_time() - begin < 2
    assert parsed.facts.from_address == "a@example.org"
    assert parsed.parts[0].data == b"hello"


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\0" * 100, b"no header at all", b"\xff\xfe\xfd", b":\n\n", b"From \n\n--"]
)
def test_whatever_the_bytes_something_comes_back(raw: bytes) -> None:
    """Bytes that are no message are read as one without header."""
    assert parse(raw).facts.subject == ""


def test_a_damaged_line_does_not_end_the_header() -> None:
    """Fields after a broken line are still fields; the skipped line is told."""
    parsed = parse(b"From: a@example.org\nthis is no field\nSubject : late\nDate: x\n\nbody: text\n")
    assert parsed.facts.subject == "late"
    assert parsed.parts[0].data == b"body: text\n"
    assert "1 damaged header lines were skipped" in parsed.notes


def test_a_missing_blank_line_keeps_the_body() -> None:
    """Where no known field follows, the first odd line begins the body."""
    parsed = parse(b"From: a@example.org\nSubject: s\nHello there,\nregards: me\n\nbye")
    assert parsed.parts[0].data == b"Hello there,\nregards: me\n\nbye"


def test_headers_for_reply_rules_are_kept() -> None:
    """The fields that rules on automatic replies need are in the facts, by lower-case name."""
    raw = b"Auto-Submitted: auto-replied\nList-Id: <a.example>\n" + b"Received: by x\n" * 120 + b"X-Other: y\n\n"
    parsed = parse(raw)
    assert parsed.facts.headers["auto-submitted"] == ("auto-replied",)
    assert parsed.facts.headers["list-id"] == ("<a.example>",)
    assert "x-other" not in parsed.facts.headers
    assert parsed.received_count == 120
    assert len(parsed.facts.headers["received"]) == 120


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b'"../../etc/passwd"', "passwd"),
        (b'"C:\\Users\\me\\bill.pdf"', "bill.pdf"),
        (b'"inv\xe2\x80\xaefdp.exe"', "invfdp.exe"),
        (b'"a\tb.txt"', "a b.txt"),
        (b'"=?utf-8?B?UmVjaG51bmcgTcOkcnoucGRm?="', "Rechnung März.pdf"),
        (b'"Rechnung M\xc3\xa4rz.pdf"', "Rechnung März.pdf"),
        (b'"Rechnung M\xe4rz.pdf"', "Rechnung März.pdf"),
    ],
)
def test_file_names_are_decoded_and_cleaned(written: bytes, name: str) -> None:
    """Paths, control characters and changes of direction never get into a name."""
    raw = _mixed(b"Content-Type: application/pdf\nContent-Disposition: attachment; filename=" + written + b"\n\nx")
    assert parse(raw).parts[0].name == name


def _mixed(*parts: bytes) -> bytes:
    return (
        b"Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n"
        + b"".join(b"--b\n" + part + b"\n" for part in parts)
        + b"--b--\n"
    )


def test_binary_parts_keep_every_byte() -> None:
    """RFC 3030: a part that is sent as it is may hold any line ends, and none of them is a line of the mail."""
    blob = bytes(range(256)) * 8 + b"\r\r\n\n\r" + b"x\ry\nz"
    raw = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n'
    raw += b'Content-Transfer-Encoding: binary\r\nContent-Disposition: attachment; filename="a.bin"\r\n\r\n'
    raw += blob + b"\r\n--b--\r\n"
    assert [part.data for part in parse(raw).parts if part.name == "a.bin"] == [blob]


def test_a_boundary_may_be_folded() -> None:
    """A line break within the quotes of a boundary is folding, not a part of it."""
    head = b'From: a@x.test\r\nContent-Type: multipart/mixed; boundary="one\r\n two"\r\n\r\n'
    raw = head + b"--one two\r\n\r\nhello\r\n--one two--\r\n"
    assert [part.data for part in parse(raw).parts] == [b"hello"]
