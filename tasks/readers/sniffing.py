"""What a file is, by its bytes. Names and claims only tell kinds of text apart, for bytes cannot."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

OCTETS = "application/octet-stream"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"{\\rtf", "application/rtf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (b"\x7fELF", "application/x-executable"),
    (b"\xca\xfe\xba\xbe", "application/x-executable"),
    (b"\xcf\xfa\xed\xfe", "application/x-executable"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x00\x01\x00\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"%!PS", "application/postscript"),
)
_PKCS7 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"
"""The object identifier of PKCS #7 content types (RFC 5652 section 4), without its last number."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS: tuple[tuple[str, str], ...] = (
    ("__properties_version1.0", "application/vnd.ms-outlook"),
    ("EncryptedPackage", "application/vnd.ms-office.encrypted"),
    ("WordDocument", "application/msword"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("Workbook", "application/vnd.ms-excel"),
    ("Book", "application/vnd.ms-excel"),
)
_OOXML = "application/vnd.openxmlformats-officedocument."
_ZIP_MEMBERS: tuple[tuple[str, str], ...] = (
    ("word/document.xml", _OOXML + "wordprocessingml.document"),
    ("ppt/presentation.xml", _OOXML + "presentationml.presentation"),
    ("xl/workbook.xml", _OOXML + "spreadsheetml.sheet"),
    ("xl/workbook.bin", "application/vnd.ms-excel.sheet.binary.macroenabled.12"),
)
_OPENDOCUMENT = re.compile(
    rb"PK\x03\x04.{22}\x08\x00..mimetype(application/[a-z0-9.+-]{1,80}?)(?=PK|\x00|$)", re.DOTALL
)
_ISO_BRANDS = {
    b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic", b"heis": "image/heic", b"hevc": "image/heic",
    b"mif1": "image/heif", b"msf1": "image/heif", b"avif": "image/avif", b"avis": "image/avif",
}  # fmt: skip
"""Major brands of pictures (ISO/IEC 23008-12 annex B)."""
_TEXT_BY_EXTENSION = {
    "csv": "text/csv", "tsv": "text/csv", "md": "text/markdown", "ics": "text/calendar", "vcf": "text/vcard",
    "html": "text/html", "htm": "text/html", "xhtml": "text/html", "json": "application/json",
    "xml": "application/xml", "eml": "message/rfc822",
}  # fmt: skip
_TEXT_CLAIMS = {
    "text/csv": "text/csv", "text/tab-separated-values": "text/csv", "application/csv": "text/csv",
    "text/markdown": "text/markdown", "text/html": "text/html", "application/xhtml+xml": "text/html",
    "message/rfc822": "message/rfc822", "message/news": "message/rfc822", "message/global": "message/rfc822",
}  # fmt: skip
_CARRIED = ("application/x-www-form-urlencoded", "multipart/form-data")
"""Ways of carrying, not formats: only the claim tells them."""
_HEADER_LINE = re.compile(rb"[!-9;-~]{1,76}[ \t]*:")
_MAIL_HEADERS = (b"received:", b"from:", b"return-path:", b"message-id:", b"mime-version:", b"delivered-to:", b"date:",
                 b"subject:", b"to:", b"x-mailer:", b"content-type:")  # fmt: skip
_HTML = re.compile(
    rb"\s*(<\?xml[^>]{0,200}>\s*)?(<!--.{0,2000}?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_HEAD = 4096


_PDF = re.compile(rb"(?:\A|[\r\n\0\xbf])%PDF-\d")
"""A PDF's first line. Bytes may stand before it, so that archives and events that hold one are looked for first."""


def sniff(data: bytes, name: str = "", claimed: str = "") -> str:
    """Content type of `data` (lower case, no parameters); `application/octet-stream` for unknown binary data."""
    claim = claimed.partition(";")[0].strip().lower()
    if claim in _CARRIED:
        return claim
    if not data:
        return _text_claim(name, claim) or "text/plain"
    return _binary(data) or _text(data, name, claim) or _media_claim(claim)


def _binary(data: bytes) -> str | None:
    if data.startswith(_OLE):
        return _ole(data)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK00PK\x03\x04")):
        return _zip(data)
    for magic, content_type in _MAGIC:
        if data.startswith(magic):
            return content_type
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(data[8:12], OCTETS)
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12], "video/mp4")
    if data[257:262] == b"ustar":
        return "application/x-tar"
    if data[:1] == b"\x30" and data[1:2] in (b"\x80", b"\x82", b"\x83", b"\x84") and _PKCS7 in data[:64]:
        return "application/pkcs7-mime"
    if data[:2] == b"BM" and len(data) > 26 and data[6:10] == b"\0\0\0\0":
        return "image/bmp"
    if data[:2] == b"MZ" and b"\0" in data[:64]:
        return "application/x-msdownload"
    if data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"):
        return "audio/mpeg"
    return "application/pdf" if _PDF.search(data, 0, 1024) else None


def _ole(data: bytes) -> str:
    for stream, content_type in _OLE_STREAMS:
        # A directory entry: the name in UTF-16LE, padded to 64 bytes with its length behind it (MS-CFB 2.6.1).
        encoded = stream.encode("utf-16-le") + b"\0\0"
        if encoded.ljust(64, b"\0") + struct.pack("<H", len(encoded)) in data:
            return content_type
    return "application/x-ole-storage"


def _zip(data: bytes) -> str:
    found = _OPENDOCUMENT.match(data)
    if found:
        return found.group(1).decode("ascii")
    names = set(zip_names(data))
    for member, content_type in _ZIP_MEMBERS:
        if member in names:
            return content_type
    if "META-INF/MANIFEST.MF" in names:
        return "application/java-archive"
    if "[Content_Types].xml" not in names:
        return "application/zip"
    for folder, content_type in (
        ("word/", _ZIP_MEMBERS[0][1]),
        ("ppt/", _ZIP_MEMBERS[1][1]),
        ("xl/", _ZIP_MEMBERS[2][1]),
    ):
        if any(entry.startswith(folder) for entry in names):
            return content_type
    return "application/zip"


def zip_names(data: bytes, most: int = 5_000) -> Iterator[str]:
    """Names in a ZIP's central directory, at most `most`; none when the directory is damaged (APPNOTE 4.3.12)."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 66_000))
    if end < 0 or end + 22 > len(data):
        return
    size, offset = struct.unpack_from("<II", data, end + 12)
    position = end - size if end - size >= 0 and data[end - size : end - size + 4] == b"PK\x01\x02" else offset
    for _ in range(most):
        if data[position : position + 4] != b"PK\x01\x02" or position + 46 > len(data):
            return
        name, extra, comment = struct.unpack_from("<HHH", data, position + 28)
        yield data[position + 46 : position + 46 + name].decode("utf-8", "replace")
        position += 46 + name + extra + comment


def _text(data: bytes, name: str, claim: str) -> str | None:
    head = data[:_HEAD]
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not wide and not _looks_like_text(head):
        return "text/plain" if claim.startswith("text/") and b"\0" not in head else None
    if wide:
        return _text_claim(name, claim) or "text/plain"
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if bare[:15].upper().startswith(b"BEGIN:VCALENDAR"):
        return "text/calendar"
    if bare[:11].upper().startswith(b"BEGIN:VCARD"):
        return "text/vcard"
    if _HTML.match(bare):
        return "text/html"
    if bare.startswith(b"<?xml"):
        return "application/xml"
    hint = _text_claim(name, claim)
    if hint in ("text/html", "application/xml"):
        return hint if b"<" in data else "text/plain"
    if hint in ("application/json", None) and bare[:1] in (b"{", b"["):
        return "application/json" if hint or _json_like(data) else "text/plain"
    if hint == "application/json":
        return "text/plain"
    if hint is None and _looks_like_mail(head):
        return "message/rfc822"
    return hint or "text/plain"


def _text_claim(name: str, claim: str) -> str | None:
    if claim in _TEXT_CLAIMS:
        return _TEXT_CLAIMS[claim]
    if claim.endswith("+json") or claim == "application/json":
        return "application/json"
    if claim.endswith(("+xml", "/xml")):
        return "application/xml"
    return _TEXT_BY_EXTENSION.get(name.rpartition(".")[2].lower())


def _media_claim(claim: str) -> str:
    """Sound and film come in too many formats to know them all; for these alone the claim is taken."""
    return claim if claim.startswith(("audio/", "video/")) else OCTETS


def _looks_like_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    control = sum(1 for byte in head if byte < 32 and byte not in b"\t\n\r\f\x1b\x08")
    if control * 50 > len(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 4:
            return True
        high = sum(1 for byte in head if byte >= 0x80)
        undefined = sum(1 for byte in head if 0x80 <= byte < 0xA0)
        return high * 2 < len(head) or undefined * 4 < high
    return True


def _looks_like_mail(head: bytes) -> bool:
    lines = head.splitlines()[:40]
    seen = {line.split(b":")[0].strip().lower() + b":" for line in lines if _HEADER_LINE.match(line)}
    first = bool(lines) and bool(_HEADER_LINE.match(lines[0]) or lines[0].startswith(b"From "))
    return first and len(seen.intersection(_MAIL_HEADERS)) >= 3


def _json_like(data: bytes) -> bool:
    start = data[:_HEAD].lstrip()[1:].lstrip()[:1]
    return start in (b'"', b"{", b"[", b"]", b"}", b"-") or start.isdigit() or start in b"tfn"
