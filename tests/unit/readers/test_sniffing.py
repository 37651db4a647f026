"""Telling a file's type by its bytes (tasks/readers/sniffing.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.readers import sniff
from tests.integration.readers import samples

_OOXML = "application/vnd.openxmlformats-officedocument."


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (samples.pdf(), "application/pdf"),
        (samples.png("x"), "image/png"),
        (samples.word(), _OOXML + "wordprocessingml.document"),
        (samples.workbook(), _OOXML + "spreadsheetml.sheet"),
        (samples.zipped({"a.txt": b"x"}), "application/zip"),
        (samples.zipped({"inner.docx": samples.word()}, 0), "application/zip"),
        (samples.zipped({"a.pdf": samples.pdf()}, 0), "application/zip"),
        (samples.tarred({"a": b"x"}, "w"), "application/x-tar"),
        (samples.tarred({"a.pdf": samples.pdf()}, "w"), "application/x-tar"),
        (b"\r\njunk\n" + samples.pdf(), "application/pdf"),
        (b'{"note": "%PDF-1.7 is a header"}', "application/json"),
        (samples.tarred({"a": b"x"}), "application/gzip"),
        (samples.mail(), "message/rfc822"),
        (b"{\\rtf1 x}", "application/rtf"),
        (b"<!DOCTYPE html><p>x", "text/html"),
        (b'<?xml version="1.0"?><a/>', "application/xml"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html><html/>', "text/html"),
        (b'{"a": 1}', "application/json"),
        (b"BEGIN:VCALENDAR\r\n", "text/calendar"),
        (b"just words", "text/plain"),
        ("Grüße".encode("cp1252"), "text/plain"),
        (b"\x7fELF\0\0", "application/x-executable"),
        (bytes(range(256)) * 4, "application/octet-stream"),
    ],
)
def test_bytes_decide(data: bytes, content_type: str) -> None:
    """The type is found whatever name and claim say."""
    assert sniff(data, "invoice.pdf.exe", "application/octet-stream") == content_type


@pytest.mark.parametrize(
    ("name", "claimed", "content_type"),
    [
        ("a.csv", "", "text/csv"),
        ("a.bin", "text/csv; charset=x", "text/csv"),
        ("a.md", "", "text/markdown"),
        ("a.pdf", "application/pdf", "text/plain"),
        ("a.html", "text/html", "text/plain"),
        ("", "multipart/form-data; boundary=x", "multipart/form-data"),
    ],
)
def test_names_and_claims_tell_kinds_of_text_apart(name: str, claimed: str, content_type: str) -> None:
    """A claim is believed only among kinds of text."""
    assert sniff(b"a,b and more", name, claimed) == content_type


@given(st.binary(max_size=2000), st.sampled_from(["", "a.csv", "a.eml"]), st.text(max_size=30))
def test_sniffing_never_raises(data: bytes, name: str, claimed: str) -> None:
    """Any bytes have a type."""
    assert sniff(data, name, claimed)


@given(st.binary(max_size=200))
def test_damaged_zip_directories_never_raise(tail: bytes) -> None:
    """A hostile central directory is only looked at."""
    assert sniff(b"PK\x03\x04" + tail + b"PK\x05\x06" + tail[:30])
