"""What a reviewer's mail says, and what it does not say clearly enough."""

from __future__ import annotations

import pytest

from tasks.models import MailFacts
from tasks.review.tokens import Named, Question, masked, named_in
from tasks.review.words import NotUnderstood, Said, understood

MARK = "4f2a1c"
SIGNED = "no.\n-- \nOffice"
OUTLOOK = (
    "\n\n________________________________\nFrom: Postroom <office@x.example>\nSent: Monday 10:00\nTo: Lead\n"
    "Subject: Postroom\n\n"
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ok", Said("approved")),
        ("OK!\n", Said("approved")),
        ("\n\n  Ja.\n\nViele Gr\u00fc\u00dfe\nAnna Berg", Said("approved")),
        ("ok\n\nThanks, Anna", Said("approved")),
        ("ok\n-- \nAnna Berg\nHead of Accounts\nPlease change nothing", Said("approved")),
        ("ok\n\nSent from my iPhone", Said("approved")),
        (f"ok{OUTLOOK}no\n", Said("approved")),
        ("ok\n\nOn Mon, 2 Nov 2026 at 10:00, Postroom <o@x.example> wrote:\n> no\n", Said("approved")),
        ("no", Said("rejected")),
        ("No: wrong supplier\nand too late\n\nAnna", Said("rejected", "wrong supplier and too late")),
        ("nein\n\nDas ist nicht f\u00fcr uns.", Said("rejected", "Das ist nicht f\u00fcr uns.")),
        ("no\nThanks,\nAnna", Said("rejected", "")),
        (f"[reply {MARK}]\nDear Ada,\n\n{SIGNED}\n[end {MARK}]\nAnna", Said("approved", text=f"Dear Ada,\n\n{SIGNED}")),
        ("Text: We call you.", Said("approved", text="We call you.")),
        ("text:\n\nDear Ada,\nwe call.\n-- \nAnna", Said("approved", text="Dear Ada,\nwe call.")),
    ],
)  # fmt: skip
def test_what_is_clear(body: str, said: Said) -> None:
    """The first line decides; closing words, signatures and what is quoted change nothing."""
    assert understood(body, MARK) == said


@pytest.mark.parametrize(
    "body",
    [
        "",
        "> ok",
        "okay?",
        "ok?",
        "ok but not today",
        "not ok",
        "nothing to add",
        "no worries",
        "No objections.",
        "ok\nno",
        "ok\n\nThanks, but change the total",
        "ok\n\nThanks,\n" + "a line\n" * 20,
        f"I do not know.\n[reply {MARK}]\nDear Ada\n[end {MARK}]",
        f"[reply {MARK}]\nDear Ada",
        f"[reply {MARK}]\n\n[end {MARK}]",
        "[reply 000000]\nDear Ada\n[end 000000]",
        f"text: We call.\n\nPostroom asks\n[reply {MARK}]\nDear Ada\n[end {MARK}]",
        "text:",
        f"{OUTLOOK}ok",
        "On Mon, 2 Nov 2026 at 10:00, Postroom <o@x.example> wrote:\n\nok\n",
        "I am out of the office until Monday.",
    ],
)
def test_what_is_not_clear(body: str) -> None:
    """Is told, and decides nothing."""
    with pytest.raises(NotUnderstood):
        understood(body, MARK)


def test_a_question_is_known_by_its_name_alone() -> None:
    """Wherever it stands in the header, for our domain and secret only; masked, it is good for nothing."""
    from tasks.compose import make_message_id  # noqa: PLC0415  # beside what it makes

    question = Question.to("Lead@Team.example", "0" * 26, 7)
    name = make_message_id(question.name, 1, "x.example", b"secret")
    other = MailFacts(in_reply_to="<a@b>", references=("<c@d>", name, "<e@f>"))
    for mail in (MailFacts(in_reply_to=name), other):
        assert named_in(mail, "X.example", b"secret") == Named(question)
        assert named_in(mail, "x.example", b"other") == Named(None)
        assert named_in(mail, "y.example", b"secret") is None
    assert question.is_to("lead@team.example")
    assert not question.is_to("ben@team.example")
    assert named_in(MailFacts(in_reply_to="<a@b>"), "x.example", b"secret") is None
    assert named_in(MailFacts(in_reply_to=masked(name)), "x.example", b"secret") is None
    assert name.split(".")[3].split("@")[0] not in masked(f"References: {name}")
