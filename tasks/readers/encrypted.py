"""Office documents that are encrypted as a whole, opened with a configured password and read as what they are then."""

from __future__ import annotations

import io
from dataclasses import replace

import msoffcrypto  # type: ignore[import-untyped]  # has no py.typed
from msoffcrypto.exceptions import DecryptionError, FileFormatError  # type: ignore[import-untyped]

from tasks.errors import Unreadable
from tasks.readers import registry
from tasks.readers.content import Content, Source
from tasks.readers.locks import OPENED, locked
from tasks.readers.sniffing import sniff

TYPES = ("application/vnd.ms-office.encrypted",)
_EVERYBODYS = "VelvetSweatshop"
"""What Excel encrypts with when it only guards against changes, and opens without asking (MS-OFFCRYPTO 2.4.2.3)."""


def read(source: Source) -> Content:
    """DOCX, XLSX and PPTX in their encrypted container.

    Raises:
        Unreadable: no password fits, or it is damaged.
    """
    data, notes = opened(source)
    content_type = sniff(data, source.name)
    reader = registry.reader_for(content_type)
    if reader is None or content_type in TYPES:
        raise Unreadable(f"there is no text to read in the {content_type} that it holds")
    content = reader(replace(source, data=data, content_type=content_type))
    return replace(content, content_type=content_type, notes=(*notes, *content.notes))


def opened(source: Source) -> tuple[bytes, tuple[str, ...]]:
    """An Office document without its encryption, and what a person should know of that.

    Raises:
        Unreadable: none fits, or it is encrypted in a way that is not known here.
    """
    for password in (_EVERYBODYS, *source.passwords):
        out = io.BytesIO()
        try:
            file = msoffcrypto.OfficeFile(io.BytesIO(source.data))
            file.load_key(password=password)
            file.decrypt(out)
        except DecryptionError:
            continue
        except FileFormatError:
            raise Unreadable("the Office document is encrypted in a way that is not supported") from None
        return out.getvalue(), (() if password == _EVERYBODYS else (OPENED,))
    raise locked("the Office document", source)


def is_locked(data: bytes) -> bool:
    """Whether an Office document of the older formats is encrypted."""
    try:
        return bool(msoffcrypto.OfficeFile(io.BytesIO(data)).is_encrypted())
    except Exception:  # it may raise anything on damaged bytes; its reader says what is wrong with them
        return False
