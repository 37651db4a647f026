"""Text that speaks to a model instead of to people: found by a few rules that can be read and explained.

A strong sign tells by itself: "ignore all previous instructions", a chat template's marks, a request for the system
prompt. Of weak ones, which people write too ("answer only with yes"), two different ones must stand close together.
The rules know English, German, French, Spanish, Italian, Portuguese, Dutch and Polish. They are a tripwire and no proof: what
they miss is held by what the model cannot do (docs/security.md).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from tasks.orders import RULES
from tasks.triggers import Scanner, Text

CLOSE = 400
"""Characters within which two weak signs belong together."""
LONGEST = 120
"""Characters of a quote."""
MOST = 20
"""Signs of one text that are looked at further."""


class Finding(NamedTuple):
    """One place that reads like orders to a model."""

    rule: str
    """What it does, in words: finishes "the text ..."."""
    quote: str
    """Its words on one line."""
    at: int
    """Offset in the text."""


_SCANNER = Scanner(chain for rule in RULES for chain in rule.chains)


def search(text: str) -> list[Finding]:
    """Places in `text` that read like orders to a model, in their order; at most MOST."""
    folded = _folded(text)
    places = _SCANNER.places(folded)
    strong: list[tuple[int, str]] = []
    weak: list[tuple[int, str]] = []
    for rule in RULES:
        begins = sorted({at for chain in rule.chains for at in chain.begins(folded.lower, places)})
        if rule.strong:
            strong += [(at, rule.says) for at in begins[:MOST]]
        else:
            weak += [(at, rule.says) for at in begins]
    first: dict[int, str] = {}
    for at, says in sorted([*strong, *islice(_pairs(sorted(weak)), MOST)]):
        first.setdefault(at, says)
    return [Finding(says, _quote(text, at), at) for at, says in first.items()][:MOST]


def telling(hidden: str) -> str:
    """What of hidden text reads like orders to a model, to be put behind a note's own words; empty when nothing does."""
    found = search(hidden)
    return f', among them "{found[0].quote}"' if found else ""


def _pairs(weak: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The first of two different weak signs that stand close together."""
    other = len(weak)
    found = []
    for number in range(len(weak) - 2, -1, -1):
        if weak[number][1] != weak[number + 1][1]:
            other = number + 1
        if other < len(weak) and weak[other][0] - weak[number][0] <= CLOSE:
            found.append((weak[number][0], f"{weak[number][1]} and {weak[other][1]}"))
    return reversed(found)


def _quote(text: str, at: int) -> str:
    """The words from `at` on, on one line; from the line's start when that is near."""
    begin = max(text.rfind("\n", 0, at), text.rfind("\f", 0, at), -1) + 1
    begin = begin if at - begin <= LONGEST // 3 else at
    words = " ".join(text[begin : begin + 2 * LONGEST].split())
    return words if len(words) <= LONGEST else words[:LONGEST].rstrip() + "\u2026"


def _folded(text: str) -> Text:
    """`text` with as many characters, letters that look like Latin ones made so: `ｉｇｎｏｒｅ`, `ignоre` with a Cyrillic o."""
    cased = text if text.isascii() else text.translate(_Folds())
    return Text(cased, cased.lower())


class _Folds(dict[int, int]):
    """A table for str.translate that fills itself: one character for one, so that offsets hold."""

    def __missing__(self, code: int) -> int:
        plain = unicodedata.normalize("NFKC", chr(code))
        bare = unicodedata.normalize("NFKD", plain) if len(plain) == 1 else ""
        without = bare[:1] if all(map(unicodedata.combining, bare[1:])) else plain
        self[code] = _TWINS.get(code) or (ord(without) if len(without) == 1 and len(without.lower()) == 1 else code)
        return self[code]


_TWINS = str.maketrans(
    "аеорсухіјѕԁһӏАЕОРСУХІЈЅВМНКТοανρικΑΒΕΖΗΙΚΜΝΟΡΤΧ", "aeopcyxijsdhlAEOPCYXIJSBMHKToavpikABEZHIKMNOPTX"
)
