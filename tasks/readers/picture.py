"""One page as a picture for a person to look at, with places marked. Runs in a child process (tasks/readers/sandbox)."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence

import pypdfium2  # type: ignore[import-untyped]  # has no py.typed
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from tasks.errors import Unreadable

WIDTH = 1000
"""Pixels across; a page taller than MOST_HEIGHT is narrower."""
MOST_HEIGHT = 2400
_MOST_PIXELS = 80_000_000
_MARK = (255, 214, 10, 90)
_EDGE = (140, 90, 0, 255)
_MARGIN = 3
_MOST_MARKS = 200
_GAP = re.compile(r"\s{2,}|\t")
Box = tuple[float, float, float, float]


def picture(data: bytes, content_type: str, page: int, quotes: Sequence[str]) -> bytes:
    """A PNG of page `page` (from 1) of a PDF, with the words of `quotes` marked, or of the picture that `data` is.

    Raises Unreadable when there is no such page, or the bytes are damaged.
    """
    image = _pdf(data, page, quotes) if content_type == "application/pdf" else _image(data, page)
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _pdf(data: bytes, number: int, quotes: Sequence[str]) -> Image.Image:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"the PDF cannot be shown: {str(error)[:200]}") from error
    if not 1 <= number <= len(document):
        raise Unreadable(f"the PDF has no page {number}")
    page = document[number - 1]
    width, height = page.get_size()
    scale = min(WIDTH / max(width, 1), MOST_HEIGHT / max(height, 1))
    image: Image.Image = page.render(scale=scale).to_pil().convert("RGBA")
    if page.get_rotation() == 0:  # where a turned page's words stand in the picture is another reckoning
        left, bottom, _, _ = page.get_cropbox()
        boxes = list(_places(page, quotes))[:_MOST_MARKS]
        _mark(image, [_pixels(box, (left, bottom), height, scale) for box in boxes])
    return image


def _places(page: pypdfium2.PdfPage, quotes: Sequence[str]) -> Iterator[Box]:
    """Where the quotes stand, in points from the page's lower left corner; one with gaps also piece by piece."""
    text = page.get_textpage()
    for quote in quotes:
        found = list(_found(text, " ".join(quote.split())))
        if not found:
            found = [box for piece in _GAP.split(quote) if len(piece) > 2 for box in list(_found(text, piece))[:1]]
        yield from found


def _found(text: pypdfium2.PdfTextPage, words: str) -> Iterator[Box]:
    if not words:
        return
    place = text.search(words).get_next()
    if place:
        index, count = place
        for number in range(text.count_rects(index, count)):
            yield text.get_rect(number)


def _pixels(box: Box, origin: tuple[float, float], height: float, scale: float) -> Box:
    left, bottom, right, top = box
    x, y = origin
    return (
        (left - x) * scale - _MARGIN,
        (height - (top - y)) * scale - _MARGIN,
        (right - x) * scale + _MARGIN,
        (height - (bottom - y)) * scale + _MARGIN,
    )


def _mark(image: Image.Image, boxes: Sequence[Box]) -> None:
    above = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(above)
    for box in boxes:
        draw.rectangle(box, fill=_MARK, outline=_EDGE)
    image.alpha_composite(above)


def _image(data: bytes, page: int) -> Image.Image:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > _MOST_PIXELS:
            raise Unreadable(f"the picture has more than {_MOST_PIXELS // 1_000_000} megapixels")
        image.seek(page - 1)
        shown = ImageOps.exif_transpose(image).convert("RGBA")
    except EOFError as error:
        raise Unreadable(f"the picture has no page {page}") from error
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"the picture cannot be shown: {str(error)[:200]}") from error
    ground = Image.new("RGBA", shown.size, (255, 255, 255, 255))
    ground.alpha_composite(shown)
    ground.thumbnail((WIDTH, MOST_HEIGHT))
    return ground
