"""In which order a long text is shown to the model: the pages first on which the fields seem to stand.

Nobody waits an hour for the 200 pages of one document on a small machine, and nobody wants a page unread on a large
one. So all pages are put in an order, packed into as few prompts as hold them, and asked until there are no more or
[model] document_time is over: a slow machine has read the pages that matter, a fast one everything.

A page promises a field when it has words of the field's name and description on a line, rare words more than common
ones, and something of the field's type near by. Each field's best pages come in turns, after the first and the last.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

from config.routes import FieldSpec
from tasks.evidence import SMALL_WORDS
from tasks.judging.budget import estimate, split
from tasks.judging.session import FRAME, SMALLEST_ROOM
from tasks.prompts import Part

UNIT = 900
"""Estimated tokens of a piece of text that has no pages."""
BEST = 12
"""Pages of each field that come before all others."""
TYPED = 2.0
"""How many times more a line with words of the field counts when it also has something of the field's type."""
STEM = 6
"""Letters of a word that are compared."""
RARE_TYPE = 3.0
"""What an IBAN, an address or a number with check digits counts, beside words of its field or not."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_ANYTHING = re.compile("")
_SIGNS: dict[str, re.Pattern[str]] = {
    "decimal": re.compile(r"\d[.,]\d{2}(?!\d)"),
    "date": re.compile(
        r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}\.? ?[^\W\d_]{3,9}\.? ,?\d{4}|[^\W\d_]{3,9} \d{1,2},? \d{4}"
    ),
    "currency": re.compile(r"[€$£]|\b(?:EUR|USD|GBP|CHF)\b"),
    "integer": re.compile(r"\d"),
    "email": re.compile(r"\w@\w"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){3}"),
    "vat_id": re.compile(r"\b[A-Z]{2,3}[ -]?[A-Z\d]{0,2}\d{6,}"),
    "phone": re.compile(r"\+?\d[\d ()/.-]{7,}\d"),
}
_RARE = frozenset({"email", "iban", "vat_id", "phone"})


@dataclass(frozen=True)
class Page:
    """A page, or a piece of a text without pages, of one part."""

    part: int
    """Index of the part."""
    name: str
    number: int
    """1-based page, or piece where there are no pages."""
    text: str

    @cached_property
    def tokens(self) -> int:
        """Estimated, with the lines around it."""
        return estimate(self.text) + estimate(self.name) + FRAME

    @cached_property
    def lines(self) -> list[tuple[str, frozenset[str]]]:
        """Each line with the stems of its words and of those before it: a caption may stand above its value."""
        found: list[tuple[str, frozenset[str]]] = []
        above: frozenset[str] = frozenset()
        for line in filter(str.strip, self.text.splitlines()):
            stems = _stems(line)
            found.append((line, stems | above))
            above = stems
        return found


Portion = tuple[Page, ...]


def plan(parts: Sequence[Part], specs: Mapping[str, FieldSpec], room: int) -> list[Portion]:
    """All text of `parts` as portions of at most `room` estimated tokens; the most promising pages are in the first."""
    pages = list(_pages(parts))
    ordered = smaller([tuple(pages[index] for index in _order(pages, specs))], room)
    return [tuple(sorted(one, key=lambda page: (page.part, page.number))) for one in ordered]


def smaller(portions: Sequence[Portion], room: int) -> list[Portion]:
    """The same text in the same order, in portions of at most `room` tokens."""
    packed: list[list[Page]] = [[]]
    left = room
    for page in (page for portion in portions for page in portion):
        for text in split(page.text, max(SMALLEST_ROOM // 2, room - FRAME - 40)):
            piece = replace(page, text=text)
            if packed[-1] and piece.tokens > left:
                packed.append([])
                left = room
            packed[-1].append(piece)
            left -= piece.tokens
    return [tuple(one) for one in packed if one]


def shown_as(portion: Portion, parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts that a prompt shows for `portion`: pages that follow each other stand together."""
    runs: list[list[Page]] = []
    for page in portion:
        if runs and runs[-1][-1].part == page.part and page.number - runs[-1][-1].number <= 1:
            runs[-1].append(page)
        else:
            runs.append([page])
    return tuple(Part(_named(run, parts), "".join(page.text for page in run).strip("\f\n ")) for run in runs)


def told(pages: Sequence[Page], parts: Sequence[Part]) -> str:
    """Which `pages` of which parts, in words: `report.pdf pages 1-3, 98`."""
    found = []
    for index in sorted({page.part for page in pages}):
        numbers = sorted({page.number for page in pages if page.part == index})
        found.append(f"{parts[index].name} {_unit(parts[index], len(numbers))} {_spans(numbers)}")
    return "; ".join(found)


def _unit(part: Part, count: int) -> str:
    return ("page" if "\f" in part.text else "piece") + "s" * (count > 1)


def _spans(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _named(run: Sequence[Page], parts: Sequence[Part]) -> str:
    part = parts[run[0].part]
    numbers = sorted({page.number for page in run})
    return f"{part.name}, {_unit(part, len(numbers))} {_spans(numbers)}"


def _pages(parts: Sequence[Part]) -> Iterator[Page]:
    for index, part in enumerate(parts):
        texts = re.split(r"(?<=\f)", part.text) if "\f" in part.text else split(part.text, UNIT)
        yield from (Page(index, part.name, number, text) for number, text in enumerate(texts, 1) if text.strip())


def _order(pages: Sequence[Page], specs: Mapping[str, FieldSpec]) -> list[int]:
    """First and last page of each part, then the best pages of each field in turns, then the rest as it stands."""
    firsts = {page.part: index for index, page in reversed(list(enumerate(pages)))}
    lasts = {page.part: index for index, page in enumerate(pages)}
    ends = [end[part] for part in sorted(firsts)[:BEST] for end in (firsts, lasts)]
    turns = zip_longest(*(_best(scores) for scores in _scores(pages, specs)))
    best = [index for turn in turns for index in turn if index is not None]
    return list(dict.fromkeys([*ends, *best, *range(len(pages))]))


def _best(scores: Sequence[float]) -> list[int]:
    """Indexes of the pages with the highest scores, the best first, earlier ones first among equals."""
    promising = [index for index, score in enumerate(scores) if score > 0]
    return sorted(promising, key=lambda index: (-scores[index], index))[:BEST]


def _scores(pages: Sequence[Page], specs: Mapping[str, FieldSpec]) -> Iterator[list[float]]:
    """For each field, what each page promises."""
    spread = Counter(stem for page in pages for stem in frozenset().union(*(stems for _, stems in page.lines)))
    for name, spec in specs.items():
        weights = {
            stem: math.log((len(pages) + 1) / (spread[stem] + 1))
            for stem in _stems(f"{name} {spec.description}") - _SMALL
            if spread[stem]
        }
        sign = _SIGNS.get(spec.type, _ANYTHING)
        yield [
            max((_promise(line, stems, weights, sign, spec.type) for line, stems in page.lines), default=0)
            for page in pages
        ]


def _promise(line: str, stems: frozenset[str], weights: Mapping[str, float], sign: re.Pattern[str], kind: str) -> float:
    words = sum(weights[stem] for stem in weights.keys() & stems)
    if kind in _RARE:
        return words + RARE_TYPE * bool(sign.search(line))
    return words * (TYPED if words and sign.search(line) else 1)


def _stems(text: str) -> frozenset[str]:
    """The first letters of its words: `contracts`, `contractual` and `contrat` are nearly one."""
    return frozenset(word[:STEM] for word in _WORD.findall(text.casefold()))


_SMALL = _stems(" ".join(SMALL_WORDS))
