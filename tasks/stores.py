"""The store for large messages and fetched files: what any kind of it can do, and the one that is configured."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from config.settings import Settings
from tasks.blobs import Blobs


class Store(Protocol):
    """Bytes under their SHA-256."""

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its SHA-256 in hex; a damaged copy is replaced. Raises Unavailable."""

    def get(self, sha256: str) -> bytes:
        """The stored bytes, checked. Raises Permanent when they are gone or damaged, Unavailable when the store is away."""

    def check(self) -> str:
        """Store and remove a few bytes; where. Raises Unavailable."""

    def old(self, folder: int, before: float) -> list[tuple[str, int]]:
        """Digest and size of what lies in the `folder`-th of 256 and was last stored before a time (seconds)."""

    def remove(self, sha256: str, before: float) -> bool:
        """Remove one that nobody refers to, unless it was stored again after `before` (seconds); whether room was made."""

    def remove_parts(self, folder: int, before: float) -> None:
        """Remove what is left over in the `folder`-th of 256 and older than `before` (seconds)."""

    def kept_for_backup(self) -> AbstractContextManager[None]:
        """Nothing that was there at the beginning is lost meanwhile."""

    def sweeping(self) -> AbstractContextManager[bool]:
        """Whether anything may be removed now."""


def open_store(settings: Settings) -> Store:
    """The store that [blobs] names. Raises Permanent when the package for it is not installed."""
    if not settings.blobs.url:
        return Blobs(settings.blobs_dir)
    from tasks.objects import Objects  # noqa: PLC0415  # an optional package

    return Objects(settings.blobs)
