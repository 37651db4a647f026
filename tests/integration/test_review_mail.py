"""Reviewers are asked by mail and answer by mail: a real SMTP listener takes the answers, a real sink the mails."""

from __future__ import annotations

import contextlib
import email
import email.policy
import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from daemon.demo.inputs import Expected
from daemon.listeners.smtp import run as smtp
from tasks import pipeline
from tasks.models import Job, State
from tasks.review.questions import Asking
from tasks.workshop import Workshop
from tests.integration.doors import Door, opened
from tests.integration.test_smtp_out import Sink
from tests.integration.test_smtp_out import sink as mail_sink
from tests.pages.browsing import USERS, Browser
from tests.pages.scenery import Desk, Expecting, routes_in, web

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
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def waiting(self) -> Job:
        """A job that has just come to rest in review."""
        name = f"case-{next(self.numbers)}"
        fields = {"vendor": "Hill Ltd", "number": name, "total": "761.60", "currency": "EUR"}
        self.desk.judge.expected, self.desk.judge.confidence = Expected(label="invoice", fields=fields), 0.55
        return self.mail("ada@sender.example", INVOICE.format(name).encode())

    def mail(self, sender: str, raw: bytes) -> Job:
        """Hand a mail to the listener over SMTP, and let the workers work; the job that it became."""
        before = len(self.door.intake.seen)
        with smtplib.SMTP(*self.door.address("smtp")) as client:
            client.sendmail(sender, [OFFICE], raw)
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
        self.asking._looked = float("-inf")
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


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with standing(tmp_path_factory.mktemp("office")) as made:
        yield made


@contextlib.contextmanager
def standing(home: Path, **review: Any) -> Iterator[Office]:
    """An office of its own, with these settings in [review]."""
    with mail_sink() as (post, port), contextlib.ExitStack() as stack:
        sections: dict[str, Any] = {
            "routes_dir": routes_in(home),
            "broker_url": "redis://127.0.0.1:9/0",
            "smtp": {"port": 0, "lmtp_port": None, "authserv_id": "mx.harbourlane.example"},
            "smtp_out": {"port": port, "sender": f"Office <{OFFICE}>", "domain": "harbourlane.example",
                         "max_replies_per_hour": 1000},
            "endpoint": {"results": {"url": "http://127.0.0.1:9/none", "allow_private": True}},
            "web": {"public_url": "http://127.0.0.1:8480"},
            "pages": USERS,
            "review": {"mail": [LEAD, BEN], **review},
        }  # fmt: skip
        door = stack.enter_context(opened(smtp, home, lines=1, **sections))
        judge = Expecting()
        shop = Workshop.open(door.settings)
        stack.callback(shop.close)
        shop.judge = judge  # type: ignore[assignment]  # a stand-in
        object.__setattr__(shop.answering, "judge", judge)
        desk = Desk(door.settings, door.intake, shop, judge)
        yield Office(door, desk, post, Asking(door.settings, door.intake.ledger))


def decisions(office: Office, job: Job) -> list[tuple[str, str, str]]:
    return [(one.who, one.verdict, one.mail) for one in office.desk.ledger.decisions.of(job.id)]


def to_ada(office: Office, job: Job) -> list[str]:
    """The texts that the sender of the job got about it."""
    office.work(job.id)
    mails = office.outbox("ada@sender.example")
    return [one.get_body(("plain",)).get_content() for one in mails if job.subject in one["Subject"]]  # type: ignore[union-attr]  # ours have one


def test_the_question_tells_all_and_is_asked_once(office: Office) -> None:
    """Why it waits, values with the words they stand in, the reply, how to answer; one mail to each, by a machine."""
    job = office.waiting()
    assert job.state is State.REVIEW
    first, second = office.ask(job)
    assert {str(first["To"]), str(second["To"])} == {LEAD, BEN}
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Auto-Submitted"] == "auto-generated"
    text = first.get_content()
    for told in (
        job.reason,
        'in "Hill Ltd, invoice case-',
        "total: 761.60",
        "label: invoice (55 %)",
        "thank you for your invoice",
        f"http://127.0.0.1:8480/ui/review/{job.id}",
        "no, and the reason",
    ):
        assert told in text, told
    assert len(office.ask(job)) == 2, "asked once, however often it is looked"
    assert "reviewers asked by mail" in [event.event for event in office.desk.ledger.jobs.events(job.id)]


def test_ok_sends_it_as_proposed(office: Office) -> None:
    """The decision is the reviewer's, by mail; what was quoted in the question goes out; the answer ends there."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    answer = office.answer(question, "Ok.\n\nThanks,\nThe Lead")
    assert (answer.state, answer.route, answer.label) == (State.DONE, None, None)
    assert decisions(office, job) == [(LEAD, "approved", answer.id)]
    [text] = to_ada(office, job)
    assert "761.60" in text
    assert [one.detail for one in office.desk.ledger.jobs.events(job.id) if one.event == "approved"] == [
        {"by": LEAD, "why": "", "corrected": False, "how": "by mail", "mail": answer.id}
    ]
    deeds = [deed for _, deed in office.desk.ledger.visitors.deeds() if deed.job_id == job.id]
    assert [(deed.who, deed.address, deed.action) for deed in deeds] == [(LEAD, "by mail", "approved")]


def test_no_ends_it_with_its_reason(office: Office) -> None:
    """Nothing goes to the sender."""
    job = office.waiting()
    question = office.ask(job)[0]
    answer = office.answer(question, "No, we never ordered this.", sender=str(question["To"]))
    assert answer.state is State.DONE
    ended = office.job(job.id)
    assert (ended.state, ended.reason) == (State.CANCELLED, "we never ordered this.")
    assert to_ada(office, job) == []


def test_an_edited_text_is_sent_instead(office: Office) -> None:
    """Between the marks; with `text:` all that is new; a signature and the quoted mail are no part of it."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    lines = question.get_content().splitlines()
    begin, end = [line for line in lines if re.fullmatch(r"\[(?:reply|end) \w{6}\]", line)]
    proposed = "\n".join(lines[lines.index(begin) : lines.index(end) + 1])
    edited = proposed.replace("We have received it.", "We pay on Friday.")
    office.answer(question, f"{edited}\n\nThe Lead\nHead of all")
    [text] = to_ada(office, job)
    assert "We pay on Friday." in text
    assert "This is an automatic reply." in text
    assert "received" not in text
    assert "Lead" not in text
    other = office.waiting()
    [question] = [one for one in office.ask(other) if one["To"] == BEN]
    office.answer(question, "Text: We call you.\n\nBen\n-- \nBen Hill, Accounts", sender=BEN)
    [text] = to_ada(office, other)
    assert text.split() == ["We", "call", "you.", "Ben"]


def test_the_second_answer_is_told_who_decided(office: Office) -> None:
    """Whether the first came by mail or from the page; nothing is decided twice."""
    job = office.waiting()
    mails = {str(one["To"]): one for one in office.ask(job)}
    office.answer(mails[LEAD], "ok")
    late = office.answer(mails[BEN], "no, wrong", sender=BEN)
    assert late.state is State.DONE
    assert len(decisions(office, job)) == 1
    note = office.outbox(BEN)[-1]
    assert f"{LEAD} has approved it already by mail, at 20" in note.get_content()
    assert note["Auto-Submitted"] == "auto-replied"
    other = office.waiting()
    [question] = [one for one in office.ask(other) if one["To"] == LEAD]
    with web(office.desk) as url:
        anna = Browser(url)
        anna.log_in("anna")
        anna.post(
            f"/review/{other.id}", f"/review/{other.id}", action="reject", reason="x", seen=str(other.lease_token)
        )
        assert "Rejected by anna</h2>" in anna.get(f"/jobs/{other.id}").text
        assert f"Approved by {LEAD} by mail" in anna.get(f"/jobs/{job.id}").text
    office.answer(question, "ok")
    assert "anna has rejected it already, at 20" in office.outbox(LEAD)[-1].get_content()
    assert office.job(other.id).state is State.CANCELLED


def test_a_job_that_was_judged_anew_is_asked_about_anew(office: Office) -> None:
    """The older question decides nothing any more; the newer one does."""
    job = office.waiting()
    [old] = [one for one in office.ask(job) if one["To"] == LEAD]
    office.desk.ledger.jobs.retry(job.id, pipeline.Stage.CLASSIFY, why="again")
    office.work(job.id)
    assert office.job(job.id).state is State.REVIEW
    office.answer(old, "ok")
    assert "judged anew" in office.outbox(LEAD)[-1].get_content()
    assert decisions(office, job) == []
    new = [one for one in office.ask(job) if one["To"] == LEAD and "please decide" in one["Subject"]][-1]
    assert new["Message-ID"] != old["Message-ID"]
    office.answer(new, "ok")
    assert len(decisions(office, job)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I think we should ask Ada first.",
        "ok, but the total is 5",
        "ok\n\nBut change the total to 5 first.",
        "No problem, send it",
        "[reply 000000]\nYou win a prize.\n[end 000000]",
        "> ok",
    ],
)
def test_what_is_not_clear_decides_nothing(office: Office, text: str) -> None:
    """An ok that only stands in the history among it; the reviewer is told what to write."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    question.set_content("ok\n" + question.get_content())  # in the history there is one, at its beginning
    answer = office.answer(question, text)
    assert answer.state is State.DONE
    assert "not understood" in answer.reason
    assert office.job(job.id).state is State.REVIEW
    assert "begin your answer with one of these" in office.outbox(LEAD)[-1].get_content()


def test_forgers_and_strangers_decide_nothing(office: Office) -> None:
    """A token of one's own, another job's name under a good token, another sender, the other reviewer's mail."""
    job, other = office.waiting(), office.waiting()
    mails = {str(one["To"]): one for one in office.ask(job)}
    good = str(mails[LEAD]["Message-ID"])
    spoken = len(office.post.got)
    forged = [
        re.sub(r"\.[0-9a-f]{32}@", f".{'0' * 32}@", good),
        good.replace(job.id, other.id),
        re.sub(r"-(\d+)-([0-9a-f]{8})", lambda found: f"-{int(found[1]) + 1}-{found[2]}", good),
    ]
    for message_id in forged:
        answer = office.answer(mails[LEAD], "ok", In_Reply_To=message_id)
        assert answer.state is State.FAILED
        assert "has not written" in answer.reason
    for sender in ("ada@sender.example", "lead@team.example.evil.test", BEN):
        answer = office.answer(mails[LEAD], "ok", sender=sender)
        assert answer.state is State.FAILED
        assert "not the reviewer who was asked" in answer.reason
    assert decisions(office, job) == decisions(office, other) == []
    assert len(office.post.got) == spoken, "nobody is answered"


def test_a_replay_decides_nothing_more(office: Office) -> None:
    """The same bytes again are the same job; its stage once more, as after a crash, finds what it did."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    answer = office.answer(question, "ok")
    spoken = len(office.outbox(LEAD))
    office.desk.ledger.jobs.retry(answer.id, pipeline.Stage.EXTRACT, why="again")
    office.work(answer.id)
    assert office.job(answer.id).reason == answer.reason == f"has approved {job.id}"
    again = office.desk.ledger.decisions.of(job.id)
    assert len(again) == 1
    assert len(office.outbox(LEAD)) == spoken


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"},
        {"X-Autoreply": "yes"},
        {"Precedence": "auto_reply"},
        {"Return-Path": "<>"},
        {"Authentication-Results": "mx.harbourlane.example; dmarc=fail header.from=team.example"},
    ],
)
def test_machines_decide_nothing_and_get_no_answer(office: Office, headers: dict[str, str]) -> None:
    """An absence notice that begins with ok, a bounce, and what our mail server says is forged."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    spoken = len(office.post.got)
    answer = office.answer(question, "ok", **headers)
    assert answer.state is State.DONE
    assert "no person wrote it" in answer.reason
    assert office.job(job.id).state is State.REVIEW
    assert len(office.post.got) == spoken


def test_a_bounce_of_the_question_is_no_answer(office: Office) -> None:
    """A delivery status notification (RFC 3464) that names it, with the whole question inside."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    report = EmailMessage()
    report["From"], report["To"], report["Subject"] = "MAILER-DAEMON@mx.example", OFFICE, "Undelivered"
    report["References"] = str(question["Message-ID"])
    report.set_content("ok\n\nThis mail could not be delivered.")
    report.add_attachment(question.as_bytes(), maintype="application", subtype="octet-stream", filename="question.eml")
    raw = report.as_bytes(policy=LINES)
    raw = raw.replace(b"multipart/mixed", b"multipart/report; report-type=delivery-status", 1)
    answer = office.mail("", raw)
    assert (answer.state, answer.route) == (State.DONE, None)
    assert "no person wrote it" in answer.reason
    assert office.job(job.id).state is State.REVIEW


def test_two_machines_stop_talking(office: Office) -> None:
    """A responder that says nothing of being one gets three short mails for one question, and no more."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    spoken = len(office.outbox(LEAD))
    for _ in range(5):
        answer = office.answer(question, "I am away until Monday.")
    assert len(office.outbox(LEAD)) - spoken == 3
    assert "are enough" in answer.reason


def test_what_must_be_known_of_a_sender(tmp_path: Path) -> None:
    """With [review] trust an answer without that proof decides nothing; with it, it does."""
    with standing(tmp_path, trust="dmarc", per_hour=1) as office:
        job, later = office.waiting(), office.waiting()
        mails = office.ask(job)
        assert office.ask(later) == [], "later: per_hour"
        [question] = [one for one in mails if one["To"] == LEAD]
        answer = office.answer(question, "ok")
        assert (answer.state, "asks for dmarc" in answer.reason) == (State.FAILED, True)
        proof = "mx.harbourlane.example; dmarc=pass header.from=team.example"
        assert office.answer(question, "ok", Authentication_Results=proof).state is State.DONE
        assert len(decisions(office, job)) == 1


def test_nobody_is_asked_where_nobody_is_named(tmp_path: Path) -> None:
    """Off by default; an answer to an older question is no job of the routes all the same."""
    with standing(tmp_path) as office:
        job = office.waiting()
        [question] = [one for one in office.ask(job) if one["To"] == LEAD]
        values = {**office.door.settings.model_dump(), "review": {}}
        silent = Settings.model_validate(values)
        other = office.waiting()
        assert Asking(silent, office.desk.ledger).step() == 0
        office.desk.shop = office.desk.shop.again(silent)
        answer = office.answer(question, "ok")
        assert (answer.state, answer.route) == (State.FAILED, None)
        assert office.job(other.id).state is State.REVIEW
