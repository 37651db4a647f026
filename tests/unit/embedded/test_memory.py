"""How much memory is left, as the kernel and the control group tell it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.embedded import memory

MEMINFO = "MemTotal:  24000000 kB\nMemFree:  100 kB\nMemAvailable:  2048000 kB\n"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A control group of 1 GiB that uses 600 MiB, 100 MiB of it cached files."""
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{600 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {100 * 2**20}\n")
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path


def test_kernel_alone(group: Path) -> None:
    """Without a limit of the group the kernel's number counts."""
    (group / "memory.max").write_text("max\n")
    assert memory.available(group / "meminfo", group) == 2_048_000 * 1024


def test_group_limit_is_smaller(group: Path) -> None:
    """The group's limit less what it uses counts where it is smaller; cached files are free."""
    assert memory.available(group / "meminfo", group) == (1024 - 600 + 100) * 2**20


@pytest.mark.parametrize("content", ["", "MemAvailable: much\n", "MemAvailable:\n"])
def test_unknown_is_none(tmp_path: Path, content: str) -> None:
    """Where nothing can be read there is no number, so nothing is refused."""
    (tmp_path / "meminfo").write_text(content)
    assert memory.available(tmp_path / "meminfo", tmp_path / "no group") is None


def test_own_resident_memory() -> None:
    """A living process holds memory, one that is gone holds none."""
    assert memory.resident(os.getpid()) > 2**20
    assert memory.resident(2**22 + 1) == 0
