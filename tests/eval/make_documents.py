"""Makes the set's PDF, DOCX and PNG files: `python -m tests.eval.make_documents`. Needs the dev extra.

A source is plain text, named after what is made of it: `invoice-en-02.pdf.txt` becomes `invoice-en-02.pdf`. In a DOCX
`# ` starts a heading and `| a | b |` is a row of a table. All people, firms and numbers are invented.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import docx
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from daemon.demo.make_documents import MADE_ON, packed, write

SOURCES = Path(__file__).with_name("sources")
SET = Path(__file__).with_name("set")


def pdf(text: str) -> bytes:
    """The text line by line in a font of equal widths, so that its columns stay columns."""
    page = FPDF(format="A4")
    page.core_fonts_encoding = "windows-1252"
    page.creation_date = MADE_ON
    page.set_producer("postroom eval")
    page.set_margin(15)
    page.add_page()
    page.set_font("Courier", "", 9)
    for line in text.splitlines():
        page.cell(0, 4.6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(page.output())


def word(text: str) -> bytes:
    """Paragraphs, headings and tables in the order in which they stand."""
    document = docx.Document()
    document.core_properties.created = document.core_properties.modified = MADE_ON.replace(tzinfo=None)
    document.core_properties.author = "postroom eval"
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            _table(document, rows)
            rows = []
        if line.startswith("# "):
            document.add_heading(line[2:], 1)
        elif line.strip():
            document.add_paragraph(line)
    out = io.BytesIO()
    document.save(out)
    return packed(out.getvalue())


def _table(document: docx.document.Document, rows: list[list[str]]) -> None:
    grid = document.add_table(rows=0, cols=len(rows[0]))
    grid.style = "Table Grid"
    for row in rows:
        for cell, text in zip(grid.add_row().cells, row, strict=True):
            cell.text = text


def scan(text: str) -> bytes:
    """The text as a scanner would see it: grey paper, slightly turned, no text layer."""
    image = Image.new("L", (1100, 120 + 46 * len(text.splitlines())), 242)
    ImageDraw.Draw(image).multiline_text((80, 60), text, fill=45, font=ImageFont.load_default(29), spacing=13)
    turned = image.rotate(-0.5, resample=Image.Resampling.BICUBIC, fillcolor=242).quantize(8)
    out = io.BytesIO()
    turned.save(out, "PNG", optimize=True, dpi=(150, 150))
    return out.getvalue()


KINDS: dict[str, Callable[[str], bytes]] = {".pdf": pdf, ".docx": word, ".png": scan}


def made() -> dict[str, Callable[[], bytes]]:
    """What is made of each source, by the file's name."""
    return {path.stem: _maker(path) for path in sorted(SOURCES.glob("*.txt"))}


def _maker(source: Path) -> Callable[[], bytes]:
    return lambda: KINDS[Path(source.stem).suffix](source.read_text("utf-8"))


if __name__ == "__main__":
    write(made(), SET)
