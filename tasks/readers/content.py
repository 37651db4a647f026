"""What a reader of one format gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.readers.limits import Limits


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read, with what its carrier said about it."""

    data: bytes
    name: str = ""
    content_type: str = ""
    """As found in the bytes (`sniff`)."""
    claimed: str = ""
    """As the carrier claimed it, with parameters such as a form's boundary."""
    charset: str = ""
    """As claimed; empty when nothing was said."""
    passwords: tuple[str, ...] = ()
    """To be tried on an encrypted file."""
    limits: Limits = field(default_factory=Limits)
    more_time: Callable[[], None] = lambda: None
    """To be called once before optical recognition starts: lifts the child's clock by `limits.ocr_seconds`."""


@dataclass(frozen=True, slots=True)
class Child:
    """A file found inside another: a member of an archive, an attachment of a nested mail, a PDF's embedded XML."""

    name: str
    data: bytes
    content_type: str = ""
    charset: str = ""
    locked: bool = False
    """It could not be taken out for want of a password, and has no data."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a reader read. It raises `tasks.errors.Unreadable` when it can read nothing."""

    text: str = ""
    pages: int = 1
    notes: tuple[str, ...] = ()
    """What was left out, and anything else a person should know about the text."""
    children: tuple[Child, ...] = ()
    locked: bool = False
    """Something in it needs a password that none of ours is."""
    content_type: str = ""
    """What it is under its encryption; empty when that is what it looked like."""
    hurried: bool = False
    """Time ended it: with more of it there might be more text."""


Reader = Callable[[Source], Content]
