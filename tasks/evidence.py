"""Finds a value again in the text it was read from: the words, the document, the page and the line.

A value counts as found when the text holds it in any spelling that means the same: other spaces and line breaks, other
dashes and quotes, another way to write the date, the number or the currency, and for text the usual confusions of OCR
(O and 0, l and 1, S and 5, B and 8, rn and m). Nothing else counts: what a model made up is not found.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property

from tasks.identifiers import NotAValue, one_line, phones_in
from tasks.models import Document
from tasks.values import LONGEST, NUMBER, Hints, boolean, currencies_in, dates_in, parse_decimal, unaccented

QUOTE = 100
"""Characters of a quote; a longer line is cut at spaces around the value."""

SHORTEST_LOOSE = 5
"""Letters and digits of a value that is also searched without regard to spaces, punctuation and OCR confusions."""

PLACES = 5000
"""Places of one value in one document that are compared: where `1` stands more often, it is no evidence anyway."""

_INVISIBLE = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")
_ALIKE = dict.fromkeys("‐‑‒–—―−", "-") | dict.fromkeys("‘’‚‛′`´", "'") | dict.fromkeys("“”„‟″«»", '"') | {"…": "..."}
_RUN = re.compile(r"[!-_a-~]+|[\s\S]")
_PLAIN = frozenset(map(chr, range(0x21, 0x7F))) - {"`"}
"""What `_RUN` takes at once: ASCII that only becomes small."""
_CONFUSED = str.maketrans({"o": "0", "l": "1", "i": "1", "|": "1", "s": "5", "b": "8", "z": "2"})
_DIGITS = str.maketrans({"O": "0", "o": "0", "Q": "0", "l": "1", "I": "1", "|": "1", "S": "5", "B": "8", "Z": "2"})
_MISREAD = re.compile(r"(?<!\w)(?=[OoQlI|SBZ.,'’/-]{0,40}\d)[\dOoQlI|SBZ][\dOoQlI|SBZ.,'’/-]{3,40}(?!\w)")
"""A number or date in which OCR may have taken digits for letters: it has a digit, and nothing that looks like none."""
_AMOUNT = re.compile(
    r"(?<![\w.,/-])\d{1,3}(?:(?: ?[.,'’] ?| )\d{3}){0,4} ?[.,] ?\d{2}(?![\w/-])|(?<![\w.,/-])\d{4,}(?:[.,]\d{2})?(?![\w.,/-])"
)
"""A whole amount with cents, spaces around its marks allowed, or at least four digits: less is found by chance."""
_TIGHT = re.compile(r"(?:(?<![\w.,])|(?<=EUR)|(?<=USD)|(?<=GBP)|(?<=CHF))\(?[-−–]?\d[\d.,'’]*")
SMALL_WORDS = frozenset(
    {
        "the",
        "and",
        "for",
        "that",
        "with",
        "from",
        "this",
        "its",
        "has",
        "are",
        "not",
        "who",
        "what",
        "which",
        "when",
        "where",
    }
)

Span = tuple[int, int]


@dataclass(frozen=True)
class Evidence:
    """Where a value stands."""

    words: str
    """The value as the document writes it, on one line."""
    quote: str
    """The words with what stands around them on their line: an exact part of the text."""
    document: int | None
    """Ordinal of the document; None for the mail's subject."""
    page: int | None
    line: int | None
    """1-based; lines are counted within the page."""
    loose: bool
    """Only found by allowing for what OCR confuses."""
    score: int
    """How well it fits: an exact spelling and words of the field's description on the same line count."""
    beside: str = ""
    """The caption of another value that stands before it."""


class Source:
    """One text, prepared for searching. `hints` are how it writes dates and numbers."""

    def __init__(self, text: str, ordinal: int | None = None, language: str = "") -> None:
        self.ordinal = ordinal
        self.text = text
        self.hints = Hints.of(text, language)

    @classmethod
    def of(cls, document: Document) -> Source:
        """A document's whole text."""
        return cls(document.text, document.ordinal, document.language)

    @cached_property
    def folded(self) -> tuple[str, list[int]]:
        """The text in a spelling that ignores what doesn't matter, and where each of its characters comes from."""
        return _fold(self.text)

    @cached_property
    def squeezed(self) -> tuple[str, list[int]]:
        """Only letters and digits of `folded`."""
        return _squeeze(*self.folded)

    @cached_property
    def confused(self) -> tuple[str, list[int]]:
        """`squeezed`, with characters that OCR confuses made equal."""
        return _confuse(*self.squeezed)

    @cached_property
    def dates(self) -> list[tuple[str, Span]]:
        """Every date in it."""
        return dates_in(self.text, self.hints)

    @cached_property
    def numbers(self) -> dict[Decimal, list[Span]]:
        """Every number in it, with its places."""
        return _numbers(self.text, self.hints, NUMBER, _TIGHT)

    @cached_property
    def misread(self) -> str:
        """The text with what OCR makes of digits turned back, each character at its place."""
        return _MISREAD.sub(lambda match: match[0].translate(_DIGITS), self.text)

    @cached_property
    def misread_dates(self) -> list[tuple[str, Span]]:
        """Dates that show when digits are turned back."""
        return dates_in(self.misread, self.hints)

    @cached_property
    def misread_numbers(self) -> dict[Decimal, list[Span]]:
        """Numbers that show when digits are turned back and spaces around their marks are allowed."""
        return _numbers(self.misread, self.hints, _AMOUNT)

    @cached_property
    def _breaks(self) -> tuple[list[int], list[int]]:
        feeds = [i for i, c in enumerate(self.text) if c == "\f"]
        return feeds, [i for i, c in enumerate(self.text) if c in "\n\f"]

    def place(self, offset: int) -> tuple[int, int]:
        """Page and line of an offset, both from 1."""
        feeds, ends = self._breaks
        page = bisect_right(feeds, offset - 1)
        first = bisect_right(ends, feeds[page - 1]) if page else 0
        return page + 1, bisect_right(ends, offset - 1) - first + 1

    def line_around(self, span: Span) -> Span:
        """The whole line or lines that a span touches, without outer space."""
        _, ends = self._breaks
        before, after = bisect_right(ends, span[0] - 1), bisect_right(ends, span[1] - 1)
        start = ends[before - 1] + 1 if before else 0
        end = ends[after] if after < len(ends) else len(self.text)
        line = self.text[start:end]
        return start + len(line) - len(line.lstrip()), end - (len(line) - len(line.rstrip()))

    def quote(self, span: Span) -> str:
        """The words at `span` and what surrounds them on their line, cut at spaces to about QUOTE characters."""
        start, end = self.line_around(span)
        if end - start > QUOTE:
            room = max(0, QUOTE - (span[1] - span[0])) // 2
            start = max(start, self._next_space(span[0] - room, span[0]))
            end = min(end, self._last_space(span[1], span[1] + room))
        return self.text[start:end].strip()

    def _next_space(self, start: int, stop: int) -> int:
        found = re.search(r"\s", self.text[max(0, start) : stop])
        return max(0, start) + found.end() if found else stop

    def _last_space(self, start: int, stop: int) -> int:
        found = re.search(r"\s\S*$", self.text[start:stop])
        return start + found.start() if found else start


@dataclass(frozen=True)
class Captions:
    """What a route says about the words that stand before a value."""

    others: tuple[str, ...] = ()
    """Captions of other values."""
    own: tuple[str, ...] = ()
    """Captions of the value itself: they may hold one of another value, as "Net à payer" holds "Net"."""

    def foreign(self, source: Source, span: Span) -> str:
        """The one of `others` that stands between the value and the number, tab or line start before it; "" if none."""
        if not self.others:
            return ""
        before = source.text[source.line_around(span)[0] : span[0]]
        near = _bare(re.split(r"[\d\t|]", before)[-1][-LONGEST:])
        return "" if _first_in(self.own, near) else _first_in(self.others, near)


def _first_in(captions: Sequence[str], bare: str) -> str:
    return next((name for name in captions if _pattern(name).search(bare)), "")


@cache
def _pattern(caption: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(_bare(caption))}\b")


def _bare(text: str) -> str:
    """Folded, without accents: capitals are often written without."""
    return unaccented(_fold(text)[0])


def find(
    kind: str, value: str, raw: str, sources: Sequence[Source], about: str = "", captions: Captions = Captions()
) -> Evidence | None:
    """The best place where `value` (normal form, of type `kind`) stands in `sources`; None when it stands nowhere.

    `raw` is how the model wrote it, `about` the field's name and description: both only help to choose among places.
    A place beside a caption of another value counts only when there is no better.
    """
    wanted = frozenset(re.findall(r"[^\W\d_]{3,}", _fold(about)[0])) - SMALL_WORDS
    best: Evidence | None = None
    for source in sources:
        spans, loose = _spans(kind, value, raw, source, wanted)
        for span in spans[:PLACES]:
            evidence = _weigh(source, span, raw, wanted, loose, captions.foreign(source, span))
            if best is None or evidence.score > best.score:
                best = evidence
    return best


def _weigh(source: Source, span: Span, raw: str, wanted: frozenset[str], loose: bool, beside: str) -> Evidence:
    words = source.text[slice(*span)]
    line = _fold(source.text[slice(*source.line_around(span))][:LONGEST])[0]
    near = sum(word in line for word in wanted)
    score = near + 4 * (words == raw) + 5 * (source.ordinal is not None) - 10 * loose - 20 * bool(beside)
    page, number = source.place(span[0]) if source.ordinal is not None else (None, None)
    return Evidence(one_line(words), source.quote(span), source.ordinal, page, number, loose, score, beside)


def _spans(kind: str, value: str, raw: str, source: Source, about: frozenset[str]) -> tuple[list[Span], bool]:
    """All places of a value in one document, and whether they were only found loosely."""
    exact: dict[str, Callable[[], Iterable[Span]]] = {
        "date": lambda: (span for found, span in source.dates if found == value),
        "currency": lambda: (span for found, span in currencies_in(source.text) if found == value),
        "decimal": lambda: source.numbers.get(Decimal(value), ()),
        "integer": lambda: source.numbers.get(Decimal(value), ()),
        "boolean": lambda: _booleans(value, source, about),
        "iban": lambda: _search(_squeeze(*_fold(value))[0], source.squeezed),
        "vat_id": lambda: _search(_squeeze(*_fold(re.sub("^EL", "", value)))[0], source.squeezed),
        "phone": lambda: phones_in(source.text, value),
    }
    if kind in exact:
        found = list(exact[kind]())
        return (found, False) if found else (list(_misread(kind, value, source)), True)
    for wanted in dict.fromkeys((value, raw)):
        if found := _whole(_fold(wanted)[0].strip(), source.folded, source.text):
            return found, False
    squeezed = _squeeze(*_fold(value))[0]
    if len(squeezed) < SHORTEST_LOOSE:
        return [], False
    if found := _whole(squeezed, source.squeezed, source.text):
        return found, False
    found = _whole(_confuse(squeezed, [])[0], source.confused, source.text)
    bare = _bare(value)
    accented = [span for span in found if _bare(source.text[slice(*span)]) == bare]
    return (accented, False) if accented else (found, True)


def _misread(kind: str, value: str, source: Source) -> Iterable[Span]:
    """Places of a typed value that was recognised badly. IBANs and VAT numbers have check digits against chance."""
    if kind == "date":
        return (span for found, span in source.misread_dates if found == value)
    if kind in {"decimal", "integer"}:
        return source.misread_numbers.get(Decimal(value), ())
    if kind in {"iban", "vat_id"}:
        return _search(_confuse(_squeeze(*_fold(value))[0], [])[0], source.confused)
    return ()


def _numbers(text: str, hints: Hints, *patterns: re.Pattern[str]) -> dict[Decimal, list[Span]]:
    """Every number that one of `patterns` finds, with its places."""
    found: dict[Decimal, dict[Span, None]] = {}
    known: dict[str, Decimal | None] = {}
    for pattern in patterns:
        for match in pattern.finditer(text):
            end = match.end() + (text[match.end() : match.end() + 1] in {"-", "−"})
            written = text[match.start() : end]
            if written not in known:
                known[written] = _number(written, hints)
            if (value := known[written]) is not None:
                found.setdefault(value, {})[match.span()] = None
    return {value: list(places) for value, places in found.items()}


def _number(written: str, hints: Hints) -> Decimal | None:
    try:
        return Decimal(parse_decimal(re.sub(r" ?([.,]) ?", r"\1", written), hints))
    except NotAValue:
        return None


def _booleans(value: str, source: Source, about: frozenset[str]) -> Iterator[Span]:
    """A yes or no counts only on a line that speaks of the field."""
    for match in re.finditer(r"[^\W\d_]+", source.text):
        try:
            if boolean(match[0], source.hints) != value:
                continue
        except NotAValue:
            continue
        line = _fold(source.text[slice(*source.line_around(match.span()))])[0]
        if any(word in line for word in about):
            yield match.span()


def _search(wanted: str, folded: tuple[str, list[int]]) -> Iterator[Span]:
    """Places of `wanted` that don't cut a word or number of the text."""
    text, origin = folded
    start = text.find(wanted) if wanted else -1
    while start >= 0:
        end = start + len(wanted)
        if not (_joined(text, origin, start) or _joined(text, origin, end)):
            yield origin[start], origin[end - 1] + 1
        start = text.find(wanted, start + 1)


def _whole(wanted: str, folded: tuple[str, list[int]], text: str) -> list[Span]:
    """Places of `wanted` in `text`, but for digits that are a part of a longer number."""
    return [span for span in _search(wanted, folded) if not _in_a_number(text, span)]


def _in_a_number(text: str, span: Span) -> bool:
    """Whether bare digits are a part of a longer number, as the 1 in 1.000."""
    start, end = span
    if not text[start:end].isdigit():
        return False
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return bool(re.fullmatch(r"\d[.,]", before) or re.fullmatch(r"[.,]\d", after))


def _joined(text: str, origin: list[int], at: int) -> bool:
    """Whether the characters on both sides of `at` belong to one word (they touch in the original, too)."""
    if at in {0, len(text)} or origin[at] - origin[at - 1] > 1:
        return False
    return text[at - 1].isalnum() and text[at].isalnum()


@cache
def _folded(char: str) -> str:
    return _ALIKE.get(char) or unicodedata.normalize("NFKC", char).casefold()


def _fold(text: str) -> tuple[str, list[int]]:
    out: list[str] = []
    origin: list[int] = []
    for match in _RUN.finditer(text):
        index, char = match.start(), match[0]
        if char[0] in _PLAIN:
            out.extend(char.lower())
            origin.extend(range(index, match.end()))
            continue
        if char in _INVISIBLE or (
            char == "\n" and _hyphenated(text, index) and out and out.pop() and origin.pop() >= 0
        ):
            continue
        if char.isspace():
            if out and out[-1] == " ":
                continue
            folded = " "
        else:
            folded = _folded(char)
        out.extend(folded)
        origin.extend([index] * len(folded))
    return "".join(out), origin


def _hyphenated(text: str, newline: int) -> bool:
    """A word broken over two lines: letter, hyphen, line break, small letter."""
    return (
        newline > 1
        and text[newline - 1] == "-"
        and text[newline - 2].isalpha()
        and text[newline + 1 : newline + 2].islower()
    )


def _squeeze(text: str, origin: list[int]) -> tuple[str, list[int]]:
    kept = [i for i, char in enumerate(text) if char.isalnum()]
    return "".join(text[i] for i in kept), [origin[i] for i in kept] if origin else []


def _confuse(text: str, origin: list[int]) -> tuple[str, list[int]]:
    plain = "".join(unicodedata.normalize("NFD", char)[0] for char in text).translate(_CONFUSED)
    firsts = [i for i in range(len(plain)) if plain[i - 1 : i + 1] != "rn" or i == 0]
    joined = "".join("m" if plain[i : i + 2] == "rn" else plain[i] for i in firsts)
    return joined, [origin[i] for i in firsts] if origin else []
