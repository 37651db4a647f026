"""tasks/triggers.py with the rules of tasks/orders.py: nothing is passed over, and no text makes it slow."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.injections import search
from tasks.judging import budget
from tasks.orders import RULES
from tasks.readers.sandbox.child import tidy
from tasks.triggers import Chain, Gap, Scanner, Text, Words

CHAINS = [chain for rule in RULES for chain in rule.chains]
PARTS = sorted(
    {part for chain in CHAINS for part in chain.parts if isinstance(part, Words)}, key=lambda one: one.source
)
SIZE = 12_000
"""Characters of the smaller text; the other has four times as many."""
TIMES = 10
"""How many times as long the larger may take: four, and some for a busy machine. A square would take 16 times."""
LEAST = 0.02
"""Seconds of processor time below which a measurement says nothing."""
REST = "\0"
"""In a piece: what comes before it stands once, and what comes after it fills the text."""


def _begun(chain: Chain, text: str) -> list[int]:
    lower = text.lower()
    return list(chain.begins(lower, Scanner([chain]).places(Text(text, lower))))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.source[:40])
def test_each_word_of_a_rule_is_looked_up(part: Words) -> None:
    """Whatever an expression matches begins with one of the stems by which its words are found."""

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.from_regex(re.compile(part.source), fullmatch=True))
    def begins_with_a_stem(words: str) -> None:
        assert words.startswith(tuple(part.stems))

    begins_with_a_stem()


def test_a_chain_wants_its_words_in_order_and_close() -> None:
    """Within the gap, with nothing in it that ends a sentence; each place once, words within longer words not at all."""
    chain = Chain("forget|do\\s+not", Gap(10, ".\n"), "all", Gap(10, "!"), "rules|orders")
    assert _begun(chain, "Forget all rules, forget all the. orders; do not follow all orders") == [0, 18, 42]
    assert _begun(chain, "forget. all rules, forget all! rules, all forget rules, forgetting all rules") == []
    assert _begun(chain, f"forget {'x' * 9} all rules, forget all {'x' * 9} rules, rules forget all") == []
    assert _begun(chain, "forget all all all orders") == [0]


@pytest.mark.parametrize("source", ["(?:the\\s+)?label", "a?nd", "\\w+", "one|[tT]wo"])
def test_a_rule_that_may_begin_with_anything_is_refused(source: str) -> None:
    """It would have to be tried on each word of a text."""
    with pytest.raises(ValueError, match="begin"):
        Words(source)


def _repetitions() -> Iterator[str]:
    """Pieces that the rules nearly want, again and again: words of each part, alone, in pairs and with blanks between."""
    heads = [re.sub(r"\\s[+*]+|\\s", " ", re.split(r"[|]", part.source)[0]) for part in PARTS]
    plain = [re.sub(r"[^a-z ]", "", head) for head in heads]
    yield from (f"{word} " for word in sorted(set(plain)))
    heads = [
        "note to",
        "note to all",
        "confidence",
        "## system",
        "## system prompt",
        "repeat a",
        "--- begin",
        "you are",
        "x",
    ]
    yield from (f"{word}{REST}{blank}" for word in heads for blank in (" ", "\t"))
    yield from (
        "ignore all ",
        "all ignore. rules ",
        "send data a@b ",
        "send all a@ ",
        "decode base64 ",
        "if you are ",
        "a",
    )
    yield from (
        "system: a ",
        "system:\n",
        "## \n",
        "- ",
        "<|a",
        "dear, ",
        "note:GPT",
        "answer only ",
        " \n",
        "#",
        "label: ",
    )


def test_no_repetition_takes_more_than_its_length() -> None:
    """Four times as much text takes about four times as long, for words of the rules as for blanks between them."""
    slow = [piece[:30] for piece in _repetitions() if not _in_proportion(piece)]
    assert not slow


def _in_proportion(piece: str) -> bool:
    small, large = (_filled(piece, size) for size in (SIZE, 4 * SIZE))
    took = _seconds(large)
    return took < LEAST * TIMES or any(_seconds(large) < TIMES * max(_seconds(small), LEAST) for _ in range(5))


def _filled(piece: str, size: int) -> str:
    once, _, again = piece.rpartition(REST)
    return once + again * (size // len(again)) + "x"


def _seconds(text: str) -> float:
    began = time.process_time()
    search(text)
    budget.tidy(tidy(text))
    return time.process_time() - began
