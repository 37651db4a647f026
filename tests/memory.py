"""Where tests write: in memory where the machine has room there, so that a commit waits for no disk.

What an fsync is for, a machine that loses its power, no test here can show; that a process is killed, memory survives.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 1 << 30
"""Bytes that have to be free in MEMORY."""


def folder() -> Path | None:
    """MEMORY, when it has room and programs may be started from it; otherwise None: the usual temporary folder."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)) or shutil.disk_usage(MEMORY).free < ROOM:
        return None
    return None if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC else MEMORY
