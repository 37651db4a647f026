"""What is said of files that need a password: in the same words everywhere, so that replies can ask for one without."""

from __future__ import annotations

from tasks.errors import Unreadable
from tasks.models import LOCKED
from tasks.readers.content import Source

OPENED = "opened with one of the route's passwords"


def locked(what: str, source: Source) -> Unreadable:
    """The error for a file that no password opened; `what` begins the sentence."""
    tried = ", and none of those of its route fits" if source.passwords else ""
    return Unreadable(f"{what} is encrypted and {LOCKED}{tried}", locked=True)
