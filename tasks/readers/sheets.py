"""Spreadsheets: each sheet a page, each row a line, cells separated by tabs."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from python_calamine import CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from tasks.readers import opendocument
from tasks.readers.charset import decode
from tasks.readers.content import Content, Source
from tasks.readers.encrypted import opened

_OPEN = "application/vnd.oasis.opendocument.spreadsheet"
TYPES = (
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.ms-excel",
    "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    _OPEN,
    _OPEN + "-template",
    "text/csv",
)
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 30


def read(source: Source) -> Content:
    """Every sheet, hidden ones too (told in the notes).

    Raises:
        Unreadable: the workbook is encrypted, and no password fits.
    """
    if source.content_type == "text/csv":
        return _csv(source)
    notes: tuple[str, ...] = ()
    if source.content_type.startswith(_OPEN) and opendocument.is_locked(source.data, source.limits.unpacked_bytes):
        data, notes = opendocument.opened(source)
        source = replace(source, data=data)
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(source.data))
    except PasswordError:
        data, notes = opened(source)
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
    content = _workbook(workbook, source.limits.text_chars)
    return replace(content, notes=(*notes, *content.notes))


def _workbook(workbook: CalamineWorkbook, most: int) -> Content:
    pages, notes, length = [], [], 0
    for sheet in workbook.sheets_metadata:
        if sheet.typ is not SheetTypeEnum.WorkSheet:
            notes.append(f"the sheet {sheet.name!r} is a chart or macro and was not read")
            continue
        if length > most:
            notes.append(f"the sheet {sheet.name!r} was not read: enough text already")
            continue
        if sheet.visible is not SheetVisibleEnum.Visible:
            notes.append(f"the sheet {sheet.name!r} is hidden")
        text = _lines(workbook.get_sheet_by_name(sheet.name).to_python())
        length += len(text)
        pages.append(f"Sheet: {sheet.name}\n{text}")
    return Content(text="\f".join(pages), pages=max(1, len(pages)), notes=tuple(notes))


def _lines(rows: Iterable[Sequence[object]]) -> str:
    lines = []
    for row in rows:
        cells = [_cell(value) for value in row]
        if any(cells):
            lines.append("\t".join(cells).rstrip("\t"))
    return "\n".join(lines)


def _cell(value: object) -> str:
    """A value as a person would write it: no `.0` on whole numbers, ISO 8601 dates without an idle midnight."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(" ", "seconds")
    return " ".join(str(value).split())


def _csv(source: Source) -> Content:
    text, note = decode(source.data, source.charset)
    csv.field_size_limit(source.limits.text_chars)
    notes = [note] if note else []
    rows = csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=_delimiter(text))
    try:
        body = _lines(rows)
    except csv.Error as error:
        notes.append(f"not well-formed as a table ({error}); shown as it is")
        body = text
    return Content(text=body, notes=tuple(notes))


def _delimiter(text: str) -> str:
    """The delimiter that splits the first lines most evenly."""
    lines = [line for line in text[:100_000].splitlines()[:_SAMPLE_LINES] if line.strip()]
    best, score = ",", 0.0
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines)
        ((count, times),) = counts.most_common(1) or [(0, 0)]
        if count and times * min(count, 5) > score:
            best, score = delimiter, times * min(count, 5)
    return best
