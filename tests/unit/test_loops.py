"""When an automatic responder keeps silent."""

from __future__ import annotations

import pytest

from tasks.loops import RULES, no_reply_because, over_cap
from tasks.models import Envelope, Kind, MailFacts

OWN = frozenset({"support@y.test"})


def ask(
    headers: dict[str, list[str]] | None = None,
    *,
    own: frozenset[str] = OWN,
    envelope: dict[str, object] | None = None,
    facts: dict[str, object] | None = None,
) -> str:
    """The verdict on a mail that a person wrote, with some things changed."""
    usual_envelope = {
        "source": "smtp",
        "kind": Kind.MAIL,
        "key": "k",
        "sender": "ann@x.test",
        "recipients": ("support@y.test",),
    }
    usual_facts = {"from_address": "ann@x.test", "to": ("support@y.test",), "message_id": "<1@x.test>"}
    return no_reply_because(
        headers or {},
        Envelope.model_validate(usual_envelope | (envelope or {})),
        MailFacts.model_validate(usual_facts | (facts or {})),
        own,
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"auto-submitted": ["no"]},
        {"auto-submitted": ["No (a person)"]},
        {"precedence": ["first-class"]},
        {"x-auto-response-suppress": ["DR, NDR, RN, NRN"]},
        {"x-autoreply": ["no"]},
        {"x-loop": ["somebody@else.test"]},
        {"content-type": ["multipart/mixed; boundary=report"]},
        {"received": ["from a by b"] * 99},
        {"return-path": ["<ann@x.test>"]},
    ],
)
def test_a_persons_mail_is_answered(headers: dict[str, list[str]]) -> None:
    """Nothing keeps us from answering a mail that a person wrote to us."""
    assert ask(headers) == ""


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"return-path": ["<>"]}, "Return-Path: <> (RFC 3834 section 2)"),
        ({"content-type": ["Multipart/Report; report-type=x"]}, "Content-Type: multipart/report (RFC 6522)"),
        ({"auto-submitted": ["auto-replied"]}, "Auto-Submitted: auto-replied (RFC 3834 section 5)"),
        ({"auto-submitted": ["auto-generated; x=y"]}, "Auto-Submitted: auto-generated (RFC 3834 section 5)"),
        ({"auto-submitted": ["AUTO-NOTIFIED (x)"]}, "Auto-Submitted: auto-notified (RFC 3834 section 5)"),
        ({"auto-submitted": ["no", "auto-replied"]}, "Auto-Submitted: auto-replied (RFC 3834 section 5)"),
        ({"precedence": ["Bulk"]}, "Precedence: bulk (RFC 3834 section 2)"),
        ({"precedence": ["junk"]}, "Precedence: junk (RFC 3834 section 2)"),
        ({"precedence": ["list"]}, "Precedence: list (RFC 3834 section 2)"),
        ({"precedence": ["auto_reply"]}, "Precedence: auto_reply (RFC 3834 section 2)"),
        ({"list-id": ["<x>"]}, "it comes from a mailing list: List-Id (RFC 2369, RFC 2919)"),
        ({"list-unsubscribe": ["<x>"]}, "it comes from a mailing list: List-Unsubscribe (RFC 2369, RFC 2919)"),
        ({"x-auto-response-suppress": ["All"]}, "X-Auto-Response-Suppress: all (MS-OXCMAIL section 2.1.3.2.20)"),
        (
            {"x-auto-response-suppress": ["DR, OOF"]},
            "X-Auto-Response-Suppress: dr, oof (MS-OXCMAIL section 2.1.3.2.20)",
        ),
        (
            {"x-auto-response-suppress": ["AutoReply"]},
            "X-Auto-Response-Suppress: autoreply (MS-OXCMAIL section 2.1.3.2.20)",
        ),
        ({"x-autoreply": ["yes"]}, "X-Autoreply is set (common use)"),
        ({"x-autorespond": [""]}, "X-Autorespond is set (common use)"),
        ({"x-failed-recipients": ["a@b"]}, "X-Failed-Recipients is set, as in bounces (Exim, Gmail)"),
        ({"x-loop": ["Support@Y.test"]}, "X-Loop carries our own address (common use)"),
        ({"received": ["x"] * 100}, "100 Received fields: it goes round in circles (RFC 5321 section 6.3)"),
    ],
)
@pytest.mark.fault(number=29)
def test_headers_that_forbid_an_answer(headers: dict[str, list[str]], reason: str) -> None:
    """Each mark of a machine is found and named in plain words."""
    assert ask(headers) == reason


def test_null_sender() -> None:
    """A bounce has no envelope sender."""
    assert ask(envelope={"sender": ""}) == "the envelope has no sender, like a bounce's (RFC 3834 section 2)"


@pytest.mark.parametrize(
    "address",
    ["MAILER-DAEMON@x.test", "postmaster@x.test", "noreply@x.test", "no-reply+42@x.test", "DoNotReply@x.test"],
)
@pytest.mark.parametrize("place", ["sender", "from_address", "reply_to"])
def test_machine_senders(address: str, place: str) -> None:
    """An address behind which nobody reads gets no answer, wherever it stands."""
    changed: dict[str, object] = {place: address}
    reason = ask(envelope=changed) if place == "sender" else ask(facts=changed)
    assert reason.startswith("the sender is a machine: ")


def test_similar_names_are_people() -> None:
    """Only the whole local part makes a machine."""
    assert ask(envelope={"sender": "noreply.miller@x.test"}, facts={"from_address": "postmaster-jones@x.test"}) == ""


def test_our_own_address() -> None:
    """Mail from our own address, or whose answer would come to it, is not answered."""
    reason = "the sender is one of our own addresses (RFC 5230 section 4.6)"
    assert ask(facts={"from_address": "Support@y.test"}) == reason
    assert ask(facts={"reply_to": "support@y.test"}) == reason
    assert ask(envelope={"recipients": ("help@y.test",)}, facts={"from_address": "help@y.test"}) == reason


def test_our_own_message() -> None:
    """A mail that Postroom wrote is not answered when it comes back."""
    own = "<postroom.01hx.0.0123456789abcdef0123456789abcdef@y.test>"
    assert ask(facts={"message_id": own}) == "its Message-ID is one that Postroom wrote (our Message-ID)"
    assert ask(facts={"in_reply_to": own}) == "", "a person's answer to it is"


@pytest.mark.parametrize(
    ("facts", "headers"),
    [
        ({"to": ("SUPPORT@y.test",)}, {}),
        ({"to": (), "cc": ("support@y.test",)}, {}),
        ({"to": ()}, {"delivered-to": ["support@y.test"]}),
        ({"to": ()}, {"x-original-to": ["<support@y.test>"]}),
    ],
)
def test_addressed_to_us(facts: dict[str, object], headers: dict[str, list[str]]) -> None:
    """It is enough that our address stands in one of the places."""
    assert ask(headers, facts=facts) == ""


def test_not_addressed_to_us() -> None:
    """A blind copy or a forwarded list mail is not answered."""
    reason = "our address stands in neither To, Cc nor Delivered-To (RFC 5230 section 4.5)"
    assert ask(facts={"to": ("others@x.test",)}) == reason
    assert ask({"delivered-to": ["else@y.test"]}, facts={"to": ()}) == reason


def test_without_an_address_of_ours_that_rule_is_silent() -> None:
    """A mail from a drop folder was delivered to no address; the rule does not apply."""
    assert ask(own=frozenset(), envelope={"recipients": ()}, facts={"to": ()}) == ""


def test_dmarc() -> None:
    """What our mail server says fails DMARC may come from somebody else than it says; `pass` is no hindrance."""
    failed = {"authentication-results": "mx.y.test; dmarc=fail"}
    passed = {"authentication-results": "mx.y.test; dmarc=pass"}
    assert ask(envelope={"headers": failed}) == "our mail server says that it fails DMARC (RFC 7489)"
    assert ask(envelope={"headers": passed}) == ""
    assert ask({"authentication-results": ["mx.y.test; dmarc=fail"]}) == "", "an unchecked field is not believed"


def test_reason_carries_no_control_characters() -> None:
    """A hostile header value stays harmless in the reason."""
    assert ask({"auto-submitted": ["x\x1b[2J\n" + "y" * 500]}) == "Auto-Submitted: x[2j (RFC 3834 section 5)"


def test_every_rule_is_named_once() -> None:
    """Rules have names of their own, so that a document can list them."""
    assert len({rule.name for rule in RULES}) == len(RULES)


HOUR = 3_600_000
CAPS = ((2, 600_000), (3, HOUR))


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([], ""),
        ([10 * HOUR - 1], ""),
        (
            [10 * HOUR - 1, 10 * HOUR - 2],
            "2 replies went to this address within 10 minutes, and 2 are the limit",
        ),
        ([10 * HOUR - 600_000, 10 * HOUR - 1], ""),
        (
            [10 * HOUR - 700_000, 10 * HOUR - 800_000, 10 * HOUR - 1],
            "3 replies went to this address within 60 minutes, and 3 are the limit",
        ),
        ([9 * HOUR, 8 * HOUR, 7 * HOUR], ""),
        ([11 * HOUR, 11 * HOUR], ""),
    ],
)
def test_caps(times: list[int], reason: str) -> None:
    """A cap counts the replies within its span up to now, in any order."""
    assert over_cap(times, 10 * HOUR, CAPS) == reason


def test_long_spans_are_told_in_hours() -> None:
    """A span of more than an hour reads as hours."""
    assert "within 10 hours" in over_cap([1], 2, [(1, 10 * HOUR)])


def test_details_are_ours_too() -> None:
    """`support+x@` is the mailbox `support@`: written to it we answer, written from it we do not."""
    assert ask(facts={"to": ("Support+invoices@y.test",)}, envelope={"recipients": ("support@y.test",)}) == ""
    assert ask(envelope={"recipients": ("support+invoices@y.test",)}) == ""
    assert "one of our own" in ask(facts={"from_address": "support+bot@y.test"})
