"""What waits for a decision, and deciding it: approve as it is or corrected, or reject with a reason."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import Response

from config.settings import Settings
from daemon.web.pages import corrections
from daemon.web.pages.ask import Ask, Stop
from daemon.web.pages.job import about, found
from daemon.web.pages.routing import Routing
from daemon.web.pages.site import Site, to
from tasks.ledger import Ledger
from tasks.models import Job, State
from tasks.review.desk import MOST_REASON, MOST_REPLY, By, Case, Desk, who_decided
from tasks.review.drafts import Draft, draft
from tasks.stores import Store

LIMIT = 50
PREFIX = "field."
"""How the name of a value's input begins."""


def install(site: Site, settings: Settings, ledger: Ledger, routing: Routing, store: Store) -> None:
    """The routes."""
    desk = Desk(settings, ledger, store, routing.all)

    def listed(ask: Ask) -> Response:
        queue = ledger.listing.queue(limit=LIMIT)
        number = ledger.listing.queued()
        return site.frame.page(ask, "review", queue=queue, number=number, done=ask.query("done"))

    def shown(ask: Ask) -> Response:
        job = found(ledger, ask)
        if job.state is not State.REVIEW:
            return to(f"/jobs/{job.id}")
        case = desk.case(job)
        label = ask.query("label", 40) or (case.before.label if case.before else "")
        return _page(ask, case, draft(case.route, case.extracted, case.before, label, None), None)

    def _page(ask: Ask, case: Case, made: Draft, text: str | None) -> Response:
        reply = desk.preview(case, made.judged)
        return site.frame.page(
            ask,
            "decide",
            **about(ledger, case.job),
            draft=made,
            labels=sorted({*case.route.labels, made.label} - {""}),
            preview=reply,
            text=reply.text if text is None else text,
            adds=case.route.reply.free_text and bool(reply.text),
            done=ask.query("done"),
            following=_following(ledger, case.job),
        )

    def decide(ask: Ask) -> Response:
        job = found(ledger, ask)
        action = ask.sent("action", 20)
        if job.state is not State.REVIEW:
            raise _too_late(ledger, job)
        case = desk.case(job)
        written = {key[len(PREFIX) :]: ask.sent(key, 1000) for key in ask.form if key.startswith(PREFIX)}
        made = draft(case.route, case.extracted, case.before, ask.sent("label", 40), written)
        text = ask.sent("text", MOST_REPLY)
        if action == "preview" or (action == "approve" and made.problems):
            return _page(ask, case, made, desk.own_words(case, made, text) or None)
        told = _decide(desk, case, made, text, ask)
        if not told:
            raise _too_late(ledger, job)
        ledger.visitors.note(ask.visitor.who, ask.address, told, job.id)
        following = _following(ledger, job)
        where = f"/review/{following}" if following else "/review"
        return to(f"{where}?done={quote(f'{told.capitalize()}: {job.subject or job.name or job.id}')}")

    site.get("/review", listed)
    corrections.install(site, ledger, store)
    site.get("/review/{job}", shown, "reviewer")
    site.post("/review/{job}", decide, "reviewer")


def _decide(desk: Desk, case: Case, made: Draft, text: str, ask: Ask) -> str:
    """Approve or reject; which of them, in a word, empty when somebody was faster. Raises Stop when it makes no sense."""
    action, seen = ask.sent("action", 20), ask.sent("seen", 12)
    by = By(ask.visitor.who, int(seen) if seen.isdecimal() else -1)
    if action == "approve":
        if not made.label:
            raise Stop(HTTPStatus.CONFLICT, "No label yet", "Say first what it is: choose a label.")
        return "approved" if desk.approve(case, made, text, by) else ""
    if action != "reject":
        raise Stop(HTTPStatus.BAD_REQUEST, "Not understood", "There is no such action.")
    reason = " ".join(ask.sent("reason", MOST_REASON).split())
    if not reason:
        said = "Say why it is rejected: whoever looks later wants to know."
        raise Stop(HTTPStatus.CONFLICT, "No reason yet", said)
    return "rejected" if desk.reject(case, made, reason, by) else ""


def _too_late(ledger: Ledger, job: Job) -> Stop:
    made = ledger.decisions.of(job.id)
    told = who_decided(made) if made else "The job has moved on since you opened the page."
    return Stop(HTTPStatus.CONFLICT, "Already decided", f"{told} Nothing of yours was changed or sent.")


def _following(ledger: Ledger, job: Job) -> str:
    """The next job that waits, else the first one; empty when there is none but this."""
    after = ledger.listing.queue((job.received_at, job.id), 1) or ledger.listing.queue(limit=2)
    return next((one.id for one in after if one.id != job.id), "")
