"""Raw bytes by SHA-256, in a folder: written to a temporary name, fsynced, renamed, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from tasks.errors import Permanent, Unavailable


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
        """Store `data` durably and return its SHA-256 in hex. Raises Unavailable when the disk refuses."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        try:
            if target.is_file() and target.stat().st_size == len(data):
                return digest
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, data)
        except OSError as error:
            raise Unavailable("ledger", f"cannot store {len(data)} bytes in {self.root}: {error.strerror}") from error
        return digest

    def _write(self, target: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(prefix=".part-", dir=target.parent)
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
        _sync(target.parent)
        if target.parent not in self._durable:
            _sync(self.root)
            self._durable.add(target.parent)

    def get(self, sha256: str) -> bytes:
        """The stored bytes. Raises Permanent when they are gone or damaged."""
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Permanent(f"the raw message is missing from the blob store ({path})") from None
        except OSError as error:
            raise Unavailable("blobs", f"cannot read {path}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Permanent(f"the raw message is damaged: {path} does not have the SHA-256 in its name")
        return data


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
