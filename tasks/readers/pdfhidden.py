"""Words of a PDF that a reader of its pages would not see, found from its page objects and taken out before reading.

Not seen is what is drawn in the invisible mode (ISO 32000-1 section 9.3.6), in the colour of what lies behind it, in
letters of less than SMALLEST points, transparent, or outside of the page. The text layer that a scanner's program puts
over a page's picture is invisible by right: it is kept, and told.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pypdfium2  # type: ignore[import-untyped]  # has no py.typed
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]  # has no py.typed

SMALLEST = 2.0
"""Points of a font below which nobody reads it."""
ALIKE = 12
"""Difference of each of two colours' parts (0 to 255) up to which words in one on the other are not seen."""
DEEPEST = 4
"""Forms inside forms that are looked into."""
MOST_OBJECTS = 200_000
"""Page objects of a file that are looked at."""
MOST_UNDER = 300
"""Shapes and pictures of a page, the last ones drawn, that words may stand on."""

Colour = tuple[int, int, int]
_Box = tuple[float, float, float, float]
_INVISIBLE = (3, 7)


@dataclass(frozen=True, slots=True)
class _Placed:
    """One object of a page: where it is drawn, with the objects drawn before it."""

    raw: object
    kind: int
    parent: object
    """The form it stands in; None on the page itself."""
    box: _Box
    scale: float


@dataclass(frozen=True, slots=True)
class Hidden:
    """What was found in one file."""

    data: bytes | None
    """The file without it; None when the reader leaves it out by itself."""
    words: str
    layers: int
    """Pages with an invisible layer over a picture."""


def find(document: pypdfium2.PdfDocument, pages: int) -> Hidden | None:
    """Look at the first `pages` pages; None when all words can be seen. Changes `document`."""
    words: list[str] = []
    layers = 0
    room = MOST_OBJECTS
    changed = False
    for number in range(pages):
        if room <= 0:
            break
        try:
            page = document[number]
        except pypdfium2.PdfiumError:  # a damaged page: whoever reads its text tells
            continue
        placed = list(_objects(page, room))
        room -= len(placed)
        edges = page.get_bbox()
        scanned = any(one.kind == pdfium.FPDF_PAGEOBJ_IMAGE and _share(one.box, edges) > 0.5 for one in placed)
        layers += scanned and any(map(_is_invisible, placed))
        hidden = list(_unseen(placed, edges, scanned=scanned))
        if hidden:
            words.append(_words(page, [one for one, _ in hidden]))
        removed = [_remove(page, one) for one, drops in hidden if not drops]
        if any(removed):
            page.gen_content()
            changed = True
        page.close()
    if not layers and not any(one.strip() for one in words):
        return None
    data = None
    if changed:
        out = io.BytesIO()
        document.save(out, flags=pdfium.FPDF_REMOVE_SECURITY)
        data = out.getvalue()
    return Hidden(data, " ".join(" ".join(words).split()), layers)


def _objects(page: pypdfium2.PdfPage, room: int) -> Iterator[_Placed]:
    """The page's objects in the order in which they are drawn, those inside forms too."""
    stack = [(None, iter(range(pdfium.FPDFPage_CountObjects(page))), pdfium.FS_MATRIX(1, 0, 0, 1, 0, 0))]
    while stack and room > 0:
        form, numbers, matrix = stack[-1]
        index = next(numbers, None)
        if index is None:
            stack.pop()
            continue
        raw = pdfium.FPDFFormObj_GetObject(form, index) if form else pdfium.FPDFPage_GetObject(page, index)
        kind = pdfium.FPDFPageObj_GetType(raw)
        room -= 1
        if kind == pdfium.FPDF_PAGEOBJ_FORM:
            if len(stack) <= DEEPEST:
                inner = pdfium.FS_MATRIX()
                pdfium.FPDFPageObj_GetMatrix(raw, inner)
                stack.append((raw, iter(range(pdfium.FPDFFormObj_CountObjects(raw))), _times(inner, matrix)))
            continue
        yield _Placed(raw, kind, form, _box(raw, matrix), max(abs(matrix.d), abs(matrix.b)))


def _times(inner: pdfium.FS_MATRIX, outer: pdfium.FS_MATRIX) -> pdfium.FS_MATRIX:
    """First `inner`, then `outer` (ISO 32000-1 section 8.3.4)."""
    return pdfium.FS_MATRIX(
        inner.a * outer.a + inner.b * outer.c,
        inner.a * outer.b + inner.b * outer.d,
        inner.c * outer.a + inner.d * outer.c,
        inner.c * outer.b + inner.d * outer.d,
        inner.e * outer.a + inner.f * outer.c + outer.e,
        inner.e * outer.b + inner.f * outer.d + outer.f,
    )


def _box(raw: object, matrix: pdfium.FS_MATRIX) -> _Box:
    sides = [ctypes.c_float() for _ in range(4)]
    if not pdfium.FPDFPageObj_GetBounds(raw, *sides):
        return 0, 0, 0, 0
    left, bottom, right, top = (side.value for side in sides)
    if (matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f) == (1, 0, 0, 1, 0, 0):
        return sides[0].value, sides[1].value, sides[2].value, sides[3].value
    corners = [
        (x * matrix.a + y * matrix.c + matrix.e, x * matrix.b + y * matrix.d + matrix.f)
        for x in (left, right)
        for y in (bottom, top)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _is_invisible(one: _Placed) -> bool:
    return one.kind == pdfium.FPDF_PAGEOBJ_TEXT and pdfium.FPDFTextObj_GetTextRenderMode(one.raw) in _INVISIBLE


def _unseen(placed: list[_Placed], edges: _Box, *, scanned: bool) -> Iterator[tuple[_Placed, bool]]:
    """Text that cannot be seen, and whether the reader drops it by itself."""
    under: list[_Placed] = []
    for one in placed:
        if one.kind != pdfium.FPDF_PAGEOBJ_TEXT:
            under.append(one)
            continue
        mode = pdfium.FPDFTextObj_GetTextRenderMode(one.raw)
        if mode in _INVISIBLE:
            if not scanned:
                yield one, False
        elif _share(one.box, edges) == 0 and one.box != (0, 0, 0, 0):
            yield one, True
        elif _is_tiny(one) or (mode == pdfium.FPDF_TEXTRENDERMODE_FILL and _is_lost(one, under)):
            yield one, False


def _is_tiny(one: _Placed) -> bool:
    size, matrix = ctypes.c_float(), pdfium.FS_MATRIX()
    if not pdfium.FPDFTextObj_GetFontSize(one.raw, size) or not pdfium.FPDFPageObj_GetMatrix(one.raw, matrix):
        return False
    return bool(abs(size.value) * max(abs(matrix.d), abs(matrix.b)) * one.scale < SMALLEST)


def _is_lost(one: _Placed, under: list[_Placed]) -> bool:
    """Whether a text has the colour of what is drawn under its middle; what cannot be told counts as seen."""
    colour = _fill(one.raw)
    if colour is None:
        return False
    if colour[3] < 10:
        return True
    x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
    ground: Colour | None = (255, 255, 255) if len(under) <= MOST_UNDER else None
    for other in under[-MOST_UNDER:]:
        left, bottom, right, top = other.box
        if left <= x <= right and bottom <= y <= top:
            ground = _painted(other, ground)
    return ground is not None and all(
        abs(mine - theirs) <= ALIKE for mine, theirs in zip(colour[:3], ground, strict=True)
    )


def _painted(other: _Placed, under: Colour | None) -> Colour | None:
    """What is seen where `other` was drawn; None for pictures, shadings and half transparent colours."""
    if other.kind != pdfium.FPDF_PAGEOBJ_PATH:
        return None
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    if not pdfium.FPDFPath_GetDrawMode(other.raw, fill, stroke) or fill.value == pdfium.FPDF_FILLMODE_NONE:
        return under
    colour = _fill(other.raw)
    if colour is None or 10 <= colour[3] < 245:
        return None
    return colour[:3] if colour[3] >= 245 else under


def _fill(raw: object) -> tuple[int, int, int, int] | None:
    parts = [ctypes.c_uint() for _ in range(4)]
    if not pdfium.FPDFPageObj_GetFillColor(raw, *parts):
        return None
    red, green, blue, alpha = (part.value for part in parts)
    return red, green, blue, alpha


def _share(box: _Box, edges: _Box) -> float:
    """How much of `edges` the box covers, 0 to 1; more than 0 when it touches."""
    width = min(box[2], edges[2]) - max(box[0], edges[0])
    height = min(box[3], edges[3]) - max(box[1], edges[1])
    whole = (edges[2] - edges[0]) * (edges[3] - edges[1])
    return max(width, 0) * max(height, 0) / whole if whole > 0 else 1


def _words(page: pypdfium2.PdfPage, hidden: list[_Placed]) -> str:
    """The words of some text objects, with a space where the line changes."""
    text = page.get_textpage()
    found = []
    for one in hidden:
        size = pdfium.FPDFTextObj_GetText(one.raw, text, None, 0)
        buffer = ctypes.create_string_buffer(size)
        pdfium.FPDFTextObj_GetText(one.raw, text, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
        found.append(buffer.raw[: max(size - 2, 0)].decode("utf-16-le", "replace"))
    text.close()
    out = found[:1]
    for (before, one), words in zip(pairwise(hidden), found[1:], strict=True):
        out.append(words if abs(before.box[1] - one.box[1]) < 1 else f" {words}")
    return "".join(out)


def _remove(page: pypdfium2.PdfPage, one: _Placed) -> bool:
    done = (
        pdfium.FPDFFormObj_RemoveObject(one.parent, one.raw)
        if one.parent
        else pdfium.FPDFPage_RemoveObject(page, one.raw)
    )
    if done:
        pdfium.FPDFPageObj_Destroy(one.raw)
    return bool(done)
