"""Expectations: what comes true is told as true, and every way to be wrong as false."""

from __future__ import annotations

import copy
from collections.abc import Callable
from email import message_from_bytes, policy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from daemon.demo.expect import Check, checks
from daemon.demo.inputs import Drop, Expected, Input, Mail
from daemon.demo.send import Sending
from daemon.demo.sinks import HookSink, MailSink, Posted, Sent
from daemon.demo.story import report
from daemon.demo.watch import Followed, is_of

MAIL = Mail.model_validate(
    {"by": "smtp", "from": "A <a@x.example>", "to": "b@y.example", "subject": "Hi", "message_id": "<1@x>", "date": ""}
)
EXPECTED = Expected(
    label="invoice",
    fields={"total": "10.50"},
    read=("a.pdf",),
    unreadable=("b.doc",),
    answered=True,
    says=("10.50",),
    mails=1,
    webhooks=1,
)
JOB: dict[str, Any] = {
    "id": "J1",
    "state": "done",
    "reason": "",
    "message_id": "<1@x>",
    "name": "",
    "classification": {"label": "invoice", "fields": [{"name": "total", "value": "10.50", "supported": True}]},
    "documents": [
        {"name": "a.pdf", "status": "read", "reason": ""},
        {"name": "b.doc", "status": "unreadable", "reason": "is encrypted"},
    ],
    "reply": {"not_sent_because": ""},
}


class World:
    """A job, an outbox and a webhook sink in which everything expected came true."""

    def __init__(self, tmp_path: Path) -> None:
        self.job = copy.deepcopy(JOB)
        self.outbox = MailSink(tmp_path)
        self.hooks = HookSink(tmp_path, "whsec_")
        self.headers = {"To": "a@x.example", "In-Reply-To": "<1@x>", "Auto-Submitted": "auto-replied"}
        self.text = "Total: 10.50 EUR, but not b.doc"
        self.recipients: tuple[str, ...] = ("a@x.example",)
        self.replies = 1
        self.posts = [Posted(tmp_path, "J1-1", True, {"job": {"id": "J1"}})]

    def wrong(self, expected: Expected = EXPECTED) -> list[Check]:
        """The expectations that did not come true."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        message = message_from_bytes(f"{head}\r\n{self.text}".encode(), policy=policy.default)
        self.outbox.mails += [Sent(Path("01.eml"), self.recipients, message)] * self.replies
        self.hooks.hooks += self.posts
        sending = Sending(Input("one", "smtp", MAIL, expected, b""), "SMTP", "250")
        found = checks([Followed(sending, 0.0, self.job)], self.outbox, self.hooks)
        assert len(found) > 3
        return [check for check in found if not check.true]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Everything came true."""
    return World(tmp_path)


def test_all_true(world: World) -> None:
    """Nothing is false where everything came true."""
    assert world.wrong() == []


def _no_reply(world: World) -> None:
    world.replies = 0
    world.job["reply"]["not_sent_because"] = "over the cap"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w.job.update(state="failed", reason="no luck"), "failed no luck"),
        (lambda w: w.job["classification"].update(label="order"), "order"),
        (lambda w: w.job["classification"]["fields"][0].update(value="10.5"), "10.5"),
        (lambda w: w.job["classification"]["fields"][0].update(supported=False), "10.50, without evidence"),
        (lambda w: w.job["classification"].update(fields=[]), "no such field"),
        (lambda w: w.job.update(classification=None), "no label"),
        (
            lambda w: w.job["documents"][0].update(status="unreadable", reason="is encrypted"),
            "unreadable: is encrypted",
        ),
        (lambda w: w.job["documents"][1].update(reason=""), "unreadable: "),
        (lambda w: w.job.update(documents=[]), "no such document: there are none"),
        (_no_reply, "no reply: over the cap"),
        (lambda w: setattr(w, "replies", 2), "2"),
        (lambda w: setattr(w, "recipients", ("a@x.example", "c@x.example")), "a@x.example, c@x.example"),
        (lambda w: w.headers.update({"To": "all@x.example"}), "a@x.example"),
        (lambda w: w.headers.pop("Auto-Submitted"), "missing"),
        (lambda w: w.headers.update({"In-Reply-To": "<2@x>"}), "01.eml"),
        (lambda w: setattr(w, "text", "nothing of it"), "it does not"),
        (lambda w: w.posts.clear(), "0"),
        (lambda w: w.posts.append(Posted(Path("02.json"), "J1-2", True, {"job": {"id": "J1"}})), "2"),
        (lambda w: w.posts.append(Posted(Path("02.json"), "J1-1", False, {})), "02.json"),
    ],
)
def test_each_lapse_is_told(world: World, spoil: Callable[[World], object], words: str) -> None:
    """Whatever did not come true is told, with what was seen instead."""
    spoil(world)
    assert words in [check.seen for check in world.wrong()]


def test_an_answer_that_was_not_due(world: World) -> None:
    """A reply to what must not be answered is false, and so is a silence for another reason."""
    seen = [check.seen for check in world.wrong(Expected(answered=False, because="Auto-Submitted"))]
    assert seen == ["1 replies", "no reason told"]


def test_no_job_is_told(world: World) -> None:
    """An input of which no job is known is false."""
    world.job, world.replies, world.posts = {}, 0, []
    sending = Sending(Input("one", "smtp", MAIL, EXPECTED, b""), "SMTP", "250")
    found = checks([Followed(sending, 0.0, {})], world.outbox, world.hooks)
    assert [check.seen for check in found if not check.true] == ["no job for it is listed"]


@pytest.mark.parametrize(("job", "true"), [("J1", True), ("J2", False)])
def test_a_repeat_shares_the_first_job(world: World, job: str, true: bool) -> None:
    """What was sent twice is one job; a second job is false."""
    first = Followed(Sending(Input("one", "smtp", MAIL, Expected(), b""), "", ""), 0.0, JOB)
    again = Input("two", "smtp", MAIL, Expected(duplicate_of="one"), b"")
    found = checks([first, Followed(Sending(again, "", ""), 0.0, {**JOB, "id": job})], world.outbox, world.hooks)
    assert [check.true for check in found if check.input == "two"] == [true]


def test_jobs_are_found_by_what_was_sent() -> None:
    """A mail by its Message-ID, a webhook by the id of the 202, a file by its name."""
    mail = Sending(Input("m", "smtp", MAIL, Expected(), b""), "", "")
    event = Sending(Input("e", "webhook", MAIL, Expected(), b""), "", "", "J1")
    file = Sending(Input("f", "folder", Drop(by="folder", file="x.png"), Expected(), b""), "", "")
    assert [is_of(one, JOB) for one in (mail, event, file)] == [True, True, False]
    assert is_of(file, {**JOB, "name": "x.png"})


@pytest.mark.parametrize("true", [True, False])
def test_report_is_plain_off_a_terminal(true: bool) -> None:
    """The report says what is false with what was seen, decides the exit status, and holds no control codes."""
    out = StringIO()
    good = report([Check("one", "label invoice", true, "order")], Console(file=out, width=160))
    assert good is true
    assert ("expected: label invoice; seen: order" in out.getvalue()) is not true
    assert "\x1b" not in out.getvalue()
