"""PDF: text with rows kept, form fields, comments, embedded files, and optical recognition where there are no words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pypdfium2  # type: ignore[import-untyped]  # has no py.typed
from liteparse import LiteParse, ParsedPage, ParseError
from PIL import Image
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE  # type: ignore[import-untyped]  # has no py.typed

from tasks.errors import Unreadable
from tasks.injections import telling
from tasks.readers import columns, pdfhidden
from tasks.readers.content import Child, Content, Source
from tasks.readers.locks import OPENED, locked
from tasks.readers.ocr import Recogniser

TYPES = ("application/pdf",)

_FEW_CHARACTERS = 25
"""Fewer words' characters than this on a page, and pictures on it: a scan."""
_PICTURE_PAGES = 2
_PICTURES_PER_PAGE = 2
_DPI = 250
_MOST_SIDE = 3_600
"""Pixels of a rendered page's longer side."""
_COLUMN_GAP = re.compile(r" {2,}")
_UNMAPPED = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08]")
_SHOWN_ANNOTATIONS = frozenset({"text", "freetext", "highlight", "underline", "strikeout", "stamp", "caret", "note"})


def read(source: Source) -> Content:
    """All pages. Embedded files, such as an electronic invoice's XML, are children.

    Raises:
        Unreadable: encrypted, damaged, or without any page.
    """
    with _opened(source) as (document, password):
        count = len(document)
        if count == 0:
            raise Unreadable("the PDF has no pages")
        shown = min(count, source.limits.pages)
        visible, hidden = _visible(document, source, shown)
        pages, notes = _text_pages(visible, password if visible is source else None)
        notes = [*([OPENED] if password is not None else []), *notes, *hidden]
        pages += [""] * (shown - len(pages))
        if shown < count:
            notes.append(f"only the first {shown} of {count} pages were read")
        recogniser = Recogniser(source)
        notes += _recognise(document, pages, recogniser)
        children = _embedded(document, source, notes)
    text = "\f".join(pages)
    if not text.strip("\f \n"):
        notes.append("no words were found on its pages")
    hurried = recogniser.hurried
    return Content(text=text, pages=shown, notes=tuple(notes), children=tuple(children), hurried=hurried)


@contextmanager
def _opened(source: Source) -> Iterator[tuple[pypdfium2.PdfDocument, str | None]]:
    """The document, opened with the first password that fits (none is tried first)."""
    for password in (None, *source.passwords):
        try:
            document = pypdfium2.PdfDocument(source.data, password=password)
        except pypdfium2.PdfiumError as error:
            reason = str(error)
            if "password" in reason.lower():
                continue
            if "security" in reason.lower():
                raise Unreadable("the PDF is encrypted in a way that is not supported") from error
            raise Unreadable(f"the PDF is damaged: {reason[:200]}") from error
        try:
            yield document, password
        finally:
            document.close()
        return
    raise locked("the PDF", source)


def _visible(document: pypdfium2.PdfDocument, source: Source, pages: int) -> tuple[Source, list[str]]:
    """The file without the words that nobody sees, and a note on them."""
    hidden = pdfhidden.find(document, pages)
    if hidden is None:
        return source, []
    notes = []
    if hidden.words:
        notes.append(f"{len(hidden.words)} characters that a reader would not see were left out{telling(hidden.words)}")
    if hidden.layers:
        notes.append(
            f"the words of {hidden.layers} pages stand in an invisible layer over a picture, as scanners write it"
        )
    return replace(source, data=hidden.data) if hidden.data else source, notes


def _text_pages(source: Source, password: str | None) -> tuple[list[str], list[str]]:
    parser = LiteParse(
        ocr_enabled=False,
        quiet=True,
        num_workers=1,
        output_format="text",
        max_pages=source.limits.pages,
        continue_on_page_error=True,
        extract_form_fields=True,
        extract_annotations=True,
        password=password,
    )
    pages: list[str] = []
    notes: list[str] = []
    try:
        for batch in parser.parse_batches(source.data):
            for page in batch.result.pages:
                pages += [""] * (page.page_num - 1 - len(pages))
                pages.append(_page_text(page))
            notes += [f"page {error.page_num} is damaged" for error in batch.result.page_errors]
    except ParseError as error:
        notes.append(f"the text after page {len(pages)} could not be read: {str(error)[:200]}")
    return pages, notes


def _page_text(page: ParsedPage) -> str:
    """A page's lines, the cells of a row parted by tabs, columns of prose in order; form fields and comments below."""
    lines = [_COLUMN_GAP.sub("\t", line.strip()) for line in columns.ordered(page.text.split("\n"))]
    fields = [
        f"{field.alternate_name or field.name}\t{field.value or ('yes' if field.checked else '')}"
        for field in page.form_fields or []
        if (field.alternate_name or field.name) and (field.value or field.checked)
    ]
    if fields:
        lines += ["", "Form fields:", *dict.fromkeys(fields)]
    comments = [
        annotation.contents.strip()
        for annotation in page.annotations or []
        if annotation.contents and annotation.subtype.lower() in _SHOWN_ANNOTATIONS
    ]
    if comments:
        lines += ["", "Comments:", *comments]
    return "\n".join(lines)


def _recognise(document: pypdfium2.PdfDocument, pages: list[str], recogniser: Recogniser) -> list[str]:
    """Fill in pages without words, and the words in large pictures on the first pages. Returns notes."""
    scanned = 0
    try:
        for number, text in enumerate(pages):
            readable = len("".join(_UNMAPPED.sub("", text).split()))
            unmapped = len(_UNMAPPED.findall(text))
            if readable >= _FEW_CHARACTERS and unmapped * 3 < readable:
                if number < _PICTURE_PAGES:
                    pages[number] = text + _pictures(document[number], text, recogniser)
                continue
            page = document[number]
            if readable < _FEW_CHARACTERS and next(page.get_objects(max_depth=3), None) is None:
                continue
            found = recogniser.text_of(_render(page))
            if found is not None and len("".join(found.text.split())) > readable:
                pages[number] = found.text
                scanned += 1
    except (Unreadable, pypdfium2.PdfiumError) as error:
        if not "".join(pages).strip():
            raise Unreadable(str(error)) from error
        recogniser.notes.append(str(error))
    return [*recogniser.notes, *([f"{scanned} pages read by optical recognition"] if scanned else [])]


def _render(page: pypdfium2.PdfPage, crop: tuple[float, float, float, float] = (0, 0, 0, 0)) -> Image.Image:
    width, height = page.get_size()
    scale = min(_DPI / 72, _MOST_SIDE / max(width - crop[0] - crop[2], height - crop[1] - crop[3], 1))
    image: Image.Image = page.render(scale=scale, crop=crop, grayscale=True).to_pil()
    return image


def _pictures(page: pypdfium2.PdfPage, text: str, recogniser: Recogniser) -> str:
    """Words that stand only in a picture, such as an issuer's name in a logo."""
    width, height = page.get_size()
    found = []
    for image in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=2):
        left, bottom, right, top = image.get_bounds()
        left, bottom, right, top = max(left, 0), max(bottom, 0), min(right, width), min(top, height)
        area = (right - left) * (top - bottom) / (width * height)
        if right - left >= 50 and top - bottom >= 12 and 0.004 <= area <= 0.6:
            found.append((area, (left, bottom, width - right, height - top)))
    known = "".join(text.split()).lower()
    lines: list[str] = []
    for _, crop in sorted(found, reverse=True)[:_PICTURES_PER_PAGE]:
        recognised = recogniser.text_of(_render(page, crop), whole=False)
        for line in recognised.text.split("\n") if recognised else ():
            if len(line) > 1 and "".join(line.split()).lower() not in known:
                lines.append(line)
    return "\n\nIn pictures:\n" + "\n".join(dict.fromkeys(lines)) if lines else ""


def _embedded(document: pypdfium2.PdfDocument, source: Source, notes: list[str]) -> list[Child]:
    children = []
    room = source.limits.unpacked_bytes
    for index in range(min(document.count_attachments(), source.limits.files)):
        try:
            attachment = document.get_attachment(index)
            name, data = attachment.get_name(), bytes(attachment.get_data())
        except pypdfium2.PdfiumError as error:
            notes.append(f"embedded file {index + 1} is damaged: {error}")
            continue
        room -= len(data)
        if room < 0:
            notes.append("embedded files over the limit were not read")
            break
        children.append(Child(name, data))
    return children
