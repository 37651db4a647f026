"""First match wins."""

from __future__ import annotations

import pytest

from config.routes import Match, Route
from tasks.models import Document, Extracted, Job, Kind, MailFacts
from tasks.routing import choose, matches
from tests.unit.samples import job

PDF = Document(ordinal=1, name="a.pdf", content_type="application/pdf", size=1, sha256="0" * 64)
MAIL = Extracted(
    mail=MailFacts(subject="Your Invoice 7", from_address="Billing@Supplier.example", to=("in@post.example",)),
    documents=(PDF,),
)
EVENT = b'{"type": "order.created", "order": {"id": 12}}'


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), True),
        (Match(source="sm*"), True),
        (Match(source="imap:*"), False),
        (Match(sender="*@supplier.example"), True),
        (Match(sender="*@other.example"), False),
        (Match(recipient="in@*"), True),
        (Match(subject="invoice \\d"), True),
        (Match(subject="^invoice"), False),
        (Match(file_type="application/pdf"), True),
        (Match(file_type="image/*"), False),
        (Match(subject="invoice", file_type="image/*"), False),
        (Match(event={"$.type": "order"}), False),
    ],
)
def test_all_that_is_given_has_to_hold(match: Match, expected: bool) -> None:
    """Patterns are shell patterns or regular expressions, without regard to case."""
    assert matches(match, job(), MAIL, b"") is expected


@pytest.mark.parametrize(
    ("wanted", "raw", "expected"),
    [
        ({"$.type": r"^order\."}, EVENT, True),
        ({"$.type": r"^order\.", "$.order.id": "^12$"}, EVENT, True),
        ({"$.type": r"^order\.", "$.order.id": "^13$"}, EVENT, False),
        ({"$.missing": "."}, EVENT, False),
        ({"$.type": "."}, b"no json", False),
    ],
)
def test_an_event_is_matched_by_json_paths(wanted: dict[str, str], raw: bytes, expected: bool) -> None:
    """Each path's value has to match its expression; what is no JSON matches none."""
    event: Job = job(kind=Kind.EVENT)
    assert matches(Match(event=wanted), event, Extracted(), raw) is expected


def test_the_first_route_that_matches_is_taken() -> None:
    """The order of the files decides."""
    routes = [Route(name="a", match=Match(source="imap:*")), Route(name="b"), Route(name="c")]
    assert choose(routes, job(), MAIL, b"").name == "b"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("in+bills@*", True), ("in@post.example", True), ("*+bills@*", True), ("in+offers@*", False), ("bills@*", False)],
)
def test_details_of_a_recipient(pattern: str, expected: bool) -> None:
    """A pattern sees the detail of `in+bills@`, and one without a detail matches whatever it is."""
    addressed = job(recipients=("in+Bills@post.example",))
    assert matches(Match(recipient=pattern), addressed, Extracted(mail=MailFacts()), b"") is expected
