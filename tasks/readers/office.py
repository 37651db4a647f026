"""The free office formats ODT and ODP, and RTF."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO

from striprtf.striprtf import rtf_to_text

from tasks.errors import Unreadable
from tasks.readers.container import member
from tasks.readers.content import Content, Source
from tasks.readers.opendocument import is_locked, opened
from tasks.readers.xmlscan import scan

_OPEN = "application/vnd.oasis.opendocument."
TYPES = (
    _OPEN + "text",
    _OPEN + "text-template",
    _OPEN + "presentation",
    "application/rtf",
)
_RTF_CODEPAGE = re.compile(rb"\\ansicpg(\d{3,5})")
_MOST_REPEATED = 100


def read(source: Source) -> Content:
    """Dispatch by type; all of them give paragraphs as lines and table rows with tabs."""
    if source.content_type == "application/rtf":
        return Content(text=rtf_text(source.data))
    return _opendocument(source)


def rtf_text(data: bytes) -> str:
    """The text of RTF; table cells are separated by tabs."""
    found = _RTF_CODEPAGE.search(data[:4096])
    codec = f"cp{found[1].decode()}" if found else "cp1252"
    text: str = rtf_to_text(data.decode("latin-1"), encoding=codec, errors="replace")  # type: ignore[no-untyped-call]  # striprtf has no types
    return text.replace("|\n", "\n").replace("|", "\t")


def _opendocument(source: Source) -> Content:
    room = source.limits.unpacked_bytes
    texts = []
    try:
        data, notes = opened(source) if is_locked(source.data, room) else (source.data, ())
        with zipfile.ZipFile(BytesIO(data)) as package:
            for name in ("styles.xml", "content.xml"):
                writer = _OpenFlow()
                xml = _member(package, name, room)
                if xml:
                    scan(xml, start=writer.start, end=writer.end, text=writer.text)
                texts.append(writer.result())
    except (zipfile.BadZipFile, EOFError) as error:
        raise Unreadable(f"the document's ZIP container is damaged: {error}") from error
    text = "\n\n".join(part for part in texts if part.strip())
    return Content(text=text, pages=text.count("\f") + 1, notes=notes)


def _member(package: zipfile.ZipFile, name: str, room: int) -> bytes:
    try:
        return member(package, name, room)
    except KeyError:
        return b""


class _OpenFlow:
    """Listens to OpenDocument 1.3 text: paragraphs, headings, table rows, slides."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._cells: list[list[str]] = []
        self._cell: list[list[str]] = []
        self._repeat: list[int] = []
        self._paragraph: list[list[str]] = []

    def result(self) -> str:
        """The text so far."""
        return "\n".join(self._lines).strip("\f\n")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        if name in ("p", "h"):
            self._paragraph.append([])
        elif name == "table-row":
            self._cells.append([])
        elif name == "table-cell" and self._cells:
            self._cell.append([])
            self._repeat.append(_count(attributes.get("number-columns-repeated", "1")))
        elif name == "page":
            self._lines.append("\f" if self._lines else "")
        elif self._paragraph:
            mark = {"tab": "\t", "line-break": "\n"}.get(name)
            self._paragraph[-1].append(" " * _count(attributes.get("c", "1")) if name == "s" else mark or "")

    def end(self, name: str) -> None:
        """An end tag."""
        if name in ("p", "h") and self._paragraph:
            text = "".join(self._paragraph.pop())
            (self._cell[-1] if self._cell else self._lines).append(text)
        elif name == "table-cell" and self._cell:
            text = " ".join(" ".join(self._cell.pop()).split())
            self._cells[-1].extend([text] * (self._repeat.pop() if text else 1))
        elif name == "table-row" and self._cells:
            row = "\t".join(self._cells.pop())
            (self._cell[-1] if self._cell else self._lines).append(row)

    def text(self, data: str) -> None:
        """A run of characters."""
        if self._paragraph:
            self._paragraph[-1].append(data)


def _count(value: str) -> int:
    return min(int(value), _MOST_REPEATED) if value.isdigit() else 1
