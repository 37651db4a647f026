"""Where the shared corpus lies: beside the repository, never in it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "corpus"
MAIL = SHARED / "mail"
DOCUMENTS = SHARED / "documents"

needs_mail = pytest.mark.skipif(not MAIL.is_dir(), reason="../shared/corpus/mail is not here")
needs_documents = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="../shared/corpus/documents is not here")


def mails() -> list[Path]:
    """Every message (and every nasty file beside them), in a fixed order."""
    return sorted(path for path in MAIL.glob("*/*") if path.is_file() and path.name != "SOURCES.md")


def documents() -> list[Path]:
    """Every document, in a fixed order."""
    return sorted(path for path in DOCUMENTS.glob("*/*") if path.is_file())
