"""What waits for a decision, and deciding it: approve as it is or corrected, or reject with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from config.routes import Route
from config.settings import Settings
from daemon.web.pages.ask import Ask, Stop
from daemon.web.pages.job import about, found
from daemon.web.pages.judging import PREFIX, Draft, draft
from daemon.web.pages.routing import Routing
from daemon.web.pages.site import Site, to
from tasks.clock import iso
from tasks.intake import raw_of
from tasks.ledger import Ledger, decided_now
from tasks.models import Classification, Extracted, Job, Reply, Stage, State
from tasks.stores import Store

LIMIT = 50
MOST_REPLY = 20_000
"""Characters of a reply that a reviewer writes."""


@dataclass(frozen=True)
class Case:
    """A job that waits, and what is known of it."""

    job: Job
    route: Route
    extracted: Extracted
    before: Classification | None


def install(site: Site, settings: Settings, ledger: Ledger, routing: Routing, store: Store) -> None:
    """The routes."""
    review = _Review(settings, ledger, routing, store)

    def listed(ask: Ask) -> Response:
        queue = ledger.listing.queue(limit=LIMIT)
        number = ledger.listing.queued()
        return site.frame.page(ask, "review", queue=queue, number=number, done=ask.query("done"))

    def shown(ask: Ask) -> Response:
        job = found(ledger, ask)
        if job.state is not State.REVIEW:
            return to(f"/jobs/{job.id}")
        case = review.case(job)
        label = ask.query("label", 40) or (case.before.label if case.before else "")
        return _page(ask, case, draft(case.route, case.extracted, case.before, label, None), None)

    def _page(ask: Ask, case: Case, made: Draft, text: str | None) -> Response:
        reply = review.preview(case, made.judged)
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
            following=review.following(case.job),
        )

    def decide(ask: Ask) -> Response:
        job = found(ledger, ask)
        action = ask.sent("action", 20)
        if job.state is not State.REVIEW:
            raise Stop(HTTPStatus.CONFLICT, "Already decided", review.who_decided(job))
        case = review.case(job)
        written = {key[len(PREFIX) :]: ask.sent(key, 1000) for key in ask.form if key.startswith(PREFIX)}
        made = draft(case.route, case.extracted, case.before, ask.sent("label", 40), written)
        text = ask.sent("text", MOST_REPLY)
        if action == "preview" or (action == "approve" and made.problems):
            return _page(ask, case, made, review.own_words(case, made, text) or None)
        told = review.decide(case, made, text, ask)
        ledger.visitors.note(ask.visitor.who, ask.address, told, job.id)
        following = review.following(job)
        where = f"/review/{following}" if following else "/review"
        return to(f"{where}?done={quote(f'{told.capitalize()}: {job.subject or job.name or job.id}')}")

    def corrections(ask: Ask) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="corrections.jsonl"'}
        return StreamingResponse(_corrections(ledger), media_type="application/x-ndjson", headers=headers)

    site.get("/review", listed)
    site.get("/review/corrections.jsonl", corrections, "reviewer")
    site.get("/review/{job}", shown, "reviewer")
    site.post("/review/{job}", decide, "reviewer")


class _Review:
    """Looks at jobs that wait, and decides them."""

    def __init__(self, settings: Settings, ledger: Ledger, routing: Routing, store: Store) -> None:
        self._settings = settings
        self._ledger = ledger
        self._routing = routing
        self._store = store

    def case(self, job: Job) -> Case:
        """Everything about a job that a decision needs."""
        ledger = self._ledger
        mail = (ledger.jobs.result(job.id, Stage.EXTRACT) or {}).get("mail")
        extracted = Extracted(mail=mail, documents=tuple(ledger.jobs.documents(job.id)))
        value = ledger.jobs.result(job.id, Stage.CLASSIFY)
        raw = raw_of(ledger, self._store, job.id, job.raw_sha256) if not job.route else b""
        route = self._routing.of(job, extracted, raw)
        return Case(job, route, extracted, Classification(**value) if value else None)

    def preview(self, case: Case, judged: Classification) -> Reply:
        """The reply that this judgement would give."""
        from tasks.stages.reply import preview  # noqa: PLC0415  # the model's client, which no other page needs

        return preview(case.job, case.extracted, judged, case.route, self._settings.templates_dir)

    def own_words(self, case: Case, made: Draft, text: str) -> str:
        """The reply's text where the reviewer changed it; empty when it is what the template says.

        The form showed the template with the values of before, or, after a look at the preview, with those of now.
        """
        as_shown = draft(case.route, case.extracted, case.before, made.label, None).judged
        templates = [self.preview(case, judged).text for judged in (as_shown, made.judged)]
        return "" if text.split() in [[], *(one.split() for one in templates)] else text.strip() + "\n"

    def decide(self, case: Case, made: Draft, text: str, ask: Ask) -> str:
        """Approve or reject; which of them, in a word. Raises Stop when it makes no sense or somebody was faster."""
        job, who, action = case.job, ask.visitor.who, ask.sent("action", 20)
        seen = ask.sent("seen", 12)
        token = int(seen) if seen.isdecimal() else -1
        reason = " ".join(ask.sent("reason", 500).split())
        facts: dict[str, Any] = made.facts()
        if action == "approve":
            if not made.label:
                raise Stop(HTTPStatus.CONFLICT, "No label yet", "Say first what it is: choose a label.")
            mine = decided_now(job.id, who, "approved", reply_text=self.own_words(case, made, text), **facts)
            done = self._ledger.decisions.approve(mine, made.judged, token)
        elif action == "reject":
            if not reason:
                raise Stop(
                    HTTPStatus.CONFLICT, "No reason yet", "Say why it is rejected: whoever looks later wants to know."
                )
            as_it_was = {**facts, "label": facts["label_before"], "fields": facts["fields_before"]}
            mine = decided_now(job.id, who, "rejected", reason=reason, **as_it_was)
            done = self._ledger.decisions.reject(mine, token)
        else:
            raise Stop(HTTPStatus.BAD_REQUEST, "Not understood", "There is no such action.")
        if not done:
            raise Stop(HTTPStatus.CONFLICT, "Already decided", self.who_decided(job))
        return mine.verdict

    def who_decided(self, job: Job) -> str:
        """Who was faster, in a sentence."""
        made = self._ledger.decisions.of(job.id)
        if not made:
            return "The job has moved on since you opened the page. Nothing of yours was changed or sent."
        return f"{made[-1].who} has {made[-1].verdict} it already. Nothing of yours was changed or sent."

    def following(self, job: Job) -> str:
        """The next job that waits, else the first one; empty when there is none but this."""
        after = self._ledger.listing.queue((job.received_at, job.id), 1) or self._ledger.listing.queue(limit=2)
        return next((one.id for one in after if one.id != job.id), "")


def _corrections(ledger: Ledger) -> Iterator[str]:
    """Every approved decision as a labelled case: one JSON object a line."""
    for one in ledger.decisions.all():
        job = ledger.jobs.get(one.job_id) if one.verdict == "approved" else None
        if job is None:
            continue
        yield (
            json.dumps(
                {
                    "job": job.id,
                    "source": job.source,
                    "route": job.route,
                    "subject": job.subject,
                    "raw_sha256": job.raw_sha256,
                    "label": one.label,
                    "fields": one.fields,
                    "corrected": one.corrects,
                    "model_label": one.label_before,
                    "model_fields": one.fields_before,
                    "by": one.who,
                    "at": iso(one.at),
                },
                ensure_ascii=False,
            )
            + "\n"
        )
