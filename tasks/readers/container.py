"""The ZIP containers that office documents are: their members, one at a time and no larger than allowed."""

from __future__ import annotations

import zipfile

from tasks.errors import Unreadable

TOO_LARGE = "the document is larger than allowed once unpacked"


def member(package: zipfile.ZipFile, name: str, room: int) -> bytes:
    """The bytes of one member, at most `room` of them; no more than one beyond that is unpacked.

    Raises:
        Unreadable: it is larger.
        KeyError: there is none of that name.
    """
    with package.open(name) as part:
        data = part.read(room + 1)
    if len(data) > room:
        raise Unreadable(TOO_LARGE)
    return data
