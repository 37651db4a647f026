"""Asks the reviewers in [review] mail about each job that comes to rest in review: one mail to each of them, once.

A question is a job of our own, as an alert is: its key names job and state, so any number of hosts may ask at once, and it
has the attempts and the story of every delivery.
"""

from __future__ import annotations

import time
from email.utils import parseaddr

import structlog

from config.errors import ConfigError
from config.settings import Settings
from tasks.clock import HOUR_MS, now_ms
from tasks.compose import announce
from tasks.configured import message_id_secret, routes_of
from tasks.errors import Permanent
from tasks.ids import new_job_id
from tasks.ledger import Ledger, Notice
from tasks.letters import filled, one_line
from tasks.models import Delivery, Job
from tasks.review.desk import Desk
from tasks.review.drafts import draft
from tasks.review.tokens import Question
from tasks.review.words import BEGIN, END
from tasks.stores import open_store

EVERY = 3.0
"""Seconds between two looks at what waits."""
AT_ONCE = 20
"""Jobs asked about at one look."""
FILE = "review/question.txt.j2"
_log = structlog.get_logger("postroom.review")


class Asking:
    """Looks at each tick of the rescue; does nothing where [review] names nobody."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._next = float("-inf")
        self._desk: Desk | None = None
        self._secret = b""

    def step(self) -> int:
        """Ask about what nobody was asked about; about how many. Raises Unavailable."""
        now = time.monotonic()
        if not self._settings.review.mail or now < self._next:
            return 0
        waiting = self._ledger.questions.unasked(AT_ONCE)
        took = time.monotonic() - now  # grows with what rests in review: ten thousand jobs take 0.2 s
        self._next = now + max(EVERY, 20 * took)
        if not waiting or not (desk := self._opened()):
            return 0
        room = self._settings.review.per_hour - self._ledger.questions.asked_since(now_ms() - HOUR_MS)
        return sum(self._ask(desk, job) for job in waiting[: max(0, room)])

    def _opened(self) -> Desk | None:
        """What is needed to write a question; None while the routes are wrong, which `postroom check` tells."""
        if self._desk is None:
            try:
                routes = routes_of(self._settings)
            except ConfigError as error:
                _log.warning("nobody is asked by mail", reason=str(error).splitlines()[0])
                return None
            self._desk = Desk(self._settings, self._ledger, open_store(self._settings), lambda: routes)
            self._secret = message_id_secret(self._settings)
        return self._desk

    def _ask(self, desk: Desk, job: Job) -> bool:
        notice_id, at = new_job_id(), now_ms()
        key = Question.to("", job.id, job.lease_token).key
        subject = f"please decide: {one_line(job.subject or job.name or job.id, 150)}"
        planned: list[Delivery] = []
        untold = ""
        try:
            for place, reviewer in enumerate(self._settings.review.mail):
                planned.append(self._mail(desk, job, reviewer, place, notice_id, subject))
        except Permanent as error:  # of this job or of its template: written down once, and the page has it
            planned, untold = [], f"the mail cannot be written: {error.reason}"
            _log.warning("review not asked by mail", job=job.id, reason=error.reason)
        text = f"Asks who decides about job {job.id}, which waits because: {job.reason}"
        notice = Notice(
            notice_id, key, subject, text, tuple(planned), at, untold, about=job.id, event="reviewers asked by mail"
        )
        return self._ledger.notices.add(notice)

    def _mail(self, desk: Desk, job: Job, reviewer: str, place: int, notice_id: str, subject: str) -> Delivery:
        question = Question.to(reviewer, job.id, job.lease_token)
        out = self._settings.smtp_out
        _, body = announce(
            job_id=question.name,
            ordinal=place,
            text=self._text(desk, job, question),
            subject=f"Postroom: {subject}",
            sender=sender_of(self._settings),
            recipient=reviewer,
            domain=out.domain,
            secret=self._secret,
            date_ms=job.updated_at,
        )
        # its Message-ID is a secret: logs and stories know the delivery by another name
        return Delivery(ordinal=place, transport="smtp", target=reviewer, key=f"{notice_id}-{place}", body=body)

    def _text(self, desk: Desk, job: Job, question: Question) -> str:
        case, mark = desk.case(job), question.mark(self._secret)
        made = draft(case.route, case.extracted, case.before, case.before.label if case.before else "", None)
        return filled(
            self._settings.templates_dir,
            FILE,
            job=job,
            mail=case.extracted.mail,
            documents=case.extracted.documents,
            draft=made,
            reply=desk.preview(case, made.judged),
            adds=case.route.reply.free_text,
            begin=BEGIN.format(mark),
            end=END.format(mark),
            link=link_to(self._settings, job.id),
        )


def link_to(settings: Settings, job_id: str) -> str:
    """The page that decides, which asks who is there and decides nothing by being opened; empty without a public_url."""
    return f"{settings.web.public_url.rstrip('/')}/ui/review/{job_id}" if settings.web.public_url else ""


def sender_of(settings: Settings) -> str:
    """From of mails to reviewers, where their answers come in."""
    return settings.review.sender if parseaddr(settings.review.sender)[1] else settings.smtp_out.sender
