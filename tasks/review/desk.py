"""A job that rests in review, as whoever decides needs it, and the decision: for the page and for mails alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.routes import Route
from config.settings import Settings
from tasks.clock import iso
from tasks.intake import raw_of
from tasks.ledger import Decision, Ledger, decided_now
from tasks.models import Classification, Extracted, Job, Reply, Stage
from tasks.review.drafts import Draft, draft
from tasks.routing import choose
from tasks.stores import Store

MOST_REPLY = 20_000
"""Characters of a reply that a reviewer writes."""
MOST_REASON = 500
"""Characters of why something is rejected."""


@dataclass(frozen=True)
class Case:
    """A job that waits, and what is known of it."""

    job: Job
    route: Route
    extracted: Extracted
    before: Classification | None


@dataclass(frozen=True)
class By:
    """Who decides, about which state of the job, and by which way."""

    who: str
    seen: int
    """The lease token of the job as they saw it: a job that was judged anew or decided since has another."""
    mail: str = ""
    """The job of the mail that they wrote; empty on the page."""


class Desk:
    """Looks at jobs that wait, and decides them."""

    def __init__(self, settings: Settings, ledger: Ledger, store: Store, routes: Callable[[], Sequence[Route]]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._routes = routes

    def case(self, job: Job) -> Case:
        """Everything about a job that a decision needs. One that was never judged has the route that it would take."""
        ledger = self._ledger
        mail = (ledger.jobs.result(job.id, Stage.EXTRACT) or {}).get("mail")
        extracted = Extracted(mail=mail, documents=tuple(ledger.jobs.documents(job.id)))
        value = ledger.jobs.result(job.id, Stage.CLASSIFY)
        routes = self._routes()
        route = next((one for one in routes if one.name == job.route), None)
        route = route or choose(routes, job, extracted, raw_of(ledger, self._store, job.id, job.raw_sha256))
        return Case(job, route, extracted, Classification(**value) if value else None)

    def preview(self, case: Case, judged: Classification) -> Reply:
        """The reply that this judgement would give."""
        from tasks.stages.reply import preview  # noqa: PLC0415  # the model's client, which nothing else here needs

        return preview(case.job, case.extracted, judged, case.route, self._settings.templates_dir)

    def own_words(self, case: Case, made: Draft, text: str) -> str:
        """The reply's text where the reviewer changed it; empty when it is what the template says.

        They were shown the template with the values of before, or, after a look at the preview, with those of now.
        """
        as_shown = draft(case.route, case.extracted, case.before, made.label, None).judged
        templates = [self.preview(case, judged).text for judged in (as_shown, made.judged)]
        return "" if text.split() in [[], *(one.split() for one in templates)] else text.strip() + "\n"

    def approve(self, case: Case, made: Draft, text: str, by: By) -> bool:
        """Let the job go on with the draft, and with `text` as its reply where that is changed; False: too late."""
        mine = decided_now(
            case.job.id, by.who, "approved", mail=by.mail, reply_text=self.own_words(case, made, text), **made.facts()
        )
        return self._ledger.decisions.approve(mine, made.judged, by.seen)

    def reject(self, case: Case, made: Draft, reason: str, by: By) -> bool:
        """End the job without an answer; False: too late. What was corrected before counts for nothing."""
        facts = made.facts()
        as_it_was = {**facts, "label": facts["label_before"], "fields": facts["fields_before"]}
        mine = decided_now(case.job.id, by.who, "rejected", mail=by.mail, reason=reason[:MOST_REASON], **as_it_was)
        return self._ledger.decisions.reject(mine, by.seen)


def who_decided(made: Sequence[Decision]) -> str:
    """Who was faster, in a sentence; `made` are the decisions about the job, oldest first, at least one."""
    last = made[-1]
    way = " by mail" if last.mail else ""
    return f"{last.who} has {last.verdict} it already{way}, at {iso(last.at)}."
