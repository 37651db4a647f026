"""Where the quoted history begins in the shared set of replies, against line numbers found by reading them."""

from __future__ import annotations

import pytest

from tasks.history import take_apart
from tests.corpus.places import MAIL, needs_mail

pytestmark = [pytest.mark.corpus, needs_mail]

BEGINS = {
    "begins_with_signature": 11, "email_1_3": 7, "email_1_4": 3, "email_1_6": 5, "email_1_7": 3, "email_1_8": 1,
    "email_2_1": 6, "email_2_2": 2, "email_2_3": 3, "email_3_1": 6, "email_bullets": 12, "email_danish_1": 8,
    "email_danish_2": 8, "email_danish_3": 5, "email_danish_4": 5, "email_gmail": 5, "email_headers_no_delimiter": 3,
    "email_ja_1_2": 10, "email_nl_1_2": 6, "email_one_is_not_on": 7, "email_partial_quote_header": 8, "email_pl_1_2": 13,
    "email_sv_anon_1": 11, "email_swedish_1": 10, "email_swedish_2": 9, "greedy_on": 8, "multi_header": 3,
    "multiline_on": 0, "multiline_on_de": 2, "pathological": 3,
}  # fmt: skip
"""File -> the first line of history; every other file has none. multiline_on has nothing new: all of it is kept as new."""
SIGNED = {
    "correct_sig", "email_1_1", "email_1_3", "email_1_8", "email_bullets", "email_nl_1_1", "email_sent_from_BlackBerry",
    "email_sent_from_iPhone", "email_sent_from_multi_word_mobile_device", "outlook",
}  # fmt: skip
"""Files whose new part ends in a signature that a mail program or a list marks as one."""


def test_history_and_signatures_are_found() -> None:
    """In at least 45 of 46 replies the history begins at the right line, and the signature is cut where there is one."""
    wrong = []
    files = sorted(MAIL.glob("mail-parser-reply/emails_*.txt"))
    for path in files:
        name = path.stem.removeprefix("emails_")
        text = path.read_text("utf-8")
        body = take_apart(text)
        first = body.history.splitlines()[:1]
        line = BEGINS.get(name, 0)
        expected = [text.splitlines()[line - 1].strip()] if line else []
        if first != expected or bool(body.signature) != (name in SIGNED):
            wrong.append((name, first, body.signature[:40]))
    print(f"\n{len(files) - len(wrong)} of {len(files)} right; wrong: {wrong}")
    assert len(files) > 40
    assert len(wrong) <= 1
