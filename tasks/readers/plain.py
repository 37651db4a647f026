"""Plain text of any charset, and the text-like parts of mails: delivery reports, header copies, patches, keys."""

from __future__ import annotations

from tasks.readers.charset import decode
from tasks.readers.content import Content, Source

TYPES = ("text/*", "message/*", "application/pgp-signature", "application/pgp-keys")


def read(source: Source) -> Content:
    """The text as it stands; what had to be guessed about its charset is told."""
    text, note = decode(source.data, source.charset)
    return Content(text=text, pages=text.count("\f") + 1, notes=(note,) if note else ())
