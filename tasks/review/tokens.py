"""The name of a question that a reviewer got by mail: nobody else can make one, and it is good for nothing else.

It is the Message-ID of the mail, so an answer carries it back in In-Reply-To or References (RFC 5322 section 3.6.4). It
holds the job, its lease token (which each judgement and each decision changes) and who was asked, under the HMAC that all
our Message-IDs have.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from tasks.compose import is_own_message_id
from tasks.ledger.questions import asked_key
from tasks.models import MailFacts

MOST_IDS = 50
"""Message-IDs of an answer that are looked at."""
NAME = b"postroom.review-"
"""What the Message-IDs of all questions have in them."""
_ASKED = re.compile(
    r"<postroom\.review-([0-9a-z]{26})-(\d{1,9})-([0-9a-f]{8})\.\d{1,9}\.[0-9a-f]{32}@([^<>@\s]{1,250})>",
    re.IGNORECASE,
)
_SECRET = re.compile(r"(<?postroom\.review-[0-9a-z-]{1,80}\.\d{1,9}\.)[0-9a-f]{32}", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """What somebody was asked: to decide this job as it was then."""

    job_id: str
    seen: int
    """The job's lease token when the mail was written."""
    person: str
    """Who was asked: a hash of the address, so that a Message-ID that travels tells nobody's address."""

    @classmethod
    def to(cls, reviewer: str, job_id: str, seen: int) -> Question:
        """The question that the mail to `reviewer` asks."""
        return cls(job_id, seen, _person(reviewer))

    @property
    def name(self) -> str:
        """As it stands in the Message-ID."""
        return f"review-{self.job_id}-{self.seen}-{self.person}"

    @property
    def key(self) -> str:
        """The key of the job that asked it, and others."""
        return asked_key(self.job_id, self.seen)

    def is_to(self, address: str) -> bool:
        """Whether this person was asked."""
        return hmac.compare_digest(self.person, _person(address))

    def mark(self, secret: bytes) -> str:
        """A word for the lines around a reply's text, which whoever wrote the job's own mail cannot have guessed."""
        return hmac.new(secret, f"mark:{self.name}".encode(), hashlib.sha256).hexdigest()[:6]


@dataclass(frozen=True)
class Named:
    """What an answer's header names."""

    question: Question | None
    """None: something that looks like a question of ours, and is not."""


def named_in(mail: MailFacts, domain: str, secret: bytes) -> Named | None:
    """The question that a mail answers; None when it answers none, as nearly all mails do."""
    ids = [mail.in_reply_to, *reversed(mail.references)][:MOST_IDS]
    found = [one for text in ids for one in _ASKED.finditer(text) if one[4].lower() == domain.lower()]
    for one in found:
        if is_own_message_id(one[0], domain, secret):
            return Named(Question(one[1], int(one[2]), one[3]))
    return Named(None) if found else None


def masked(text: str) -> str:
    """A text without the names of questions: who reads one could answer it in somebody's name."""
    return _SECRET.sub(r"\1...", text)


def _person(address: str) -> str:
    return hashlib.sha256(address.strip().lower().encode()).hexdigest()[:8]
