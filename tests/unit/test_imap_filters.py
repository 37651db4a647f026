"""Filters: what fits, what is passed over and why, and what counts as an attachment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.imap import ImapFilter
from daemon.listeners.imap_filters import has_attachment, passed_over_because

HEAD = (
    b"From: =?utf-8?q?M=C3=BCller?= <Rechnung@Shop.Example>\r\nTo: a@ours.example,\r\n Help <HELP@ours.example>\r\n"
    b"Delivered-To: inbox+invoices@ours.example\r\nSubject: =?iso-8859-1?q?Ihre_M=E4rz?=\r\n =?iso-8859-1?q?-Rechnung?=\r\n\r\n"
)
TEXT = b'("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 12 1 NIL NIL NIL NIL)'
PDF = b'("APPLICATION" "PDF" ("NAME" "a.pdf") NIL NIL "BASE64" 99 NIL ("ATTACHMENT" ("FILENAME" "a.pdf")) NIL NIL)'
INLINE_PDF = b'("APPLICATION" "PDF" NIL NIL NIL "BASE64" 99 NIL ("INLINE" NIL) NIL NIL)'
LOGO = b'("IMAGE" "PNG" ("NAME" "logo.png") "<1@x>" NIL "BASE64" 99 NIL ("INLINE" ("FILENAME" "logo.png")) NIL NIL)'
SIGNATURE = b'("APPLICATION" "PGP-SIGNATURE" ("NAME" "s.asc") NIL NIL "7BIT" 9 NIL ("ATTACHMENT" NIL) NIL NIL)'


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, ""),
        ({"sender": ["*@shop.example"]}, ""),
        ({"sender": ["*@other.example", "rechnung@*"]}, ""),
        ({"sender": ["*@other.example"]}, "its sender fits none"),
        ({"recipient": ["help@ours.example"]}, ""),
        ({"recipient": ["inbox+invoices@*"]}, ""),
        ({"recipient": ["sales@*"]}, "its recipient fits none"),
        ({"subject": ["*märz-rechnung"]}, ""),
        ({"subject": ["märz"]}, "its subject fits none"),
        ({"max_size": 5000}, ""),
        ({"max_size": 4999}, "5000 bytes are more than filter.max_size = 4999"),
        ({"sender": ["*@shop.example"], "subject": ["*storno*"]}, "its subject fits none"),
    ],
)
def test_all_that_is_set_must_fit(rule: dict[str, Any], told: str) -> None:
    """Patterns are compared in any case, with the decoded header; the first that does not fit is named."""
    assert passed_over_because(ImapFilter(**rule), 5000, HEAD).startswith(told)
    assert bool(passed_over_because(ImapFilter(**rule), 5000, HEAD)) is bool(told)


@pytest.mark.parametrize(
    ("structure", "found"),
    [
        (TEXT, False),
        (PDF, True),
        (b"(" + TEXT + PDF + b' "MIXED" ("BOUNDARY" "b") NIL NIL NIL)', True),
        (b"(" + TEXT + INLINE_PDF + b' "MIXED" ("BOUNDARY" "b") NIL NIL NIL)', True),
        (b"(" + TEXT + LOGO + b' "RELATED" ("BOUNDARY" "b") NIL NIL NIL)', False),
        (b"((" + TEXT + LOGO + b' "RELATED" NIL NIL NIL NIL)' + PDF + b' "MIXED" NIL NIL NIL NIL)', True),
        (b"(" + TEXT + SIGNATURE + b' "SIGNED" ("PROTOCOL" "application/pgp-signature") NIL NIL NIL)', False),
        (b'("TEXT" "CSV" NIL NIL NIL "7BIT" 3 1 NIL ("attachment" ("filename" {5} a.csv)) NIL NIL)', True),
        (
            b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 30 ("d" "s" NIL NIL NIL NIL NIL NIL NIL "<1@x>")' + TEXT + b" 9)",
            True,
        ),
        (b'("MESSAGE" "DELIVERY-STATUS" NIL NIL NIL "7BIT" 30 NIL NIL NIL NIL)', False),
        (b"", None),
        (b"NIL", None),
    ],
)
def test_what_counts_as_an_attachment(structure: bytes, found: bool | None) -> None:
    """A document does, inline or not; a picture in a signature does not; where no structure is told, mail is taken."""
    line = b"1 (UID 7 BODYSTRUCTURE " + structure + b")"
    assert has_attachment(line) is found
    wanted = ImapFilter(has_attachment=True)
    assert bool(passed_over_because(wanted, 1, b"", line)) is (found is False)
    assert bool(passed_over_because(ImapFilter(has_attachment=False), 1, b"", line)) is (found is True)


@given(st.binary(max_size=300))
def test_no_structure_breaks_it(structure: bytes) -> None:
    """Whatever a server writes is read to its end."""
    assert has_attachment(b"BODYSTRUCTURE (" + structure) in {True, False, None}


def test_deep_nesting_is_bounded() -> None:
    """A structure of a hundred thousand parentheses is no reason to fail."""
    assert has_attachment(b"BODYSTRUCTURE " + b"(" * 100_000) in {True, False}
