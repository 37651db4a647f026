"""Word's binary format by whichever program is there (tasks/readers/binary.py), within a child's limits."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.errors import Unreadable
from tasks.readers import binary
from tasks.readers.content import Source
from tasks.readers.limits import Limits
from tasks.readers.sandbox.client import Sandbox
from tests.integration.readers.fixtures import DOC

Put = Callable[[str, str], None]
SOURCE = Source(data=DOC, content_type=binary.WORD)
REQUEST = {"op": "read", "as": "", "name": "", "claimed": "", "charset": "", "passwords": []}
RELAY = 'PATH={path} exec {program} "$@"'
PROFILE = """profile=${1#-env:UserInstallation=file://}
while read -r line; do case $line in *DisableMacrosExecution*true*) echo "$profile" >&2;; esac
done <"$profile/user/registrymodifications.xcu\""""
"""Tells the profile's folder when it forbids macros."""
needs_libreoffice = pytest.mark.skipif(
    not shutil.which("soffice"), reason="LibreOffice (libreoffice-writer-nogui) is not installed"
)
needs_catdoc = pytest.mark.skipif(not shutil.which("catdoc"), reason="catdoc is not installed")


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a program into a folder that is all of the search path; what it runs itself it finds where it always did."""
    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name: str, script: str) -> None:
        program = shutil.which(name, path=before)
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script or RELAY.format(path=before, program=program)}\n")
        path.chmod(0o755)

    return write


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One that is started with the test's search path."""
    own = Sandbox()
    yield own
    own.close()


@needs_libreoffice
def test_libreoffice_reads_it_with_its_rows(put: Put, sandbox: Sandbox) -> None:
    """Within the same limits as all other readers, and leaving nothing behind."""
    put("soffice", "")
    header = sandbox.call(REQUEST, DOC, Limits()).header
    assert header["text"].splitlines() == ["Offer 4711 for Harbour Lamps", "Bolt\t12", "Nut\t7,50", "Grüße"]
    assert header["reason"] == "read by LibreOffice"


@needs_libreoffice
@needs_catdoc
def test_catdoc_comes_first(put: Put) -> None:
    """It is quicker by far."""
    put("soffice", "")
    put("catdoc", "")
    content = binary.read(SOURCE)
    assert "Offer 4711 for Harbour Lamps" in content.text
    assert "read by catdoc" in content.notes[0]


@pytest.mark.usefixtures("put")
def test_without_a_program_it_is_told_what_is_missing() -> None:
    """By name and package; that reason is not kept for the next time."""
    with pytest.raises(Unreadable, match=r"program catdoc .*or LibreOffice") as told:
        binary.read(SOURCE)
    assert not told.value.lasting


def test_what_libreoffice_refuses_is_told(put: Put) -> None:
    """It says so on its way and ends as if all were well."""
    put("soffice", "echo 'Warning: failed to launch javaldx' >&2; echo 'Error: source file could not be loaded' >&2")
    with pytest.raises(Unreadable, match=r"LibreOffice cannot read it: Error: source file could not be loaded"):
        binary.read(SOURCE)


def test_it_gets_a_profile_of_its_own_without_macros(put: Put) -> None:
    """In a temporary folder, and not where a person's would be."""
    put("soffice", PROFILE)
    with pytest.raises(Unreadable, match=r": /\S+/profile$"):
        binary.read(SOURCE)


def test_a_program_that_hangs_is_killed_with_what_it_started(put: Put, sandbox: Sandbox, tmp_path: Path) -> None:
    """The whole process group goes when the time is over."""
    pids = tmp_path / "pids"
    put("soffice", f"/bin/sleep 600 & echo $! $$ >{pids}; wait")
    with pytest.raises(Unreadable, match="took longer than 2 seconds"):
        sandbox.call(REQUEST, DOC, Limits(wall_seconds=2, ocr_seconds=0))
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    end = time.monotonic() + 20
    while time.monotonic() < end and any(map(_runs, started)):
        time.sleep(0.05)
    assert not any(map(_runs, started))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
