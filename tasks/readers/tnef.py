"""Outlook's `winmail.dat` (MS-OXTNEF): the body, and the attachments that hide in it. Own, since no kept library reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.errors import Unreadable
from tasks.readers import web
from tasks.readers.content import Child, Content, Source
from tasks.readers.names import clean_name
from tasks.readers.office import rtf_text

TYPES = ("application/vnd.ms-tnef",)

SIGNATURE = 0x223E9F78
MOST_ATTRIBUTES = 20_000
"""Attributes and properties that are read in one file."""

_BODY, _TITLE, _DATA, _RENDER, _PROPERTIES, _ATTACHED, _CODEPAGE = (
    0x800C, 0x8010, 0x800F, 0x9002, 0x9003, 0x9005, 0x9007,
)  # fmt: skip
_PR_BODY, _PR_RTF, _PR_HTML = 0x1000, 0x1009, 0x1013
_PR_NAMES = (0x3707, 0x3704, 0x3001)
_PR_DATA, _PR_TYPE = 0x3701, 0x370E
_OBJECT = 0x000D
_FIXED = {
    0x0001: 0, 0x0002: 4, 0x0003: 4, 0x0004: 4, 0x0005: 8, 0x0006: 8, 0x0007: 8, 0x000A: 4, 0x000B: 4, 0x0014: 8,
    0x0040: 8, 0x0048: 16,
}  # fmt: skip
"""Bytes of a value by property type (MS-OXCDATA section 2.11.1)."""
_STRING8, _UNICODE = 0x001E, 0x001F
_RTF_START = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
"""What the window of compressed RTF holds at the start (MS-OXRTFCP section 3.1.1.1)."""


@dataclass
class _Attachment:
    name: str = ""
    content_type: str = ""
    data: bytes = b""


@dataclass
class _Message:
    codec: str = "cp1252"
    text: str = ""
    html: bytes = b""
    rtf: bytes = b""
    attachments: list[_Attachment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(source: Source) -> Content:
    """The body as text (plain, else HTML, else RTF); attachments as children. What is broken off is told."""
    if len(source.data) < 6 or struct.unpack_from("<I", source.data)[0] != SIGNATURE:
        raise Unreadable("it does not begin as TNEF does")
    message = _Message()
    try:
        for level, name, data in _attributes(source.data):
            _take(message, level, name, data)
    except (struct.error, IndexError, ValueError) as error:
        message.notes.append(f"the file breaks off or is damaged ({error})")
    children = tuple(
        Child(clean_name(found.name), found.data, found.content_type)
        for found in message.attachments
        if found.data or found.name
    )
    if not children and not (message.text or message.html or message.rtf):
        if message.notes:
            raise Unreadable(message.notes[0])
        message.notes.append("it holds no text and no files")
    return Content(text=_text(message, source), notes=tuple(message.notes), children=children)


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(level, id, value) of each attribute (MS-OXTNEF section 2.1.3.1)."""
    position = 6
    for _ in range(MOST_ATTRIBUTES):
        if len(data) - position < 9 or data[position] not in {1, 2}:
            return  # many writers leave something behind the last attribute
        level, name, length = struct.unpack_from("<BII", data, position)
        position += 9
        if length > len(data) - position:
            raise ValueError("an attribute is longer than the file")
        yield level, name & 0xFFFF, data[position : position + length]
        position += length + 2


def _take(message: _Message, level: int, name: int, data: bytes) -> None:
    """Put one attribute where it belongs."""
    if name == _CODEPAGE:
        message.codec = _codec(struct.unpack_from("<I", data)[0])
    elif name == _BODY and level == 1:
        message.text = message.text or _string(data, message.codec)
    elif name == _PROPERTIES and level == 1:
        _take_message_properties(message, data)
    elif name == _RENDER:
        message.attachments.append(_Attachment())
    elif level == 2 and message.attachments:
        last = message.attachments[-1]
        if name == _TITLE:
            last.name = last.name or _string(data, message.codec)
        elif name == _DATA:
            last.data = data
        elif name == _ATTACHED:
            _take_attachment_properties(last, data, message.codec)


def _take_message_properties(message: _Message, data: bytes) -> None:
    for name, kind, value in _properties(data):
        if name == _PR_BODY:
            message.text = _decoded(value, kind, message.codec) or message.text
        elif name == _PR_HTML:
            message.html = value
        elif name == _PR_RTF:
            message.rtf = decompressed(value)


def _take_attachment_properties(found: _Attachment, data: bytes, codec: str) -> None:
    names: dict[int, str] = {}
    for name, kind, value in _properties(data):
        if name in _PR_NAMES:
            names[name] = _decoded(value, kind, codec)
        elif name == _PR_TYPE:
            found.content_type = _decoded(value, kind, codec)
        elif name == _PR_DATA and not found.data:
            found.data = value[16:] if kind == _OBJECT else value  # an object begins with its interface's id
    found.name = next((names[name] for name in _PR_NAMES if names.get(name)), found.name)


def _properties(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(id, type, value) of each MAPI property (MS-OXTNEF section 2.1.3.4); of several values the first."""
    count = struct.unpack_from("<I", data)[0]
    position = 4
    for _ in range(min(count, MOST_ATTRIBUTES)):
        kind, name = struct.unpack_from("<HH", data, position)
        position += 4
        if name >= 0x8000:
            position = _after_name(data, position)
        several = bool(kind & 0x1000)
        kind &= 0x0FFF
        values: list[bytes] = []
        if kind in _FIXED:
            number = struct.unpack_from("<I", data, position)[0] if several else 1
            position += 4 * several
            values = [data[position : position + _FIXED[kind]]]
            position += _FIXED[kind] * number
        else:
            number = struct.unpack_from("<I", data, position)[0]
            position += 4
            for _ in range(min(number, MOST_ATTRIBUTES)):
                length = struct.unpack_from("<I", data, position)[0]
                if length > len(data) - position - 4:
                    raise ValueError("a property is longer than its attribute")
                values.append(data[position + 4 : position + 4 + length])
                position += 4 + length + -length % 4
        yield name, kind, values[0] if values else b""


def _after_name(data: bytes, position: int) -> int:
    """Where a named property's value begins: behind a GUID and a number or a string."""
    kind, length = struct.unpack_from("<II", data, position + 16)
    return int(position + 24 + (length + -length % 4 if kind == 1 else 0))


def _string(data: bytes, codec: str) -> str:
    return data.split(b"\0", 1)[0].decode(codec, "replace")


def _decoded(value: bytes, kind: int, codec: str) -> str:
    if kind == _UNICODE:
        return value.decode("utf-16-le", "replace").split("\0", 1)[0]
    return _string(value, codec) if kind == _STRING8 else ""


def _codec(page: int) -> str:
    name = {65001: "utf-8", 0: "cp1252"}.get(page, f"cp{page}")
    try:
        "".encode(name)
    except LookupError:
        return "cp1252"
    return name


def _text(message: _Message, source: Source) -> str:
    if message.text.strip():
        return message.text
    if message.html:
        page = web.read(
            Source(data=message.html, content_type="text/html", limits=source.limits)
        )  # it says its charset
        message.notes.extend(page.notes)
        return page.text
    return rtf_text(message.rtf) if message.rtf else ""


def decompressed(data: bytes) -> bytes:
    """Compressed RTF made RTF (MS-OXRTFCP section 2.2.3). Raises struct.error or ValueError on what is none."""
    _, size, kind = struct.unpack_from("<III", data)
    if kind == 0x414C454D:  # "MELA": not compressed
        return data[16 : 16 + size]
    if kind != 0x75465A4C:  # "LZFu"
        raise ValueError("RTF in an unknown compression")
    window = bytearray(_RTF_START.ljust(4096, b"\0"))
    write, out, position = len(_RTF_START), bytearray(), 16
    while position < len(data) and len(out) < size:
        control = data[position]
        position += 1
        for bit in range(8):
            if control >> bit & 1:
                if position + 1 >= len(data):
                    return bytes(out)
                pair = data[position] << 8 | data[position + 1]
                position += 2
                offset = pair >> 4
                if offset == write:
                    return bytes(out)
                copied = [(offset + step) % 4096 for step in range((pair & 15) + 2)]
            elif position < len(data):
                window[write] = data[position]
                out.append(data[position])
                write = (write + 1) % 4096
                position += 1
                continue
            else:
                return bytes(out)
            for place in copied:
                window[write] = window[place]
                out.append(window[place])
                write = (write + 1) % 4096
    return bytes(out)
