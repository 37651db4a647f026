"""Reviewers are asked by mail and answer by mail: real listeners take the answers, a real sink the mails."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.message import EmailMessage
from pathlib import Path

import pytest

from config.engine import RescueSettings
from config.settings import Settings
from daemon.rescue import run as rescue
from tasks import pipeline
from tasks.models import Job, State
from tasks.review.questions import Asking
from tasks.story import story
from tests.integration.doors import until
from tests.integration.review_parts import BEN, LEAD, LINES, OFFICE, Office, over_imap, over_lmtp, standing
from tests.pages.browsing import Browser
from tests.pages.scenery import web


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with standing(tmp_path_factory.mktemp("office")) as made:
        yield made


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


def test_what_is_not_clear_decides_nothing(office: Office) -> None:
    """An ok that only stands in the history among it; the reviewer is told what to write."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    question.set_content("ok\n" + question.get_content())  # in the history there is one, at its beginning
    for text in ("", "ok\n\nBut change the total to 5 first.", "> ok"):
        before = len(office.outbox(LEAD))
        answer = office.answer(question, text)
        assert answer.state is State.DONE
        assert "not understood" in answer.reason
        assert office.job(job.id).state is State.REVIEW
        [note] = office.outbox(LEAD)[before:]
        assert "begin your answer with one of these" in note.get_content()


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


@pytest.mark.parametrize(("way", "source"), [(over_lmtp, "lmtp"), (over_imap, "imap:support")])
def test_an_answer_counts_by_whatever_way_it_comes(
    office: Office, way: Callable[[Office], AbstractContextManager[Office]], source: str
) -> None:
    """Over real LMTP and in a folder of a real Dovecot: a forged token decides nothing, an ok does, and only the first."""
    with way(office) as other:
        job = other.waiting()
        [question] = [one for one in other.ask(job) if one["To"] == LEAD]
        forged = re.sub(r"\.[0-9a-f]{32}@", f".{'0' * 32}@", str(question["Message-ID"]))
        refused = other.answer(question, "ok", In_Reply_To=forged)
        assert (refused.source, refused.state) == (source, State.FAILED)
        assert "has not written" in refused.reason
        assert (decisions(other, job), other.job(job.id).state) == ([], State.REVIEW)
        answer = other.answer(question, "ok")
        assert (answer.source, answer.state) == (source, State.DONE)
        assert decisions(other, job) == [(LEAD, "approved", answer.id)]
        assert "has approved it already" in other.answer(question, "no, wrong").reason
        assert len(decisions(other, job)) == 1
        assert len(to_ada(other, job)) == 1


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


MACHINES: tuple[dict[str, str], ...] = (
    {"Auto-Submitted": "auto-replied"},
    {"X-Autoreply": "yes"},
    {"Precedence": "auto_reply"},
    {"Return-Path": "<>"},
    {"Authentication-Results": "mx.harbourlane.example; dmarc=fail header.from=team.example"},
)


def test_machines_decide_nothing_and_get_no_answer(office: Office) -> None:
    """An absence notice that begins with ok, a bounce, and what our mail server says is forged."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    spoken = len(office.post.got)
    for headers in MACHINES:
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
    for _ in range(4):
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


def test_the_rescue_asks(tmp_path: Path) -> None:
    """Whatever the broker does; and a question that cannot be written stops nothing and is told."""
    with standing(tmp_path) as office:
        job = office.waiting()
        stop = threading.Event()
        settings = office.door.settings.model_copy(update={"rescue": RescueSettings(tick=0.2)})
        thread = threading.Thread(target=rescue, args=(settings, stop, lambda _: None), daemon=True)
        thread.start()
        try:
            until(lambda: not office.desk.ledger.questions.unasked(1), seconds=60)
        finally:
            stop.set()
            thread.join(60)
        office.work()
        assert [str(one["To"]) for one in office.outbox(LEAD, BEN) if job.subject in one["Subject"]] == [LEAD, BEN]
        shutil.copytree(settings.templates_dir, tmp_path / "templates")
        (tmp_path / "templates" / "review" / "question.txt.j2").unlink()
        other = office.waiting()
        without = settings.model_copy(update={"templates_dir": tmp_path / "templates"})
        assert Asking(without, office.desk.ledger).step() == 1
        [told] = [one for one in office.desk.ledger.jobs.page(source="postroom") if other.subject in one.subject]
        assert told.state is State.DONE
        assert "question.txt.j2 is missing; copy it" in told.reason


def test_viewers_do_not_see_what_would_let_them_answer(office: Office) -> None:
    """The question's Message-ID is masked on its page and in the log's name for it, and answers are not theirs to download."""
    job = office.waiting()
    [question] = [one for one in office.ask(job) if one["To"] == LEAD]
    answer = office.answer(question, "hm")
    secret = str(question["Message-ID"]).split(".")[3].partition("@")[0]
    [asked] = [one for one in office.desk.ledger.jobs.page(source="postroom") if job.subject in one.subject]
    assert all(secret not in one.delivery.key for one in office.desk.ledger.deliveries.of(asked.id))
    assert secret not in json.dumps(story(office.desk.ledger, answer))
    with web(office.desk) as url:
        vera, ben = Browser(url), Browser(url)
        vera.log_in("vera")
        ben.log_in("ben")
        page = vera.get(f"/jobs/{asked.id}").text
        assert "postroom.review-" in page
        assert secret not in page + vera.get(f"/jobs/{answer.id}").text
        assert vera.get(f"/jobs/{answer.id}/raw").status_code == 403
        assert ben.get(f"/jobs/{answer.id}/raw").status_code == 200
        assert vera.get(f"/jobs/{job.id}/raw").status_code == 200


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
