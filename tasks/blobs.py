"""Raw bytes by SHA-256, in a folder: written to a temporary name, fsynced, renamed, checked when read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import Permanent, Unavailable
from tasks.files import sync_folder

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
"""What the system says when it has too little of something now, or a network file system is away: waiting helps."""
_NAME = re.compile(r"[0-9a-f]{62}")
_PART = ".part-"


class Blobs:
    """A content-addressed folder: `ab/cdef...` under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()
        """Folders whose own names are on disk for certain: this process has fsynced what holds them."""

    def path(self, sha256: str) -> Path:
        """Where the bytes with this digest stand (or would)."""
        return self.root / sha256[:2] / sha256[2:]

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its SHA-256 in hex; a damaged copy is replaced. Raises Unavailable."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        try:
            new = not self.root.is_dir()
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self._kept(target, data):
                self._write(target, data)
            for folder in (target.parent, *self._above(target.parent, new=new)):
                sync_folder(folder)
            self._durable.add(target.parent)
        except OSError as error:
            raise Unavailable("ledger", f"cannot store {len(data)} bytes in {self.root}: {error.strerror}") from error
        return digest

    def _above(self, folder: Path, *, new: bool) -> list[Path]:
        """What has to be synced for `folder` itself to be found again: nothing, when this process has done it."""
        if new:
            self._durable.clear()
            return [self.root, self.root.parent]
        return [] if folder in self._durable else [self.root]

    def _kept(self, target: Path, data: bytes) -> bool:
        """Whether the bytes stand there whole; then they count as new, so that nobody sweeps them away meanwhile."""
        with self._lock("sweep", fcntl.LOCK_SH), contextlib.suppress(OSError):
            if target.read_bytes() == data:
                os.utime(target)
                return True
        return False

    @staticmethod
    def _write(target: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(prefix=_PART, dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise

    def get(self, sha256: str) -> bytes:
        """The stored bytes, checked.

        Raises Permanent, with the path, when they are gone, damaged or cannot be read; Unavailable when the whole
        store is not there or the system cannot read now.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if not self.root.is_dir():
                raise Unavailable("blobs", f"the blob store {self.root} is not there; is it mounted?") from None
            raise Permanent(f"the raw message is missing from the blob store ({path})") from None
        except OSError as error:
            if error.errno in _PASSING:
                raise Unavailable("blobs", f"cannot read {path}: {error.strerror}") from error
            raise Permanent(f"the raw message cannot be read from the blob store ({path}: {error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Permanent(
                f"the raw message is damaged: {path} ({len(data)} bytes) does not have the SHA-256 in its name"
            )
        return data

    def check(self) -> str:
        """Store and remove a few bytes; where. Raises Unavailable: a full or read-only disk, for instance."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=_PART, dir=self.root) as file:
                file.write(b"postroom" * 512)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable("blobs", f"cannot store anything in {self.root}: {error.strerror}") from error
        return str(self.root)

    def old(self, folder: int, before: float) -> list[tuple[str, int]]:
        """Digest and size of what lies in the `folder`-th of 256 and was last stored before a time (seconds)."""
        found = []
        for entry in self._entries(folder):
            with contextlib.suppress(FileNotFoundError):
                told = entry.stat()
                if _NAME.fullmatch(entry.name) and told.st_mtime < before:
                    found.append((entry.parent.name + entry.name, told.st_size))
        return found

    def remove(self, sha256: str, before: float) -> bool:
        """Remove one that nobody refers to, unless it was stored again after `before` (seconds)."""
        path = self.path(sha256)
        with self._lock("sweep", fcntl.LOCK_EX), contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
                return True
        return False

    def remove_parts(self, folder: int, before: float) -> None:
        """Remove what writers that were killed have left in the `folder`-th of 256."""
        for entry in self._entries(folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.startswith(_PART) and entry.stat().st_mtime < before:
                    entry.unlink()

    def _entries(self, folder: int) -> list[Path]:
        where = self.root / f"{folder:02x}"
        return sorted(where.iterdir()) if where.is_dir() else []

    @contextlib.contextmanager
    def kept_for_backup(self) -> Iterator[None]:
        """Nothing is swept away meanwhile."""
        if not self.root.is_dir():  # none was stored yet, or the store is away: reading will tell
            yield
            return
        with self._lock("backup", fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def sweeping(self) -> Iterator[bool]:
        """False when a backup is being made, or when the store is not there: then nothing may be removed."""
        if not self.root.is_dir():
            yield False
            return
        try:
            with self._lock("backup", fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except BlockingIOError:
            yield False

    @contextlib.contextmanager
    def _lock(self, name: str, how: int) -> Iterator[None]:
        with (self.root / f".{name}").open("a") as handle:
            fcntl.flock(handle, how)
            yield
