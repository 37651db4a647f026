"""Outlook's winmail.dat, made here piece by piece (MS-OXTNEF), and compressed RTF (MS-OXRTFCP)."""

from __future__ import annotations

import base64
import struct

import pytest

from tasks.errors import Unreadable
from tasks.models import Kind
from tasks.readers import read_message, tnef
from tasks.readers.content import Source

HEAD = struct.pack("<IH", tnef.SIGNATURE, 1)


def attribute(level: int, name: int, data: bytes) -> bytes:
    return struct.pack("<BII", level, name, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)


def property_(name: int, kind: int, value: bytes) -> bytes:
    return struct.pack("<HHII", kind, name, 1, len(value)) + value + bytes(-len(value) % 4)


def properties(*found: bytes) -> bytes:
    return struct.pack("<I", len(found)) + b"".join(found)


PLAIN = (
    HEAD
    + attribute(1, 0x00069007, struct.pack("<II", 1251, 0))
    + attribute(1, 0x0002800C, "Привет".encode("cp1251") + b"\0")
)
RENDER = attribute(2, 0x00069002, bytes(14))


def attachment(name: str, data: bytes) -> bytes:
    """As Outlook writes them: a short name and the data, then the long name among the properties."""
    long_name = property_(0x3707, 0x001F, name.encode("utf-16-le") + b"\0\0")
    named = attribute(2, 0x00018010, b"SHORT~1.TXT\0")
    return RENDER + named + attribute(2, 0x0006800F, data) + attribute(2, 0x00069005, properties(long_name))


def test_body_and_attachments() -> None:
    """The body in its code page, and each attachment under its long name, cleaned."""
    content = tnef.read(Source(data=PLAIN + attachment("Rechnung Mai.txt", b"Total 3.00") + attachment("../x", b"y")))
    assert content.text == "Привет"
    assert [(child.name, child.data) for child in content.children] == [
        ("Rechnung Mai.txt", b"Total 3.00"),
        ("x", b"y"),
    ]
    assert content.notes == ()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (property_(0x1000, 0x001F, "grün".encode("utf-16-le")), "grün"),
        (property_(0x1013, 0x0102, '<meta charset="utf-8"><p>grün</p>'.encode()), "grün"),
        (
            property_(0x1009, 0x0102, struct.pack("<IIII", 40, 29, 0x414C454D, 0) + rb"{\rtf1\ansi Please pay 3.00.}"),
            "Please pay 3.00.",
        ),
    ],
)
def test_body_among_the_properties(found: bytes, text: str) -> None:
    """Plain text, HTML in the charset that it names, and RTF are read from MAPI properties."""
    number = struct.pack("<HHI", 0x0003, 0x0E07, 5)  # another property, of a fixed size
    content = tnef.read(Source(data=HEAD + attribute(1, 0x00069003, properties(number, found))))
    assert content.text.strip() == text


def test_compressed_rtf() -> None:
    """The example of MS-OXRTFCP section 3.1.3: a run that copies what it has just written."""
    data = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert tnef.decompressed(data) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


@pytest.mark.parametrize("cut", [7, 20, len(PLAIN) - 4, len(PLAIN) + 30])
def test_broken_files_are_told(cut: int) -> None:
    """A file that breaks off gives what was there, or says what is wrong; it never raises anything else."""
    whole = PLAIN + attachment("a.txt", b"text")
    text, said = _read(whole[:cut])
    assert text in {"", "Привет"}
    assert text or "breaks off" in said or said == "it holds no text and no files"


def _read(data: bytes) -> tuple[str, str]:
    """Text, and what was said about the file."""
    try:
        content = tnef.read(Source(data=data))
    except Unreadable as error:
        return "", error.reason
    return content.text, "; ".join(content.notes)


@pytest.mark.parametrize(
    "hostile",
    [
        HEAD + struct.pack("<BII", 1, 0x9003, 4) + struct.pack("<I", 0xFFFFFFFF) + b"\0\0",
        HEAD + attribute(1, 0x9003, struct.pack("<I", 0xFFFFFFFF) + b"\x01\x10\x00\x00" + b"\xff" * 64),
        HEAD + attribute(1, 0x9003, properties(property_(0x1009, 0x0102, b"LZFu" * 4))),
        HEAD + struct.pack("<BII", 1, 0x800C, 0xFFFFFFF0),
        b"no tnef",
        b"",
    ],
)
def test_hostile_files_end(hostile: bytes) -> None:
    """Counts and lengths that lie are noticed."""
    text, said = _read(hostile)
    assert text == ""
    assert said


def test_in_a_mail() -> None:
    """A mail with winmail.dat gives its body and its attachments as documents, each read as what it is."""
    packed = base64.encodebytes(PLAIN + attachment("bill.csv", b"item,price\nlamp,3.00\n")).decode()
    raw = (
        "From: a@x.test\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhello\n"
        "--b\nContent-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n"
        f"{packed}--b--\n"
    ).encode()
    found = read_message(raw, kind=Kind.MAIL, name="", content_type="message/rfc822").documents
    assert [(d.name, d.parent, d.status) for d in found] == [
        ("body", "", "read"),
        ("winmail.dat", "", "read"),
        ("bill.csv", "winmail.dat", "read"),
    ]
    assert "lamp\t3.00" in found[2].text
