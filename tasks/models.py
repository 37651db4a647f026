"""The nouns of Postroom. All are frozen; each is what one table row or one stage's value looks like."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic import Field as Attribute

from tasks.texts import indexable


class Noun(BaseModel):
    """Base of the nouns: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OWN_SOURCE = "postroom"
"""The source of jobs that Postroom makes by itself: alerts. They begin at the deliver stage."""


class Kind(StrEnum):
    """What sort of thing came in."""

    MAIL = "mail"  # an RFC 5322 message
    EVENT = "event"  # a webhook's request body
    FILE = "file"  # a file dropped in a folder or uploaded


class State(StrEnum):
    """Where a job stands (docs/architecture.md draws the moves)."""

    RECEIVED = "received"
    FETCHING = "fetching"
    EXTRACTING = "extracting"
    CLASSIFYING = "classifying"
    REPLYING = "replying"
    DELIVERING = "delivering"
    WAITING = "waiting"
    REVIEW = "review"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED})
RESTING = TERMINAL | {State.REVIEW}


class Stage(StrEnum):
    """The steps of a job's trip, in order. Only events have something to fetch; all else begins with extract."""

    FETCH = "fetch"
    EXTRACT = "extract"
    CLASSIFY = "classify"
    REPLY = "reply"
    DELIVER = "deliver"


STATE_BEFORE = {
    Stage.FETCH: State.RECEIVED,
    Stage.EXTRACT: State.EXTRACTING,
    Stage.CLASSIFY: State.CLASSIFYING,
    Stage.REPLY: State.REPLYING,
    Stage.DELIVER: State.DELIVERING,
}
"""The state of a job that waits for a worker to run the stage."""


def first_stage(kind: Kind) -> Stage:
    """Where the trip of a new job begins."""
    return Stage.FETCH if kind is Kind.EVENT else Stage.EXTRACT


class Envelope(Noun):
    """Who sent a message, who receives it, and by which way it came (RFC 5321 section 2.3.1)."""

    source: str
    """Configured name of the way in: `smtp`, `imap:support`, `webhook:shop`, `folder:inbox`, `api`, `cli`.

    `postroom` is none of them (OWN_SOURCE).
    """
    kind: Kind
    key: Annotated[str, AfterValidator(indexable)]
    """The sender's own name for this message (Message-ID and body hash, webhook-id, ...); unique within `source`.

    One of more than 1,024 bytes is kept as its start and its SHA-256.
    """
    key_days: int = 0
    """Days after which the same key names another message; 0: never, while the job is in the ledger."""
    sender: str = ""
    """RFC 5321 reverse path; empty for `<>`, for events and for files."""
    recipients: tuple[str, ...] = ()
    """RFC 5321 forward paths, or the addresses a mailbox stands for."""
    content_type: str = "application/octet-stream"
    name: str = ""
    """File name, when a file came in."""
    headers: dict[str, str] = Attribute(default_factory=dict)
    """The few transport headers that routes or replies need (lower-case names); never secrets."""


class Receipt(Noun):
    """What `intake.accept` answers. Given only after the message is on disk."""

    job_id: str
    duplicate: bool = False
    """The same (source, key) was accepted before: `job_id` is the first one's."""
    conflict: bool = False
    """Same key, but other bytes than the first time."""
    received_at: int
    """Milliseconds since the epoch."""


class Job(Noun):
    """One message or event on its trip."""

    id: str
    source: str
    kind: Kind
    key: str
    state: State
    stage: Stage | None
    """The next stage to run; None when the trip is over."""
    route: str | None
    sender: str
    recipients: tuple[str, ...]
    subject: str
    message_id: str
    """Of the mail that came in, with angle brackets; empty otherwise."""
    content_type: str
    name: str
    headers: dict[str, str]
    raw_sha256: str
    raw_size: int
    label: str | None
    confidence: float | None
    reason: str
    """Why it rests where it rests; empty on the way."""
    attempts: int
    """Attempts of the current stage."""
    lease_token: int
    lease_owner: str
    lease_beat: int
    """Counts the lease's renewals; a beat that stands still tells a dead or frozen worker."""
    progress: dict[str, str | int] = Attribute(default_factory=dict)
    """What the running stage is at: `phase`, `tokens` of the call under way, `percent` of the stage's work.

    And `tail`, the end of what the model is writing, unchecked: for the page that shows it, and for nobody else.
    """
    due_at: int | None
    received_at: int
    updated_at: int


LOCKED = "opens only with a password"
"""Stands in the reason of each document that is unreadable for want of one."""


class Document(Noun):
    """One readable (or unreadable) thing within a job: the mail body, an attachment, the event's body."""

    ordinal: int
    name: str
    """Cleaned file name, or `body`/`event`."""
    content_type: str
    """As found in the bytes, not as claimed."""
    size: int
    sha256: str
    status: str = "read"
    """`read`, `unreadable` or `skipped`."""
    reason: str = ""
    """Why it is unreadable or skipped; notes on what was left out of a read one."""
    text: str = ""
    """UTF-8 text; pages are separated by a form feed, table rows are lines with cells separated by a tab."""
    pages: int = 1
    language: str = ""
    """ISO 639-1 code or empty."""
    parent: str = ""
    """Name of the attachment this one was found in, for archives and nested mails."""

    @property
    def locked(self) -> bool:
        """Whether it could not be read for want of a password."""
        return self.status == "unreadable" and LOCKED in self.reason


class Fetched(Noun):
    """A file that an event names by URL, as the fetch stage left it."""

    url: str
    status: str = "fetched"
    """`fetched` or `refused`."""
    reason: str = ""
    """Why it was refused."""
    claimed: str = ""
    """Content type that the server told."""
    content_type: str = ""
    """As found in the bytes."""
    sha256: str = ""
    """The bytes' name in the blob store."""
    size: int = 0


class Trust(Noun):
    """What is known about whether a mail's sender is who it says (RFC 8601). docs/mail.md tells what may be built on it."""

    by: str = ""
    """The authserv-id of the mail server that is believed, `m365`, or empty when none said anything."""
    dmarc: str = ""
    """`pass`, `fail`, `none`, ... as that server found; empty when it did not say."""
    spf: str = ""
    dkim: str = ""
    verified: str = ""
    """What our own DKIM check came to: `pass`, `fail`, `none`, `temperror`; empty when it was not asked for."""
    signed_by: tuple[str, ...] = ()
    """Domains with a DKIM signature that holds, as that server or we found."""
    aligned: bool = False
    """Whether one of them is the domain of From, its parent or its child."""
    allowed: bool = False
    """Whether From is on the allow-list, [trust] allow."""
    known: bool = False
    """Whether an earlier job with this sender is done."""


class MailFacts(Noun):
    """What a mail's header says, decoded, as far as the trip needs it (RFC 5322, RFC 2047)."""

    subject: str = ""
    from_address: str = ""
    from_name: str = ""
    reply_to: str = ""
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    message_id: str = ""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    date: str = ""
    headers: dict[str, tuple[str, ...]] = Attribute(default_factory=dict)
    """The other header fields that the rules on automatic replies look at, by lower-case name."""
    no_reply_because: str = ""
    """Why an automatic responder must not answer (RFC 3834, tasks/loops.py); empty when it may."""
    trust: Trust = Trust()


class Extracted(Noun):
    """Value of the extract stage."""

    mail: MailFacts | None = None
    documents: tuple[Document, ...] = ()


class Field(Noun):
    """One value the model read, with its evidence."""

    name: str
    value: str
    """Normalised: ISO 8601 dates, plain decimals with a point, trimmed text."""
    quote: str = ""
    """The words of the document it was read from; empty when none were found."""
    document: int | None = None
    """Ordinal of the document the quote stands in."""
    page: int | None = None
    line: int | None = None
    """1-based page and line of the quote."""
    supported: bool = False
    """True when the value was found again in the text. An unsupported value is never sent unseen."""


class Classification(Noun):
    """Value of the classify stage."""

    label: str
    confidence: float
    alternatives: dict[str, float] = Attribute(default_factory=dict)
    """Every label's probability."""
    method: str = "logprobs"
    """`logprobs` or `schema`: how the label was found."""
    summary: str = ""
    fields: tuple[Field, ...] = ()
    model: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    notes: tuple[str, ...] = ()
    """What an admin should know: split documents, repaired output, missing fields."""
    review: str = ""
    """Why a person has to look first; empty when not."""

    def values(self) -> dict[str, str]:
        """The supported fields' values by name: what templates may use."""
        return {field.name: field.value for field in self.fields if field.supported}


class Delivery(Noun):
    """One thing to send. `body` are the exact bytes; they never change between attempts."""

    ordinal: int
    transport: str
    """`smtp` or `webhook`: the file in tasks/transports."""
    target: str
    """Mail address or endpoint name."""
    key: str
    """Message-ID or Idempotency-Key, from (job, ordinal): equal over all attempts."""
    content_type: str = "message/rfc822"
    body: bytes
    headers: dict[str, str] = Attribute(default_factory=dict)


class Reply(Noun):
    """Value of the reply stage."""

    template: str = ""
    subject: str = ""
    text: str = ""
    html: str = ""
    free_text: str = ""
    """The model's own sentences in it."""
    not_sent_because: str = ""
    """Why no mail reply goes out; empty when one does."""
    deliveries: tuple[Delivery, ...] = ()
    output_tokens: int = 0
    notes: tuple[str, ...] = ()
    """What an admin should know of how the model's sentences came about."""


class Outcome(Noun):
    """What one attempt to deliver came to. A transport returns it for success and raises for failure."""

    detail: str
    """The other side's answer, one line: `250 2.0.0 queued as 4F2`, `HTTP 200`."""
    response: str = ""
    """What it answered in full, cut to 64 KiB."""
    code: int | None = None


class Attempt(Noun):
    """One try of a delivery, written before the call and completed after it."""

    id: int
    delivery: int
    number: int
    started_at: int
    ended_at: int | None
    outcome: str
    """`open`, `sent`, `transient`, `permanent`, `unavailable` or `in-doubt`."""
    detail: str
    code: int | None = None
