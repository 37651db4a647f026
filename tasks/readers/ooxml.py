"""DOCX and PPTX straight from their XML: headers, footers, tables, notes, comments and text boxes included."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO

from tasks.errors import Unreadable
from tasks.injections import telling
from tasks.readers.container import member
from tasks.readers.content import Child, Content, Source
from tasks.readers.xmlscan import scan

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
TYPES = (_DOCX, _PPTX)

_WORD_PARTS = (
    (re.compile(r"word/header\d*\.xml"), ""),
    (re.compile(r"word/document\d?\.xml"), ""),
    (re.compile(r"word/footnotes\.xml"), "Footnotes:"),
    (re.compile(r"word/endnotes\.xml"), "Endnotes:"),
    (re.compile(r"word/comments\.xml"), "Comments:"),
    (re.compile(r"word/footer\d*\.xml"), ""),
)
_SLIDE = re.compile(r"ppt/slides/slide(\d+)\.xml")
_EMBEDDED = re.compile(r"(word|ppt)/embeddings/(.+)")
_PICTURE = re.compile(r"(word|ppt)/media/(.+\.(?:png|jpe?g|tiff?|bmp|gif))", re.I)
_SKIPPED = frozenset({"Fallback", "moveFrom", "instrText", "delText"})
_FEW_CHARACTERS = 200
SMALLEST = 2.0
"""Points of a font below which nobody reads it."""
_MAY_HAVE_GROUND = frozenset({"tbl", "txbxContent", "drawing", "pict"})


def read(source: Source) -> Content:
    """Text in reading order. Embedded files are children; so are pictures, where there are hardly any words."""
    try:
        with zipfile.ZipFile(BytesIO(source.data)) as package:
            package_reader = _Package(package, source)
            content = package_reader.slides() if source.content_type == _PPTX else package_reader.document()
    except (zipfile.BadZipFile, EOFError) as error:
        raise Unreadable(f"the document's ZIP container is damaged: {error}") from error
    return content


class _Package:
    """One Office file: its parts by name, and what may still be unpacked."""

    def __init__(self, package: zipfile.ZipFile, source: Source) -> None:
        self._package = package
        self._names = [info.filename for info in package.infolist()]
        self._room = source.limits.unpacked_bytes
        self._notes: list[str] = []

    def document(self) -> Content:
        """A Word document; page breaks as Word last laid them out."""
        texts = []
        for pattern, title in _WORD_PARTS:
            seen: set[str] = set()
            for name in sorted(name for name in self._names if pattern.fullmatch(name)):
                text = self._text(name)
                if text.strip() and text not in seen:
                    seen.add(text)
                    texts.append(f"{title}\n{text}" if title else text)
        return self._content("\n\n".join(texts))

    def slides(self) -> Content:
        """A presentation: a page per slide, its notes below it."""
        numbers = sorted(int(found[1]) for name in self._names if (found := _SLIDE.fullmatch(name)))
        pages = []
        for number in numbers:
            page = self._text(f"ppt/slides/slide{number}.xml").replace("\f", "\n")
            notes = f"ppt/notesSlides/notesSlide{number}.xml"
            spoken = self._text(notes).replace("\f", "\n").strip() if notes in self._names else ""
            pages.append(f"{page}\n\nNotes:\n{spoken}" if spoken and not spoken.isdigit() else page)
        return self._content("\f".join(pages))

    def _content(self, text: str) -> Content:
        children = self._children(text)
        return Content(text, pages=text.count("\f") + 1, notes=tuple(self._notes), children=tuple(children))

    def _children(self, text: str) -> list[Child]:
        found = [Child(match[2], self._bytes(name)) for name in self._names if (match := _EMBEDDED.fullmatch(name))]
        pictures = [(match[2], name) for name in self._names if (match := _PICTURE.fullmatch(name))]
        if len(text.strip()) < _FEW_CHARACTERS:
            return found + [Child(short, self._bytes(name)) for short, name in pictures]
        if pictures:
            self._notes.append(f"{len(pictures)} pictures in it were not read")
        return found

    def _text(self, name: str) -> str:
        writer = Flow()
        scan(self._bytes(name), start=writer.start, end=writer.end, text=writer.text)
        if writer.hidden:
            hidden = "".join(writer.hidden)
            self._notes.append(f"{len(hidden)} characters of hidden text were left out{telling(hidden)}")
        return writer.result()

    def _bytes(self, name: str) -> bytes:
        data = member(self._package, name, self._room)
        self._room -= len(data)
        return data


class Flow:
    """Listens to WordprocessingML or DrawingML, whose names for paragraphs, runs and tables are the same."""

    def __init__(self) -> None:
        self.hidden: list[str] = []
        self._lines: list[str] = []
        self._targets: list[list[str]] = [self._lines]
        """Where a paragraph goes: the page, or the innermost table cell."""
        self._rows: list[list[str]] = []
        self._paragraphs: list[list[str]] = []
        self._path: list[str] = []
        self._skip = 0
        self._hidden_run = False
        self._pale_run = False
        self._shaded = False
        """The paragraph has a ground of its own."""

    def result(self) -> str:
        """The text; form feeds where pages end."""
        text = "\n".join(self._lines)
        return re.sub(r"\n?\f[\s\f]*", "\f", text).strip("\f\n")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if self._skip or name in _SKIPPED:
            self._skip += 1
        elif name == "p" and parent != "pPr":
            self._paragraphs.append([])
            self._shaded = False
        elif parent == "pPr" and _is_coloured(name, attributes):
            self._shaded = True
        elif name == "tc":
            self._targets.append([])
        elif name == "tr":
            self._rows.append([])
        elif name == "r":
            self._hidden_run = self._pale_run = False
        elif parent == "rPr" and self._path[-3:-2] == ["r"]:
            self._property(name, attributes)
        elif name == "rPr" and parent == "r":
            self._hidden_run = _letter_size(attributes.get("sz"), 100) < SMALLEST
        else:
            self._mark(name, parent, attributes)

    def _property(self, name: str, attributes: dict[str, str]) -> None:
        """What one property says of whether its run is seen (ISO 29500-1 section 17.3.2).

        White letters are: on a ground of their own, in tables and in shapes, which may have one.
        """
        value = attributes.get("val", "true")
        if name in ("vanish", "specVanish"):
            self._hidden_run = value not in ("0", "false", "off")
        elif name == "sz":
            self._hidden_run = self._hidden_run or _letter_size(value, 2) < SMALLEST
        elif name == "color":
            self._pale_run = value.upper() == "FFFFFF" and not _MAY_HAVE_GROUND.intersection(self._path)
        elif _is_coloured(name, attributes):
            self._pale_run = False

    def _mark(self, name: str, parent: str, attributes: dict[str, str]) -> None:
        if parent not in ("r", "p"):
            return
        if name == "tab":
            self._write("\t")
        elif name == "lastRenderedPageBreak" or (name == "br" and attributes.get("type") == "page"):
            self._write("\f" if len(self._targets) == 1 else "")
        elif name in ("br", "cr"):
            self._write("\n")
        elif name == "noBreakHyphen":
            self._write("-")

    def end(self, name: str) -> None:
        """An end tag."""
        self._path.pop()
        if self._skip:
            self._skip -= 1
        elif name == "p" and self._paragraphs:
            self._targets[-1].append("".join(self._paragraphs.pop()))
        elif name == "tc" and len(self._targets) > 1:
            cell = self._targets.pop()
            (self._rows[-1] if self._rows else self._targets[-1]).append("\n".join(cell).strip())
        elif name == "tr" and self._rows:
            self._targets[-1].append(_row(self._rows.pop()))

    def text(self, data: str) -> None:
        """A run of characters."""
        if self._skip or not self._path or self._path[-1] != "t":
            return
        if self._hidden_run or (self._pale_run and not self._shaded):
            self.hidden.append(data)
        else:
            self._write(data)

    def _write(self, piece: str) -> None:
        if self._paragraphs:
            self._paragraphs[-1].append(piece)


def _is_coloured(name: str, attributes: dict[str, str]) -> bool:
    """Whether a property gives a ground that is not white."""
    if name == "highlight":
        return attributes.get("val", "none") not in ("none", "white")
    return name == "shd" and attributes.get("fill", "auto").lower() not in ("auto", "ffffff")


def _letter_size(value: str | None, parts: int) -> float:
    """Points of a size given in `parts` to a point; a usual one when nothing is said."""
    return int(value) / parts if value and value.isdigit() else 12.0


def _row(cells: list[str]) -> str:
    """A table row as one line; the single cell of a layout table keeps its lines."""
    if len(cells) == 1:
        return cells[0]
    return "\t".join(" ".join(cell.split()) for cell in cells)
