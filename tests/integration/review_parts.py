"""An office with reviewers: a real listener takes their answers, a real sink gets what is sent to them."""

from __future__ import annotations

import contextlib
import email
import email.policy
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from daemon.demo.inputs import Expected
from daemon.listeners.smtp import run as smtp
from tasks import pipeline
from tasks.models import Job
from tasks.review.questions import Asking
from tasks.workshop import Workshop
from tests.integration.doors import Door, opened, until
from tests.integration.dovecot import running
from tests.integration.mailboxes import watching
from tests.integration.test_smtp_out import Sink
from tests.integration.test_smtp_out import sink as mail_sink
from tests.pages.browsing import USERS
from tests.pages.scenery import Desk, Expecting, routes_in

LEAD, BEN = "lead@team.example", "ben@team.example"
OFFICE = "office@harbourlane.example"
LINES = email.policy.SMTP.clone(max_line_length=998)
"""Python folds a long In-Reply-To into encoded words, which no mail program does."""
INVOICE = (
    "From: Ada <ada@sender.example>\r\nTo: office@harbourlane.example\r\nSubject: Invoice {0}\r\n"
    "Message-ID: <{0}@sender.example>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n"
    "Hill Ltd, invoice {0}. Total due EUR 761.60, please pay.\r\n"
)


@dataclass
class Office:
    """Postroom with a listener, workers that run when told, and the outside: who gets mail from it."""

    door: Door
    desk: Desk
    post: Sink
    asking: Asking
    hand_in: Callable[[str, bytes], object]
    """Brings a mail, with its envelope's sender, to the listener."""
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def waiting(self) -> Job:
        """A job that has just come to rest in review."""
        name = f"case-{next(self.numbers)}"
        fields = {"vendor": "Hill Ltd", "number": name, "total": "761.60", "currency": "EUR"}
        self.desk.judge.expected, self.desk.judge.confidence = Expected(label="invoice", fields=fields), 0.55
        return self.mail("ada@sender.example", INVOICE.format(name).encode())

    def mail(self, sender: str, raw: bytes) -> Job:
        """Hand a mail to the listener, and let the workers work; the job that it became."""
        before = len(self.door.intake.seen)
        self.hand_in(sender, raw)
        until(lambda: len(self.door.intake.seen) > before)
        job_id = self.door.intake.seen[before][2].job_id
        self.work(job_id)
        return self.job(job_id)

    def work(self, *job_ids: str) -> None:
        """Run what is due of these and of our own mails."""
        for step in pipeline.STAGES:
            for job_id in job_ids:
                pipeline.run(self.desk.shop, job_id, step)
        for job_id in self.desk.ledger.backlog.own(100):
            pipeline.run(self.desk.shop, job_id, pipeline.STAGES[-1])

    def ask(self, job: Job) -> list[EmailMessage]:
        """What the reviewers get about this job."""
        self.asking._next = float("-inf")
        self.asking.step()
        self.work()
        return [one for one in self.outbox(LEAD, BEN) if job.subject in one["Subject"]]

    def outbox(self, *to: str) -> list[EmailMessage]:
        """What went out to these, oldest first."""
        found = []
        for _, recipients, raw, _ in self.post.got:
            if set(recipients) & set(to):
                found.append(email.message_from_bytes(raw, policy=email.policy.default))
        return found

    def job(self, job_id: str) -> Job:
        found = self.desk.ledger.jobs.get(job_id)
        assert found
        return found

    def answer(self, question: EmailMessage, text: str, sender: str = LEAD, **headers: str) -> Job:
        """Send an answer to `question` as a mail program does."""
        given = {"In-Reply-To": str(question["Message-ID"]), **{n.replace("_", "-"): v for n, v in headers.items()}}
        made = EmailMessage()
        made["From"], made["To"], made["Subject"] = f"Lead <{sender}>", OFFICE, f"Re: {question['Subject']}"
        made["Message-ID"] = f"<answer-{next(self.numbers)}@team.example>"
        for name, value in given.items():
            made[name] = value
        made.set_content(text + quoted(question))
        envelope = "" if "Return-Path" in given else sender
        return self.mail(envelope, made.as_bytes(policy=LINES))


def quoted(question: EmailMessage) -> str:
    body = question.get_content()
    return f"\n\nOn Mon, 02 Nov 2026 at 10:00, Postroom <{OFFICE}> wrote:\n" + "".join(
        f"> {line}\n" for line in body.splitlines()
    )


@contextlib.contextmanager
def standing(home: Path, **review: Any) -> Iterator[Office]:
    """An office of its own, with these settings in [review]."""
    with mail_sink() as (post, port), contextlib.ExitStack() as stack:
        sections: dict[str, Any] = {
            "routes_dir": routes_in(home),
            "broker_url": "redis://127.0.0.1:9/0",
            "smtp": {"port": 0, "lmtp_port": 0, "authserv_id": "mx.harbourlane.example"},
            "smtp_out": {"port": port, "sender": f"Office <{OFFICE}>", "domain": "harbourlane.example",
                         "max_replies_per_hour": 1000},
            "endpoint": {"results": {"url": "http://127.0.0.1:9/none", "allow_private": True}},
            "web": {"public_url": "http://127.0.0.1:8480"},
            "pages": USERS,
            "review": {"mail": [LEAD, BEN], **review},
        }  # fmt: skip
        door = stack.enter_context(opened(smtp, home, lines=2, **sections))
        judge = Expecting()
        shop = Workshop.open(door.settings)
        stack.callback(shop.close)
        shop.judge = judge  # type: ignore[assignment]  # a stand-in
        object.__setattr__(shop.answering, "judge", judge)
        desk = Desk(door.settings, door.intake, shop, judge)
        yield Office(door, desk, post, Asking(door.settings, door.intake.ledger), over_smtp(door))


def over_smtp(door: Door) -> Callable[[str, bytes], object]:
    """Hands mails in as a mail server does."""

    def hand_in(sender: str, raw: bytes) -> None:
        with smtplib.SMTP(*door.address("smtp")) as client:
            client.sendmail(sender, [OFFICE], raw)

    return hand_in


@contextlib.contextmanager
def over_lmtp(office: Office) -> Iterator[Office]:
    """The same office, whose mail comes by the listener's other socket."""

    def hand_in(sender: str, raw: bytes) -> None:
        with smtplib.LMTP(*office.door.address("lmtp")) as client:
            client.sendmail(sender, [OFFICE], raw)

    yield replace(office, hand_in=hand_in)


@contextlib.contextmanager
def over_imap(office: Office) -> Iterator[Office]:
    """The same office, whose mail lies in a folder that is watched."""
    home = office.door.settings.state_dir.parent
    with running() as server, watching(server, home, address=OFFICE) as door:
        yield replace(office, door=door, hand_in=lambda sender, raw: server.deliver(raw, sender=sender))
