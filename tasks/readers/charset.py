"""Bytes to text when the charset is claimed, guessed or wrong."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MISNAMED = {
    "iso-8859-1": "cp1252",  # WHATWG Encoding: what says Latin-1 is Windows-1252
    "latin1": "cp1252",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "utf8": "utf-8",
    "utf-8mb4": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "windows-874": "cp874",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
}
_WINDOWS_EAST_ASIAN = re.compile(r"windows[-_](932|936|949|950|874)$")
_NOT_TEXT = frozenset({"base64", "bz2", "hex", "quopri", "rot13", "uu", "zlib", "idna", "punycode", "mbcs", "oem"})
_GUESS_BYTES = 64 * 1024


def codec_of(charset: str) -> str | None:
    """Python's codec for a charset's name in mail or HTML; None when there is none or it is not one of text."""
    name = charset.strip().strip("\"'").lower()
    name = _MISNAMED.get(name, name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return None
    canonical = info.name.replace("_", "-").removesuffix("-codec")
    return None if canonical in _NOT_TEXT or canonical.startswith(("unicode-escape", "raw-unicode")) else name


def _windows_code_page(name: str) -> codecs.CodecInfo | None:
    """Python has `cp950`, but no `windows-950`, which is how Outlook and some mails call it."""
    found = _WINDOWS_EAST_ASIAN.match(name)
    return codecs.lookup(f"cp{found[1]}") if found else None


codecs.register(_windows_code_page)


def decode(data: bytes, charset: str = "") -> tuple[str, str]:
    """Text of `data` and a note on the charset (empty when it was as claimed).

    A byte order mark outranks the claim; valid UTF-8 outranks a wrong claim; an unknown charset is read as UTF-8 with
    replacement; without a claim the charset is guessed.
    """
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace"), ""
    claimed = codec_of(charset) if charset else None
    if claimed is not None:
        return _as_claimed(data, claimed, charset)
    try:
        return data.decode("utf-8"), f"unknown charset {charset[:40]!r} read as utf-8" if charset else ""
    except UnicodeDecodeError:
        if charset:
            return data.decode("utf-8", "replace"), f"unknown charset {charset[:40]!r} read as utf-8 with replacement"
    return _guessed(data)


def _as_claimed(data: bytes, codec: str, charset: str) -> tuple[str, str]:
    try:
        return data.decode(codec), ""
    except (UnicodeError, ValueError):
        pass
    try:
        return data.decode("utf-8"), f"claimed {charset[:40]!r}, read as utf-8"
    except UnicodeDecodeError:
        pass
    if codec == "utf-8":
        text, note = _guessed(data)
        return text, note.replace("charset guessed", f"not {charset[:40]!r} as claimed; charset guessed")
    return data.decode(codec, "replace"), f"some bytes are not {charset[:40]!r} and were replaced"


def _guessed(data: bytes) -> tuple[str, str]:
    best = None
    if not re.search(rb"\x00", data[:_GUESS_BYTES]) or len(data) % 2 == 0:
        best = from_bytes(data[:_GUESS_BYTES]).best()
    codec = best.encoding if best is not None and codec_of(best.encoding) else "cp1252"
    return data.decode(codec, "replace"), f"charset guessed: {codec}"
