"""A disk that can be full: a small tmpfs in a mount namespace of the campaign's own, or files that may not grow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path
from typing import Protocol

from tests.chaos.place import ours

CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x00020000, 16384, 1 << 18, 2


class Disk(Protocol):
    """What the campaign does to a disk."""

    def fill(self) -> None:
        """Nothing more fits."""

    def free(self) -> None:
        """There is room again."""

    def close(self) -> None:
        """It is needed no more."""


class SmallDisk:
    """A tmpfs. The kernel takes it away with the last process that sees it, however the campaign ends."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Mount it on `folder`. Raises OSError where this process may not."""
        libc = ctypes.CDLL(None, use_errno=True)
        _checked(libc.unshare(CLONE_NEWNS))
        _checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        _checked(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={megabytes}m".encode()))
        self._folder, self._libc = folder, libc
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Write until the disk is full."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, even while it is in use."""
        _checked(self._libc.umount2(os.fsencode(self._folder), MNT_DETACH))


class SmallFiles:
    """For those who may not mount: no file of Postroom's processes may grow (RLIMIT_FSIZE)."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def fill(self) -> None:
        """Every write beyond what the largest file has now fails."""
        self._limit(1)

    def free(self) -> None:
        """Files may grow again."""
        self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        """Nothing: the limits end with their processes."""

    def _limit(self, size: int) -> None:
        for pid in ours(self._config):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def small_disk(folder: Path, config: Path, megabytes: int) -> Disk:
    """The best that this process may have."""
    try:
        return SmallDisk(folder, megabytes)
    except OSError:
        return SmallFiles(config)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
