"""New text, signature and quoted history of a mail's body."""

from __future__ import annotations

import time

import pytest

from tasks.history import take_apart
from tasks.models import Document
from tasks.prompts import Part

QUOTE = "> Could you send the offer again?\n> Thanks, Ben"


@pytest.mark.parametrize(
    "attribution",
    [
        "On Tue, 3 Nov 2026 at 10:12, Ben Hill <ben@x.test> wrote:",
        "On Tue, 3 Nov 2026 at 10:12, Ben Hill <\nben@x.test>\nwrote:",
        "Am 03.11.2026 um 10:12 schrieb Ben Hill:",
        "Le mar. 3 nov. 2026 à 10:12, Ben Hill <ben@x.test> a écrit :",
        "El mar, 3 nov 2026 a las 10:12, Ben Hill (<ben@x.test>) escribió:",
        "Il giorno mar 3 nov 2026 alle ore 10:12 Ben Hill ha scritto:",
        "Op di 3 nov 2026 om 10:12 schreef Ben Hill:",
        "tis 3 nov. 2026 kl. 10:12 skrev Ben Hill <ben@x.test>:",
        "W dniu 03.11.2026 10:12 Ben Hill napisał(a):",
        "2026年11月3日 10:12 Ben Hill <ben@x.test>:",
    ],
)
def test_quoted_lines_and_what_introduces_them(attribution: str) -> None:
    """An attribution in any of the usual languages, broken or not, and the lines after it are history."""
    body = take_apart(f"Here it is.\n\n{attribution}\n\n{QUOTE}\n")
    assert (body.new, body.history) == ("Here it is.", f"{attribution}\n\n{QUOTE}")


@pytest.mark.parametrize(
    "head",
    [
        "From: Ben Hill <ben@x.test>\nSent: Tuesday, 3 November 2026 10:12\nTo: us@y.test\nSubject: offer",
        "*Von:* Ben Hill\n*Gesendet:* Dienstag, 3. November 2026\n*An:* us@y.test\n*Betreff:* Angebot",
        "De : Ben Hill\nEnvoyé : mardi 3 novembre 2026\nÀ : us@y.test\nObjet : offre",
        "-----Original Message-----\nFrom: Ben Hill",
        "-----Ursprüngliche Nachricht-----\nVon: Ben Hill",
    ],
)
def test_heads_of_outlook(head: str) -> None:
    """Outlook quotes without marks: from the head on everything is history."""
    body = take_apart(f"Here it is.\n\n{head}\n\nCould you send it?\n")
    assert body.new == "Here it is."
    assert body.history == f"{head}\n\nCould you send it?"


def test_answers_between_and_below_quotes_are_new() -> None:
    """Who answers point by point, or below, has written what stands unquoted."""
    body = take_apart(
        "On 3 Nov 2026 at 10:12, Ben <b@x.test> wrote:\n> first?\n\nYes.\n\n> second?\n\nNo.\n\n-- \nAnn\n"
    )
    assert body.new.split() == ["Yes.", "No."]
    assert body.signature == "-- \nAnn"
    assert "first" in body.history
    assert "second" in body.history


@pytest.mark.parametrize(
    "text",
    [
        "Please book this.\n\n---------- Forwarded message ---------\nFrom: Shop\nSubject: bill\nTo: us\n\nTotal 3.00",
        "Zur Kenntnis\n\nAnfang der weitergeleiteten Nachricht:\n\n> Von: Ben\n> Betreff: Rechnung\n> Summe 3,00",
        "From: Ben\nTo: us\nSubject: a mail pasted whole\n\nHello",
        "Trip\nFrom: Berlin\nTo: Prague\nDate: 3 May 2026\nSeat: 12",
        "> only quoted\n> nothing else",
        "On 3 May 2026 your shop wrote:\nWe will refund you.\nThat never came.",
        "Please reply at 10:30 to this address:\nbox@x.test",
        "a -- b\n--flag\n",
        "",
    ],
)
def test_what_is_no_history(text: str) -> None:
    """Forwarded mail is what the message is about; tables and tales that look like a head are text."""
    body = take_apart(text)
    assert (body.history, body.signature) == ("", "")
    assert body.new == text.strip()


@pytest.mark.parametrize(
    ("end", "cut"),
    [
        ("-- \nAnn Lee\nAcme Ltd", True),
        ("--\nAnn", True),
        ("Sent from my iPhone", True),
        ("Von meinem iPhone gesendet", True),
        ("Get Outlook for iOS<https://aka.ms/x>", True),
        ("_________________\nusers mailing list\nusers@x.test", True),
        ("Sent from my desk, which is easier than by phone.", False),
        ("Kind regards\nAnn Lee\n+49 30 1234", False),
        ("-- \n" + "line\n" * 30, False),
    ],
)
def test_signatures(end: str, cut: bool) -> None:
    """What a mail program marks as a signature is cut; a name under a greeting may be asked for and stays."""
    body = take_apart(f"The lamp is broken.\n\n{end}\n")
    assert body.signature == (end if cut else "")
    assert body.new == ("The lamp is broken." if cut else f"The lamp is broken.\n\n{end}".strip())


def test_nothing_is_lost() -> None:
    """Every word of a text is in one of the three pieces."""
    text = f"New.\n\nOn 3 Nov 2026 at 10:12, Ben <b@x.test> wrote:\n{QUOTE}\n\nBelow.\n-- \nAnn\n"
    body = take_apart(text)
    assert sorted((body.new + " " + body.history + " " + body.signature).split()) == sorted(text.split())


def test_the_model_sees_the_new_part_first() -> None:
    """The prompt begins with what is new, ends with what was quoted, and leaves the signature out; the store has all."""
    text = f"On 3 Nov 2026 at 10:12, Ben <b@x.test> wrote:\n{QUOTE}\n\nIt broke.\n\n-- \nAnn\n"
    body = Document(ordinal=0, name="body", content_type="text/plain", size=1, sha256="0" * 64, text=text)
    shown = Part.of(body).text
    assert shown.startswith("It broke.\n\n[earlier messages")
    assert shown.endswith("Thanks, Ben")
    assert "Ann" not in shown
    assert body.text == text
    attached = body.model_copy(update={"ordinal": 1, "name": "mail.eml"})
    assert Part.of(attached).text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "On " * 100_000,
        "On Monday 10:10 wrote\n" * 30_000,
        "> " * 100_000,
        "From: a\n" * 50_000,
        "-" * 300_000,
        "--\n" * 50_000,
        " " * 300_000 + "x",
        "\n" * 200_000 + "x",
        "Sent from my " * 20_000,
        "*" * 300_000 + "\n" + "- " * 100_000,
    ],
)
def test_no_text_is_slow(text: str) -> None:
    """Texts that make patterns of other programs run for ever take a moment."""
    begin = time.process_time()
    take_apart(text)
    assert time.process_time() - begin < 5
