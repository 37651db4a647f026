"""File names as a sender wrote them, made safe to show and to store."""

from __future__ import annotations

import mimetypes
import re
import unicodedata

_LONGEST = 200
_UNSAFE = re.compile(r'[<>:"|?*]')


def clean_name(name: str) -> str:
    """The last path component without control, format or reserved characters, at most 200 characters; may be empty.

    Directions of writing (U+202E and its kin) go too: they are used to make `fdp.exe` look like `exe.pdf`.
    """
    name = re.split(r"[/\\]", name.replace("\0", ""))[-1]
    name = "".join(
        " " if c in "\t\r\n" else c for c in name if c in "\t\r\n" or unicodedata.category(c) not in _DROPPED
    )
    name = _UNSAFE.sub("_", " ".join(name.split())).strip(" .")
    if len(name) <= _LONGEST:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 10:
        return name[:_LONGEST]
    return f"{stem[: _LONGEST - len(extension) - 1]}.{extension}"


def default_name(content_type: str, number: int) -> str:
    """A name for what came without one, so that people can speak of it."""
    claim = content_type.partition(";")[0].strip().lower()
    extension = ".eml" if claim == "message/rfc822" else mimetypes.guess_extension(claim) or ""
    return f"attachment-{number}{extension}"


_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control, format, surrogate, private, unassigned, line and paragraph separators."""
