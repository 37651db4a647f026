"""What can go wrong, as one tree.

PostroomError
|- Transient      try again after a wait; costs the job one attempt
|  `- Unavailable a dependency is down or busy; wait, costs no attempt
|     `- Busy     it is there, and has no room now
|- Permanent      trying again cannot help; the job or delivery ends with this reason
|  |- WrongSchema the ledger is another version's; a person has to migrate it
|  |- TargetGone  the receiver wants nothing more, this or other
|  |- Unreadable  one document cannot be read; the job goes on without it
|  `- NeedsReview a person has to decide; the job rests in `review`
`- LeaseLost      another worker owns the stage now; nothing may be written
"""

from __future__ import annotations


class PostroomError(Exception):
    """Base of every error that Postroom raises on purpose."""

    @property
    def reason(self) -> str:
        """The sentence an admin reads."""
        return str(self) or type(self).__name__


class Transient(PostroomError):
    """Try again later. `retry_after` (seconds) is the other side's wish, if it told one."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Unavailable(Transient):
    """A dependency (`dependency`: "ollama:URL", "smtp:host:port", "redis", ...) is down or busy: wait, at no attempt's cost.

    `asked` is False when it was not even tried this time, because a breaker leaves it alone.
    """

    def __init__(self, dependency: str, reason: str, *, retry_after: float | None = None, asked: bool = True) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.dependency = dependency
        self.asked = asked


class Busy(Unavailable):
    """It is there and has no room now."""


class Permanent(PostroomError):
    """Trying again cannot help."""


class WrongSchema(Permanent):
    """The ledger was written by an older or a newer version."""


class TargetGone(Permanent):
    """The receiver said that it wants nothing more, neither this delivery nor others."""


class Unreadable(Permanent):
    """A document that cannot be turned into text, and why.

    `locked`: a password would help. Not `lasting`: this time or this machine is to blame, and not the document.
    """

    def __init__(self, reason: str, *, locked: bool = False, lasting: bool = True) -> None:
        super().__init__(reason)
        self.locked = locked
        self.lasting = lasting


class NeedsReview(Permanent):
    """A person has to decide before the job goes on."""


class LeaseLost(PostroomError):
    """Somebody else owns this stage of the job now."""
