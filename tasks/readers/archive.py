"""Archives: their members become documents, within budgets for depth, number and size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import IO

from tasks.errors import Unreadable
from tasks.readers import winzip
from tasks.readers.content import Child, Content, Source
from tasks.readers.locks import OPENED, locked
from tasks.readers.names import clean_name

TYPES = (
    "application/zip",
    "application/java-archive",
    "application/x-tar",
    "application/gzip",
    "application/x-bzip2",
    "application/x-xz",
)
_MOST_LISTED = 200
_STREAMS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "application/gzip": lambda stream: gzip.GzipFile(fileobj=stream),  # type: ignore[dict-item,return-value]
    "application/x-bzip2": bz2.BZ2File,
    "application/x-xz": lzma.LZMAFile,
}
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError)


def read(source: Source) -> Content:
    """The list of members as text, the members as children; what was not unpacked stands in the notes.

    Raises:
        Unreadable: the archive is damaged, empty-handed for want of a password, or of a kind unknown here.
    """
    unpacker = _Unpacker(source)
    try:
        if source.content_type in ("application/zip", "application/java-archive"):
            unpacker.zip()
        elif source.content_type == "application/x-tar":
            unpacker.tar()
        else:
            unpacker.stream()
    except _DAMAGED as error:
        if not unpacker.children:
            raise Unreadable(f"the archive is damaged: {str(error)[:200]}") from error
        unpacker.notes.append(f"the archive is damaged, only its beginning was read: {str(error)[:200]}")
    return unpacker.content()


class _Unpacker:
    def __init__(self, source: Source) -> None:
        self.children: list[Child] = []
        self.notes: list[str] = []
        self._source = source
        self._room = source.limits.unpacked_bytes
        self._listing: list[str] = []
        self._locked = 0
        self._fitting: tuple[str, ...] = ()
        self._left = 0

    def content(self) -> Content:
        """What was unpacked."""
        if self._locked and self._locked == len(self.children):
            raise locked("the archive", self._source)
        if self._locked:
            self.notes.append(f"{self._locked} members open only with a password")
        if self._fitting:
            self.notes.append(OPENED)
        if self._left:
            limits = self._source.limits
            self.notes.append(
                f"{self._left} or more members were not unpacked: over {limits.files} files "
                f"or {limits.unpacked_bytes >> 20} MiB"
            )
        if len(self._listing) > _MOST_LISTED:
            self._listing[_MOST_LISTED:] = [f"... and {len(self._listing) - _MOST_LISTED} more"]
        return Content(
            "\n".join(self._listing), notes=tuple(self.notes), children=tuple(self.children), locked=bool(self._locked)
        )

    def zip(self) -> None:
        """A ZIP file; a member's stated size is not believed."""
        with zipfile.ZipFile(io.BytesIO(self._source.data)) as package:
            for info in package.infolist():
                if info.is_dir():
                    continue
                if not self._may(info.filename):
                    break
                if info.flag_bits & 1:
                    self._locked_member(package, info)
                else:
                    with package.open(info) as member:
                        self._take(info.filename, member)

    def _locked_member(self, package: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        """Read a member with the first password that fits, beginning with the one that fitted before."""
        for password in dict.fromkeys((*self._fitting, *self._source.passwords)):
            data = self._opened(package, info, password.encode())
            if data is not None:
                self._fitting = (password,)
                self._take(info.filename, io.BytesIO(data))
                return
        self._locked += 1
        self._listing.append(f"{info.filename} (needs a password)")
        self.children.append(Child(info.filename, b"", locked=True))

    def _opened(self, package: zipfile.ZipFile, info: zipfile.ZipInfo, password: bytes) -> bytes | None:
        """A locked member, as much of it as there is room for and a byte; None when it does not open."""
        most = self._room + 1
        try:
            if info.compress_type == winzip.METHOD:
                return winzip.member(self._source.data, info, password, most)
            with package.open(info, pwd=password) as member:
                return member.read(most)  # to its end, where its checksum tells whether the password was right
        except (RuntimeError, zipfile.BadZipFile, zlib.error):
            return None

    def tar(self) -> None:
        """A TAR file; links and devices are left alone."""
        with tarfile.open(fileobj=io.BytesIO(self._source.data), mode="r|") as package:
            for info in package:
                if info.isfile():
                    if not self._may(info.name):
                        break
                    member = package.extractfile(info)
                    if member is not None:
                        self._take(info.name, member)
                elif not info.isdir():
                    self.notes.append(f"{clean_name(info.name)} is a link or device and was left alone")

    def stream(self) -> None:
        """gzip, bzip2 or xz: one file. A TAR in it is an archive in an archive, and read as that."""
        name = clean_name(self._source.name)
        for ending, instead in ((".gz", ""), (".bz2", ""), (".xz", ""), (".tgz", ".tar"), (".txz", ".tar")):
            name = name.removesuffix(ending) + instead if name.lower().endswith(ending) else name
        with _STREAMS[self._source.content_type](io.BytesIO(self._source.data)) as stream:
            self._take(name, stream)

    def _may(self, name: str) -> bool:
        if len(self.children) < self._source.limits.files and self._room > 0:
            return True
        self._left += 1
        self._listing.append(f"{name} (not unpacked)")
        return False

    def _take(self, name: str, member: IO[bytes]) -> None:
        data = member.read(self._room + 1)
        if len(data) > self._room:
            self._left += 1
            self._room = 0
            self._listing.append(f"{name} (not unpacked)")
            return
        self._room -= len(data)
        self._listing.append(f"{name} ({len(data)} bytes)")
        self.children.append(Child(name, data))
