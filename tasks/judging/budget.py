"""How much text fits into one call: a careful estimate of tokens, splitting at borders, condensing for a first look.

No server counts tokens for its clients, so they are estimated, on the high side; every answer's `prompt_eval_count`
then proves or disproves the estimate (tasks/model.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

TEMPLATE_TOKENS = 16
"""What a chat template adds to each message, at most."""

_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d|\n\s*|[^\S\n]{2,}|\t|[^\s\w]|[^\W\d]|_|[^\S\n]")
_LEARNT = re.compile(
    "[\u00a0-\u017f\u0370-\u052f\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u2000-\u206f\u20a0-\u20bf\u3000-\u30ff"
    "\u4e00-\u9fff\uac00-\ud7af\uff00-\uffef]"
)
"""Scripts that every tokenizer has seen enough of to join bytes of a letter; of others each byte may be a token."""
_RULE = re.compile(r"([^\w\s])\1{3,}")
_GAP = re.compile(r"[^\S\n\t\f]{3,}")
_BLANK = re.compile(r"(?<![^\S\n\f])[^\S\n\f]*+\n(?:[^\S\f]*\n){2,}")
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0e-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
)


def tidy(text: str) -> str:
    """`text` without what only costs tokens: invisible characters, wide gaps, rulers, runs of empty lines."""
    return _BLANK.sub("\n\n", _GAP.sub("  ", _RULE.sub(r"\1\1\1", _INVISIBLE.sub("", text)))).strip()


def estimate(text: str) -> int:
    """Tokens of `text`, counted so that the tokenizers in use stay below it."""
    return sum(count * _cost(piece) for piece, count in Counter(_PIECE.findall(text)).items())


def _cost(piece: str) -> int:
    if piece == " ":
        return 0  # goes into the word's token
    if not piece.isascii():
        size = len(piece.encode("utf-8", "replace"))
        return max(1, size - 1) if _LEARNT.match(piece) else size
    if piece.isalpha():
        return -(-len(piece) // (2 if piece.isupper() else 3))
    return 1


def fewest(text: str) -> int:
    """Tokens that `text` cannot be below: no tokenizer in use joins words. A smaller count means that text was lost."""
    return max(len(text.split()) // 2, len(text) // 16)


def split(text: str, room: int) -> list[str]:
    """`text` in parts of at most `room` estimated tokens: broken at pages, else paragraphs, lines, words, anywhere."""
    return list(_pack(text, room, [r"(?<=\f)", r"(?<=\n\n)", r"(?<=\n)", r"(?<=\s)"]))


def _pack(text: str, room: int, borders: list[str]) -> Iterator[str]:
    if estimate(text) <= room:
        yield text
        return
    pieces = re.split(borders[0], text) if borders else [text[: len(text) // 2], text[len(text) // 2 :]]
    packed, size = "", 0
    for piece in pieces:
        cost = estimate(piece)
        if packed and size + cost > room:
            yield packed
            packed, size = "", 0
        if cost > room and len(piece) > 1:
            yield from _pack(piece, room, borders[1:])
        else:
            packed, size = packed + piece, size + cost
    if packed:
        yield packed


def condense(text: str, room: int) -> tuple[str, bool]:
    """The start and the end of `text` within `room` estimated tokens, and whether anything was left out."""
    if estimate(text) <= room:
        return text, False
    head = _within(text.splitlines(), room * 2 // 3, lambda line, rest: line[: rest * 3])
    tail = _within(text.splitlines()[::-1], room // 3, lambda line, rest: line[-rest * 3 :])
    return "\n".join([*head, "[...]", *reversed(tail)]), True


def _within(lines: list[str], room: int, cut: Callable[[str, int], str]) -> list[str]:
    taken: list[str] = []
    for line in lines:
        cost = estimate(line) + 1
        if cost > room:
            return taken if taken or room < 1 else [cut(line, room)]
        taken.append(line)
        room -= cost
    return taken
