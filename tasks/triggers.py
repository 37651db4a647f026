"""Words in a given order with little between them, found in any text in time that grows with its length alone.

A plain expression such as `forget.{0,50}all.{0,50}rules` tries each `forget` with each `all`: half a minute for 420 KB of
such words. Here every word is looked up once, and the chains are put together from the places found.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import NamedTuple

_STEM = 6
"""Letters at the beginning of a word that decide which expressions are tried on it."""


class Text(NamedTuple):
    """A text to be searched, twice: offsets are the same."""

    cased: str
    """Without accents and look-alikes."""
    lower: str


class Gap(NamedTuple):
    """What may stand between two words."""

    most: int
    """Characters."""
    stops: str
    """Characters that end it, as in a set of an expression."""


class Words:
    """An expression, whose alternatives each begin with a letter, for whole words in lower case.

    `(?-i:...)` in it means capital letters as written.

    Raises:
        ValueError: an alternative begins with something else.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.stems = frozenset(_stems(source))
        self._cased = "(?-i:" in source
        self._pattern = re.compile(rf"(?:{source})(?!\w)", re.IGNORECASE if self._cased else 0)

    def end(self, text: Text, at: int) -> int:
        """Where the words that begin at `at` end; -1 when others stand there."""
        found = self._pattern.match(text.cased if self._cased else text.lower, at)
        return found.end() if found else -1


class Marks:
    """An expression that may begin with anything. It has to be quick by itself on any text."""

    def __init__(self, source: str) -> None:
        self.pattern = re.compile(source, re.MULTILINE)


Span = tuple[int, int]
"""A place in a text: where it begins and ends."""
_at = itemgetter(0)

Part = Words | Marks
Places = dict[Part, list[Span]]


class Chain:
    """Words, a gap, words, and so on; the first of them is the place that is told."""

    def __init__(self, *links: str | Part | Gap) -> None:
        self.parts: list[Part] = [
            words(link) if isinstance(link, str) else link for link in links if not isinstance(link, Gap)
        ]
        self.gaps = [link for link in links if isinstance(link, Gap)]

    def begins(self, text: str, places: Places) -> Iterator[int]:
        """Where it begins in a text in lower case, of which the places of all parts are known.

        From its end to its beginning: of a part only those places are kept from which the rest can be reached, so that
        the nearest of them is the only one to look at.
        """
        good = places[self.parts[-1]]
        for part, gap in zip(reversed(self.parts[:-1]), reversed(self.gaps), strict=True):
            good = list(_leading(places[part], good, gap, text))
        return (at for at, _ in good)


def _leading(places: Sequence[Span], good: Sequence[Span], gap: Gap, text: str) -> Iterator[Span]:
    """Those of `places` behind which one of `good` follows."""
    stops = _stopping(gap.stops)
    for at, end in places:
        number = bisect_left(good, end, key=_at)
        if number < len(good) and good[number][0] - end <= gap.most and not stops.search(text, end, good[number][0]):
            yield at, end


class Scanner:
    """Finds the places of all parts of some chains in one go."""

    def __init__(self, chains: Iterable[Chain]) -> None:
        parts = {part for chain in chains for part in chain.parts}
        self._marks = [part for part in parts if isinstance(part, Marks)]
        self._by_stem: dict[str, list[Words]] = {}
        self._words = [part for part in parts if isinstance(part, Words)]
        stems = {stem for part in self._words for stem in part.stems}
        for stem in stems:
            self._by_stem[stem] = [part for part in self._words if any(map(stem.startswith, part.stems))]
        self._stem = re.compile(rf"\b(?:{_tree(stems)})")

    def places(self, text: Text) -> Places:
        """Where each part stands, in order."""
        found: Places = {part: [one.span() for one in part.pattern.finditer(text.lower)] for part in self._marks}
        found |= {part: [] for part in self._words}
        for hit in self._stem.finditer(text.lower):
            at = hit.start()
            for part in self._by_stem[hit[0]]:
                end = part.end(text, at)
                if end >= 0:
                    found[part].append((at, end))
        return found


@cache
def words(source: str) -> Words:
    """The same object for the same expression, so that it is looked up once for all chains that have it."""
    return Words(source)


@cache
def _stopping(stops: str) -> re.Pattern[str]:
    return re.compile(f"[{stops}]")


def _stems(source: str) -> Iterator[str]:
    for alternative in _alternatives(source):
        letters = re.match(r"[a-zß]*+[?*{]?", alternative)
        stem = letters[0] if letters else ""
        stem = stem[:-2] if stem.endswith(("?", "*", "{")) else stem
        if alternative.startswith("(?:"):
            yield from _stems(_group(alternative))
        elif stem:
            yield stem[:_STEM]
        else:
            raise ValueError(f"{alternative!r} does not begin with a letter that has to be there")


def _alternatives(source: str) -> Iterator[str]:
    """What stands between the `|` that are in no parentheses."""
    depth, begin = 0, 0
    for at, sign in enumerate(source):
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and not depth:
            yield source[begin:at]
            begin = at + 1
    yield source[begin:]


def _group(source: str) -> str:
    """The inside of the group that `source` begins with; a group that may be missing is not understood."""
    depth = 0
    for at, sign in enumerate(source):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            if source[at + 1 : at + 2] in ("?", "*", "{"):
                break
            return source[3:at]
    raise ValueError(f"{source!r} begins with a group that may be missing")


def _tree(stems: Iterable[str]) -> str:
    """An expression for the longest of some words that begins at a place, one letter after the other."""
    following: dict[str, list[str]] = {}
    for stem in sorted(stems):
        following.setdefault(stem[:1], []).append(stem[1:])
    ends = following.pop("", None)
    branches = "|".join(letter + _tree(rest) for letter, rest in following.items())
    if not branches:
        return ""
    return f"(?:{branches})?" if ends is not None else f"(?:{branches})"
