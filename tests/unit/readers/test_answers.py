"""tasks/readers/sandbox/answers.py: a child that was taken over may answer anything; the file is unreadable then."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import Unreadable
from tasks.readers.limits import Limits
from tasks.readers.opening import mail_of, opened
from tasks.readers.sandbox import client
from tasks.readers.sandbox.answers import checked
from tasks.readers.sandbox.client import Result, Sandbox

USED = {"peak_kib": 1, "cpu_seconds": 0.1}
TEXT = {"status": "read", "type": "text/plain", "reason": "", "text": "x", "used": USED}


@pytest.mark.parametrize(
    ("op", "header", "blobs"),
    [
        ("read", {}, []),
        ("read", TEXT | {"used": None}, []),
        ("read", TEXT | {"used": {"peak_kib": -1, "cpu_seconds": 0}}, []),
        ("read", TEXT | {"status": "done"}, []),
        ("read", TEXT | {"text": {"a": 1}}, []),
        ("read", TEXT | {"pages": "many"}, []),
        ("read", TEXT | {"children": [["a", "b"]]}, [b""]),
        ("read", TEXT | {"children": [["a", "text/plain", "", False]]}, []),
        ("read", TEXT, [b"not told of"]),
        ("read", {"status": "unreadable"}, []),
        ("read", {"status": "unreadable", "reason": ["x"], "locked": False, "lasting": True}, []),
        ("mail", TEXT, []),
        ("mail", TEXT | {"mail": {"parts": 3}}, []),
        ("mail", TEXT | {"mail": {"parts": [{}]}}, []),
        ("dkim", TEXT | {"good": {"a.example": 1}}, []),
        ("picture", TEXT, []),
    ],
)
def test_an_answer_that_is_none_makes_the_file_unreadable(
    monkeypatch: pytest.MonkeyPatch, op: str, header: dict[str, Any], blobs: list[bytes]
) -> None:
    """Not the stage fail: the other files of the same mail are read."""
    sandbox = Sandbox()
    monkeypatch.setattr(client, "_converse", lambda *_: (header, blobs))
    try:
        with pytest.raises(Unreadable, match="gave an answer that is none") as raised:
            sandbox.call({"op": op}, b"", Limits())
    finally:
        sandbox.close()
    assert not raised.value.lasting


def test_a_mail_that_is_none_is_unreadable() -> None:
    """Its parts are held against their own shape, too."""
    with pytest.raises(Unreadable, match="gave an answer that is none"):
        mail_of(Result({"mail": {"facts": {"subject": 5}, "parts": []}}, [], 0, 0.0))


def test_what_a_child_leaves_out_has_its_usual_value() -> None:
    """An answer without text is one of a skipped file."""
    told = checked("read", {"status": "skipped", "type": "video/mp4", "reason": "no text", "used": USED}, [])[0]
    assert (told["text"], told["pages"], told["children"], told["lasting"]) == ("", 1, [], True)


def test_a_real_child_s_answer_is_one() -> None:
    """A small mail, as a child of its own tells it."""
    mail = opened(b"Subject: hello\nContent-Type: text/plain\n\nwords\n")
    assert (mail.facts.subject, [part.data for part in mail.parts]) == ("hello", [b"words\n"])
