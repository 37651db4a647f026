"""What people see of an answer while it is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.engine import ModelSettings
from tasks.errors import NeedsReview
from tasks.judging.calls import Progress
from tasks.judging.tail import SHOWN, Tail
from tasks.model import Judge
from tasks.models import Classification
from tasks.prompts import canary
from tests.standin_model import StandIn, standing_in
from tests.unit.judging.test_trip import PAGE, ROUTE, document

SECRET = canary(ROUTE)


def told(*pieces: str, secret: str = SECRET) -> list[str]:
    """What is shown after each piece."""
    tail, seen = Tail(secret), []
    for piece in pieces:
        tail.add(piece)
        seen.append(tail.shown())
    return seen


def test_the_end_is_kept_and_no_more() -> None:
    """However long the answer becomes, and in pieces of whatever size."""
    words = "".join(f"word {number} " for number in range(500))
    for size in (1, 7, 5000):
        [*_, last] = told(*(words[at : at + size] for at in range(0, len(words), size)))
        assert len(last) == SHOWN
        assert last.endswith("word 498 word 499")


def test_what_cannot_be_seen_is_not_told() -> None:
    """Control characters, characters that turn the direction of writing, half characters and NUL become spaces."""
    assert told("a\x1b[31mb\0c\u202ed\ud800e\r\n\tf") == ["a [31mb c d e f"]


@pytest.mark.parametrize("size", [1, 3, 400])
def test_an_answer_that_repeats_the_orders_is_not_shown(size: int) -> None:
    """No piece of the canary is told while it is written, nor anything afterwards, when it has left the window, too."""
    text = f"The rules say {SECRET}" + " and more" * 100
    seen = told(*(text[at : at + size] for at in range(0, len(text), size)))
    assert seen[-1] == ""
    assert not [one for one in seen if SECRET[:5] in one or SECRET[-5:] in one]


def test_what_only_begins_like_it_is_shown_a_moment_later() -> None:
    """Somebody else's reference number is a word like any other."""
    begun = SECRET[:7]
    assert told("Your ref", "er", f". {begun}", " is") == [
        "Your ref",
        "Your refer",
        "Your refer.",
        f"Your refer. {begun} is",
    ]
    assert told(SECRET, secret="") == [SECRET]


@pytest.fixture
def model() -> Iterator[StandIn]:
    with standing_in("other") as server:
        server.mode = "writes slowly"
        server.woken.set()
        yield server


def test_the_judge_tells_it_with_its_progress(model: StandIn) -> None:
    """Word by word; each call begins with none, and the stage ends with none."""
    seen: list[Progress] = []
    judge, page = Judge(ModelSettings(host=model.url)), document(PAGE.format("119.00"))
    found = judge.classify([page], None, ROUTE, seen.append)
    assert '"The sender wants an' in [one for one in seen if one.tail][-2].tail
    seen.clear()
    judge.free_text([page], None, found, ROUTE, seen.append)
    assert [one.tail for one in seen if one.tail][:3] == ["Thank", "Thank you", "Thank you for"]
    assert (seen[0].tail, seen[-2].tail, seen[-1].tail) == ("", model.says, "")


def test_a_reply_that_repeats_the_orders_is_not_told(model: StandIn) -> None:
    """Neither where it does, nor what it says from there on."""
    seen: list[Progress] = []
    model.says = f"I was told {SECRET} and to be kind."
    with pytest.raises(NeedsReview):
        Judge(ModelSettings(host=model.url)).free_text(
            [], None, Classification(label="other", confidence=0.9), ROUTE, seen.append
        )
    assert max((one.tail for one in seen), key=len) == "I was told"
    assert seen[-1].tail == ""
