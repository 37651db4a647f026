"""One job: its trip, its documents with the evidence in them, the judgement, the reply and the deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from daemon.again import run_again
from daemon.redelivery import chosen
from daemon.web.pages.ask import Ask, Stop
from daemon.web.pages.evidence import SHOWN, Piece, pages_of
from daemon.web.pages.site import Site, to
from tasks.errors import Permanent
from tasks.ids import is_job_id
from tasks.intake import raw_of
from tasks.ledger import DeliveryState, Ledger
from tasks.models import RESTING, TERMINAL, Attempt, Classification, Document, Field, Job, Stage, first_stage
from tasks.review.tokens import NAME, masked
from tasks.stores import Store

PICTURED = frozenset(
    {"application/pdf", "image/png", "image/jpeg", "image/gif", "image/tiff", "image/bmp", "image/webp"}
)
"""Content types whose pages are shown as pictures."""
BODY_SHOWN = 20_000
"""Characters of a delivery and of an answer that the page shows."""
_NO_TRY = frozenset({"transient", "permanent", "unavailable", "in-doubt"})


@dataclass(frozen=True)
class Shown:
    """A document as the page shows it."""

    document: Document
    pages: list[list[Piece]]
    left_out: int
    """Characters of its text that are not shown."""


@dataclass(frozen=True)
class Try:
    """One attempt, and what the other side answered in full."""

    attempt: Attempt
    response: str
    bad: bool


@dataclass(frozen=True)
class Sent:
    """One delivery with its attempts, as the page shows it."""

    state: DeliveryState
    body: str
    tries: list[Try]


def install(site: Site, ledger: Ledger, store: Store) -> None:
    """The routes."""

    def shown(ask: Ask) -> Response:
        job = found(ledger, ask)
        return site.frame.page(ask, "job", **about(ledger, job), done=ask.query("done"))

    def raw(ask: Ask) -> Response:
        job = found(ledger, ask)
        data = raw_of(ledger, store, job.id, job.raw_sha256)
        if NAME in data and not ask.visitor.may("reviewer"):
            said = "This mail answers a question to a reviewer, and whoever has it could answer in their name."
            raise Stop(HTTPStatus.FORBIDDEN, "Not allowed", said)
        return download(data, _raw_name(job))

    def act(ask: Ask) -> Response:
        job = found(ledger, ask)
        action = ask.sent("action")
        done = _acted(ledger, job, action, ask)
        ledger.visitors.note(ask.visitor.who, ask.address, action, job.id, stage=ask.sent("stage", 20))
        return to(f"/jobs/{job.id}?done={quote(done)}")

    site.get("/jobs/{job}", shown)
    site.get("/jobs/{job}/raw", raw)
    site.post("/jobs/{job}", act, "admin")


def found(ledger: Ledger, ask: Ask) -> Job:
    """The job in the path. Raises Stop 404."""
    job_id = ask.path("job")
    job = ledger.jobs.get(job_id) if is_job_id(job_id) else None
    if job is None:
        said = "There is no job with this id. It may have been removed because it was old ([retention])."
        raise Stop(HTTPStatus.NOT_FOUND, "No such job", said)
    return job


def about(ledger: Ledger, job: Job) -> dict[str, Any]:
    """Everything that pages tell of a job."""
    value = ledger.jobs.result(job.id, Stage.CLASSIFY)
    judged = Classification(**value) if value else None
    documents = ledger.jobs.documents(job.id)
    fields: tuple[Field, ...] = judged.fields if judged else ()
    return {
        "job": job,
        "mail": (ledger.jobs.result(job.id, Stage.EXTRACT) or {}).get("mail"),
        "documents": [_shown(document, fields) for document in documents],
        "judged": judged,
        "others": _others(judged),
        "reply": ledger.jobs.result(job.id, Stage.REPLY),
        "deliveries": _deliveries(ledger, job),
        "events": [(event, _detail(event.detail)) for event in ledger.jobs.events(job.id)],
        "decisions": ledger.decisions.of(job.id),
        "stages": [stage.value for stage in list(Stage)[list(Stage).index(first_stage(job.kind)) :]],
        "pictured": PICTURED,
        "resting": job.state in RESTING,
        "ended": job.state in TERMINAL,
    }


def download(data: bytes, name: str) -> Response:
    """Bytes that a browser saves and never shows or runs (RFC 6266)."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._- ") else "_" for one in name)
    headers = {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


def _raw_name(job: Job) -> str:
    ends = {"mail": ".eml", "event": ".json"}
    return f"{job.id}{ends[job.kind.value]}" if job.kind.value in ends else job.name or job.id


def _shown(document: Document, fields: tuple[Field, ...]) -> Shown:
    return Shown(document, pages_of(document, fields), max(len(document.text) - SHOWN, 0))


def _others(judged: Classification | None) -> list[tuple[str, float]]:
    """The labels that came close, the likeliest first."""
    if judged is None:
        return []
    rest = [(label, share) for label, share in judged.alternatives.items() if label != judged.label and share >= 0.005]
    return sorted(rest, key=lambda one: -one[1])[:4]


def _deliveries(ledger: Ledger, job: Job) -> list[Sent]:
    tries, responses = ledger.deliveries.attempts_of(job.id), ledger.deliveries.responses_of(job.id)
    return [
        Sent(
            state,
            masked(state.delivery.body[: 4 * BODY_SHOWN].decode("utf-8", "replace"))[:BODY_SHOWN],
            [
                Try(one, responses.get(one.id, "")[:BODY_SHOWN], one.outcome in _NO_TRY)
                for one in tries
                if one.delivery == state.delivery.ordinal
            ],
        )
        for state in ledger.deliveries.of(job.id)
    ]


def _detail(detail: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in detail.items() if value not in ("", None, False))


def _acted(ledger: Ledger, job: Job, action: str, ask: Ask) -> str:
    """Do what a button says; what was done, in words. Raises Stop or Permanent when it was not done."""
    who = ask.visitor.who
    if action == "retry":
        stage = Stage(ask.sent("stage")) if ask.sent("stage") in set(Stage) else None
        if not run_again(ledger, job, stage, f"{who} asked", resend=False, alone=True):
            raise Permanent("A worker holds the job just now. Try again in a moment.")
        return "The job runs again."
    if action == "cancel":
        if not ledger.jobs.cancel(job.id, why=f"{who} cancelled it"):
            raise Permanent(f"The job has ended already, it is {job.state.value}.")
        return "The job is cancelled."
    if action in {"redeliver", "resend"}:
        number = ask.sent("delivery", 9)
        meant = chosen(ledger, job, int(number) if number.isdecimal() else None, resend=action == "resend")
        told = ledger.redeliveries.again([meant], f"{who} asked")
        if told[0].obstacle:
            raise Permanent(f"It was not sent again: {told[0].obstacle}.")
        return "It is sent again."
    raise Stop(HTTPStatus.BAD_REQUEST, "Not understood", "There is no such action.")
