"""Word's and PowerPoint's binary formats, by the programs that are installed: catdoc and catppt, or LibreOffice for Word's."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from tasks.errors import Unreadable
from tasks.readers import office
from tasks.readers.charset import decode
from tasks.readers.content import Content, Source
from tasks.readers.encrypted import is_locked, opened

WORD = "application/msword"
TYPES = (WORD, "application/vnd.ms-powerpoint")
_CATDOC = {WORD: ("catdoc", "-w"), "application/vnd.ms-powerpoint": ("catppt",)}
_OFFICE = ("soffice", "libreoffice")
_OPEN_TEXT = "application/vnd.oasis.opendocument.text"
_PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Common/Security/Scripting">
<prop oor:name="DisableMacrosExecution" oor:op="fuse"><value>true</value></prop>
<prop oor:name="BlockUntrustedRefererLinks" oor:op="fuse"><value>true</value></prop>
</item>
<item oor:path="/org.openoffice.Office.Writer/Content/Update">
<prop oor:name="Link" oor:op="fuse"><value>2</value></prop>
</item>
</oor:items>
"""
"""LibreOffice's settings for one file: it runs no macro and fetches nothing that the document links to."""


def read(source: Source) -> Content:
    """Paragraphs as lines. The program is a child of this process: bound by the same limits, and killed with it.

    Raises:
        Unreadable: no program for it is installed, or it finds no text; the reason says which.
    """
    name, *options = _CATDOC[source.content_type]
    catdoc = shutil.which(name)
    libreoffice = next(filter(None, map(shutil.which, _OFFICE)), None) if source.content_type == WORD else None
    if not catdoc and not libreoffice:
        other = " or LibreOffice (libreoffice-writer-nogui)" if source.content_type == WORD else ""
        raise Unreadable(f"reading this format needs the program {name} (Debian package catdoc){other}", lasting=False)
    data, notes = opened(source) if is_locked(source.data) else (source.data, ())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "document.doc")
        file.write_bytes(data)
        if catdoc:
            content = _by_catdoc([catdoc, *options, "-d", "utf-8", str(file)], source)
        else:
            assert libreoffice is not None
            content = _by_libreoffice(libreoffice, file, source)
    return replace(content, notes=(*notes, *content.notes))


def _by_catdoc(command: list[str], source: Source) -> Content:
    done = _run(command, source)
    if done.returncode != 0 or not done.stdout.strip():
        raise Unreadable(f"{Path(command[0]).name} found no text in it{_complaint(done.stderr)}")
    text = done.stdout.decode("utf-8", "replace")
    return Content(text=text.replace("\f", "\n"), notes=("read by catdoc: tables may have lost their rows",))


def _by_libreoffice(program: str, file: Path, source: Source) -> Content:
    """Converted to ODT, with a profile that nobody else uses, and read as such: tables keep their rows."""
    profile = file.with_name("profile")
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(_PROFILE, encoding="utf-8")
    options = ("--headless", "--norestore", "--nologo", "--nolockcheck", "--convert-to", "odt:writer8", "--outdir")
    done = _run([program, f"-env:UserInstallation={profile.as_uri()}", *options, str(file.parent), str(file)], source)
    converted = file.with_suffix(".odt")
    if not converted.exists():  # it ends with status 0 all the same
        raise Unreadable(f"LibreOffice cannot read it{_complaint(done.stderr)}", lasting=done.returncode >= 0)
    content = office.read(replace(source, data=converted.read_bytes(), content_type=_OPEN_TEXT))
    return replace(content, notes=(*content.notes, "read by LibreOffice"))


def _run(command: list[str], source: Source) -> subprocess.CompletedProcess[bytes]:
    """The program's end. It stays in this child's process group, which is killed as a whole when its time is over."""
    return subprocess.run(  # fixed program, our own file name, no shell
        command, capture_output=True, stdin=subprocess.DEVNULL, timeout=source.limits.wall_seconds, check=False
    )


def _complaint(said: bytes) -> str:
    lines = [line for line in decode(said, "utf-8")[0].splitlines() if line.strip() and "javaldx" not in line]
    return f": {lines[0].strip()[:200]}" if lines else ""
