"""Prose in columns, read column by column. Rows of tables, which look much the same, stay rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_GAP = re.compile(r" {2,}(?=\S)")
_FEWEST_PAIRS = 6
"""Lines with prose on both sides of the gutter: fewer are two addresses side by side, or a table."""
_LEAST_PROSE = 20
"""Characters of a line of a column."""
_LEAST_WORDS = 3
_LEAST_GOING_ON = 0.4
"""Share of a column's lines that begin in small letters: prose goes on from line to line, and cells do not."""
_LONGEST = 1_000
"""Characters of a line: no page that people read is wider."""
_SWAY = 1
"""Characters by which a column's left edge may differ from line to line, since letters are not all of one width."""


def ordered(lines: Sequence[str], most: int = 6) -> list[str]:
    """The lines of a page laid out with spaces, at most `most` columns of prose one after the other; others as they are."""
    edge = _edge(lines) if most > 1 else 0
    if not edge:
        return list(lines)
    out: list[str] = []
    left: list[str] = []
    right: list[str] = []
    for line in lines:
        parted = _parted(line, edge)
        if parted is None:  # it reaches over the gutter: a heading, below which the columns begin anew
            out += [*left, *ordered(right, most - 1), line]
            left, right = [], []
            continue
        first, second = parted
        left += [first] if first.strip() or not second.strip() else []
        right += [second] if second.strip() or not first.strip() else []
    return [*out, *left, *ordered(right, most - 1)]


def _edge(lines: Sequence[str]) -> int:
    """Where the second column of prose begins; 0 when there is none."""
    pairs: dict[int, list[tuple[str, str]]] = {}
    for line in lines:
        if len(line) > _LONGEST:
            continue
        gap = _GAP.search(line.rstrip(), len(line) - len(line.lstrip()))
        if gap and _is_prose(line[: gap.start()]) and _is_prose(line[gap.end() :]):
            pairs.setdefault(gap.end(), []).append((line[: gap.start()], line[gap.end() :]))
    if not pairs:
        return 0
    counts = Counter({edge: sum(len(pairs.get(edge + by, ())) for by in range(-_SWAY, _SWAY + 1)) for edge in pairs})
    edge, count = counts.most_common(1)[0]
    near = [pair for by in range(-_SWAY, _SWAY + 1) for pair in pairs.get(edge + by, ())]
    goes_on = all(_going_on(side) >= _LEAST_GOING_ON for side in zip(*near, strict=True))
    return edge if count >= _FEWEST_PAIRS and goes_on else 0


def _is_prose(part: str) -> bool:
    first = _GAP.split(part.strip(), 1)[0]
    return len(first) >= _LEAST_PROSE and len(first.split()) >= _LEAST_WORDS


def _going_on(parts: Sequence[str]) -> float:
    return sum(part.lstrip()[:1].islower() for part in parts) / len(parts)


def _parted(line: str, edge: int) -> tuple[str, str] | None:
    """What stands on the two sides of the gutter before `edge`; None when something stands in it."""
    if len(line.rstrip()) <= edge - _SWAY:
        return line, ""
    for place in (edge, edge - _SWAY, edge + _SWAY):
        if not line[place - 2 : place].strip() and line[place - 2 : place]:
            return line[:place], line[place:]
    return None
