"""A mail that answers a question to a reviewer is taken here, in the extract stage: it decides, or says why it does not.

It is no business of the routes, whoever wrote it. What counts: the question's name (tokens.py), that From is the person who
was asked and still is a reviewer, what [review] trust asks to be known of them, that a person wrote it, and that the job
still rests as it was when the question was written. Then the same decision is made as on the page (desk.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from config.settings import Settings
from tasks.clock import iso, now_ms
from tasks.compose import compose
from tasks.configured import message_id_secret
from tasks.errors import Permanent
from tasks.ids import new_job_id
from tasks.ledger import Ledger, Notice
from tasks.ledger.questions import NOTED
from tasks.loops import written_by_machine
from tasks.models import Delivery, Envelope, Extracted, Job, MailFacts, State
from tasks.review.desk import MOST_REPLY, By, Desk, who_decided
from tasks.review.drafts import draft
from tasks.review.questions import link_to, sender_of
from tasks.review.tokens import Question, named_in
from tasks.review.words import BEGIN, END, NotUnderstood, Said, understood
from tasks.trust import holds

MOST_NOTES = 3
"""Short mails to one person about one question: two machines that talk to each other stop there."""
BY_MAIL = "by mail"
"""What the audit log has in the place of an address."""
_log = structlog.get_logger("postroom.review")


@dataclass(frozen=True)
class Outcome:
    """What became of an answer."""

    state: State
    """`done`, or `failed` for what may be a forgery."""
    reason: str
    what: str
    """In a word, for the log."""


@dataclass(frozen=True)
class _Answer:
    """An answer that may count."""

    job: Job
    mail: MailFacts
    question: Question
    reviewer: str
    """Lower case."""


class Answers:
    """Recognises answers and acts on them."""

    def __init__(self, settings: Settings, ledger: Ledger, desk: Desk) -> None:
        self._settings = settings
        self._ledger = ledger
        self._desk = desk
        self._secret = message_id_secret(settings)

    def take(self, job: Job, extracted: Extracted) -> Outcome | None:
        """What became of a mail that answers a question; None for every other mail. Raises Unavailable."""
        mail = extracted.mail
        named = named_in(mail, self._settings.smtp_out.domain, self._secret) if mail else None
        if mail is None or named is None:
            return None
        outcome = self._of(job, extracted, mail, named.question)
        _log.info("answer of a reviewer", job=job.id, outcome=outcome.what)
        return outcome

    def _of(self, job: Job, extracted: Extracted, mail: MailFacts, question: Question | None) -> Outcome:
        if question is None:
            return _refused(
                "forged", "it answers a review mail that this Postroom has not written, or with another secret"
            )
        about = f"decides nothing about {question.job_id}"
        if machine := written_by_machine(_headers(mail), _envelope(job), mail):
            return Outcome(State.DONE, f"{about}: no person wrote it: {machine}", "automatic")
        if not self._is_asked(mail, question):
            return _refused("other sender", f"{about}: its sender is not the reviewer who was asked")
        if missing := [word for word in self._settings.review.trust if not holds(word, mail.trust)]:
            return _refused("not proven", f"{about}: [review] trust asks for {', '.join(missing)} of its sender")
        answer = _Answer(job, mail, question, mail.from_address.lower())
        made = self._ledger.decisions.of(question.job_id)
        if mine := next((one for one in made if one.mail == job.id), None):  # a worker died after the decision
            return _decided(mine.verdict, question.job_id)
        return self._decide(answer, extracted)

    def _is_asked(self, mail: MailFacts, question: Question) -> bool:
        address = mail.from_address.lower()
        reviewers = {one.lower() for one in self._settings.review.mail}
        return address in reviewers and question.is_to(address) and len(mail.headers.get("from", ())) <= 1

    def _decide(self, answer: _Answer, extracted: Extracted) -> Outcome:
        question = answer.question
        job = self._ledger.jobs.get(question.job_id)
        if job is None or job.state is not State.REVIEW or job.lease_token != question.seen:
            return self._too_late(answer, job)
        body = next((one.text for one in extracted.documents if one.name == "body" and not one.parent), "")
        try:
            said = understood(body, question.mark(self._secret))
            done = self._carry_out(job, said, answer)
        except NotUnderstood as error:
            why = f"not understood: {error.reason}"
            return self._noted(answer, why, f"Your answer was not understood: {error.reason}.\n\n{self._how(question)}")
        if not done:
            return self._too_late(answer, self._ledger.jobs.get(question.job_id))
        self._ledger.visitors.note(answer.reviewer, BY_MAIL, said.verdict, job.id, mail=answer.job.id)
        return _decided(said.verdict, job.id)

    def _carry_out(self, job: Job, said: Said, answer: _Answer) -> bool:
        """Decide as the page does; False when somebody was faster. Raises NotUnderstood for what cannot be."""
        case = self._desk.case(job)
        label = case.before.label if case.before else ""
        made = draft(case.route, case.extracted, case.before, label, None)
        by = By(answer.reviewer, answer.question.seen, mail=answer.job.id)
        if said.verdict == "rejected":
            return self._desk.reject(case, made, said.reason or "no reason given", by)
        if not label:
            raise NotUnderstood("the job has no label yet, which only the page can give it")
        if len(said.text) > MOST_REPLY:
            raise NotUnderstood(f"the text has more than {MOST_REPLY} characters")
        if said.text and (silence := self._desk.preview(case, made.judged).not_sent_because):
            raise NotUnderstood(f"no reply goes out for this job, so it can have no text: {silence}")
        return self._desk.approve(case, made, said.text, by)

    def _too_late(self, answer: _Answer, job: Job | None) -> Outcome:
        if job is None:
            told = "The job is gone: it was removed after its time."
        elif job.state is State.REVIEW:
            told = "The job was judged anew since that mail was written; a newer mail asks about it."
        elif made := self._ledger.decisions.of(job.id):
            told = who_decided(made)
        else:
            told = f"Somebody has moved the job on already, at {iso(job.updated_at)}: it is {job.state.value}."
        return self._noted(answer, told, f"{told} Nothing of your answer was done.")

    def _how(self, question: Question) -> str:
        mark, link = question.mark(self._secret), link_to(self._settings, question.job_id)
        page = f"\nOr decide on the page: {link}\n" if link else ""
        return (
            "Nothing was decided. Answer the first mail again, and begin your answer with one of these:\n\n"
            "  ok                  alone on its line; end with a line of -- where your name is to follow\n"
            "  no, and the reason\n"
            f"  {BEGIN.format(mark)}      the lines with these two marks, and between them\n"
            f"  {END.format(mark)}        the text that is to be sent\n{page}"
        )

    def _noted(self, answer: _Answer, why: str, text: str) -> Outcome:
        """An answer that decides nothing, with a short mail to who wrote it, where that is safe."""
        question, mail = answer.question, answer.mail
        about = f"{question.job_id}:{question.seen}:{question.person}:"
        reason = f"decides nothing about {question.job_id}: {why}"
        if mail.no_reply_because:
            return Outcome(State.DONE, f"{reason} (not told: {mail.no_reply_because})", "not counted")
        if self._ledger.questions.noted(about) >= MOST_NOTES:
            return Outcome(State.DONE, f"{reason} (not told: {MOST_NOTES} such mails are enough)", "not counted")
        notice_id, at = new_job_id(), now_ms()
        try:
            planned = (self._note(notice_id, answer, text, at),)
        except Permanent as error:
            return Outcome(State.DONE, f"{reason} (not told: {error.reason})", "not counted")
        key = f"{NOTED}{about}{answer.job.id}"
        subject = f"answer of a reviewer about {question.job_id}"
        self._ledger.notices.add(
            Notice(notice_id, key, subject, text, planned, at, about=question.job_id, event="reviewer told by mail")
        )
        return Outcome(State.DONE, reason, "not counted")

    def _note(self, notice_id: str, answer: _Answer, text: str, at: int) -> Delivery:
        message_id, body = compose(
            job_id=notice_id,
            ordinal=0,
            reply_text=f"{text}\n\n-- \nPostroom, job {answer.question.job_id}\n",
            reply_html="",
            subject=answer.mail.subject,
            sender=sender_of(self._settings),
            recipient=answer.reviewer,
            facts=answer.mail,
            domain=self._settings.smtp_out.domain,
            secret=self._secret,
            date_ms=at,
        )
        return Delivery(ordinal=0, transport="smtp", target=answer.reviewer, key=message_id, body=body)


def _decided(verdict: str, job_id: str) -> Outcome:
    return Outcome(State.DONE, f"has {verdict} {job_id}", verdict)


def _refused(what: str, why: str) -> Outcome:
    return Outcome(State.FAILED, why, what)


def _headers(mail: MailFacts) -> dict[str, list[str]]:
    return {name: list(values) for name, values in mail.headers.items()}


def _envelope(job: Job) -> Envelope:
    return Envelope(source=job.source, kind=job.kind, key=job.key, sender=job.sender, headers=job.headers)
