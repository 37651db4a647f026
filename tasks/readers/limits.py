"""How much one message, and one child process, may cost. Every number has a unit in its name or its line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of reading. The defaults held against 67 hostile files (docs/reading.md)."""

    memory_bytes: int = 1 << 30
    """Address space of one child (RLIMIT_AS)."""
    cpu_seconds: int = 30
    """Processor time of one child before it starts optical recognition."""
    wall_seconds: float = 60.0
    """Elapsed time of one child before it starts optical recognition."""
    ocr_seconds: int = 120
    """Further time, of both sorts, for optical recognition of one file."""
    ocr_pages: int = 40
    """Pages and large pictures of one file that are recognised."""
    file_bytes: int = 64 << 20
    """Largest file a child may write (RLIMIT_FSIZE)."""
    open_files: int = 128
    """Descriptors of one child (RLIMIT_NOFILE)."""
    processes: int = 128
    """Processes and threads of all children together (RLIMIT_NPROC), where user namespaces allow it."""
    depth: int = 6
    """Archives in archives, mails in mails."""
    files: int = 2_000
    """Documents of one message."""
    unpacked_bytes: int = 256 << 20
    """What all archives, nested mails and embedded files of one message may come to, unpacked."""
    inline_bytes: int = 10_000
    """Largest picture that is passed over when the HTML of a mail with words shows it: a logo, a signature's icon."""
    pages: int = 5_000
    """Pages of one document."""
    text_chars: int = 2_000_000
    """Characters of text kept of one document."""
    message_seconds: float = 900.0
    """Elapsed time for everything in one message; what is left then is skipped, with that reason."""

    def as_dict(self) -> dict[str, Any]:
        """The limits as plain values, for the way to the child."""
        return asdict(self)
