"""The report's pictures as SVG, made here: no script draws them, and each says in words what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tasks.judging.calibration import Seen

_CELL, _NAMES, _TOP = 52, 110, 96
_SVG = Markup('<svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">{}</svg>')
_SQUARE = Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}" fill-opacity="{:.2f}"><title>{}</title></rect>')
_TEXT = Markup('<text x="{}" y="{}" text-anchor="{}"{}>{}</text>')
_LINE = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>')
_SIDE, _EDGE = 300, 40
NOTHING = "(none)"


def confusion(counted: Mapping[tuple[str, str], int]) -> Markup:
    """The confusion matrix: a row for each right label, a column for each that was told, darker for more."""
    rows = sorted({right for right, _ in counted})
    columns = [*rows, *sorted({told for _, told in counted} - set(rows))]
    most = max(counted.values(), default=1)
    parts = [_text(_NAMES + _CELL * len(columns) / 2, 14, "told", "middle")]
    for at, told in enumerate(columns):
        x = _NAMES + at * _CELL + _CELL / 2
        parts.append(_text(x, _TOP - 8, told or NOTHING, "start", f' transform="rotate(-40 {x:.0f} {_TOP - 8})"'))
    for down, right in enumerate(rows):
        y = _TOP + down * _CELL
        parts.append(_text(_NAMES - 8, y + _CELL / 2 + 4, right, "end"))
        for at, told in enumerate(columns):
            parts += _cell(_NAMES + at * _CELL, y, counted.get((right, told), 0), most, right, told)
    wrong = sum(number for (right, told), number in counted.items() if right != told)
    width, height = _NAMES + len(columns) * _CELL + 60, _TOP + len(rows) * _CELL + 4
    title = f"Confusion matrix: {sum(counted.values()) - wrong} right and {wrong} wrong of {len(rows)} labels"
    return _SVG.format(width, height, width, title, Markup("").join(parts))


def _cell(x: float, y: float, number: int, most: int, right: str, told: str) -> list[Markup]:
    kind = "right" if right == told else "wrong"
    words = f"{number} of {right} told as {told or NOTHING}"
    square = _SQUARE.format(
        x + 1, y + 1, _CELL - 2, _CELL - 2, kind if number else "empty", 0.25 + 0.75 * number / most, words
    )
    return [square, _text(x + _CELL / 2, y + _CELL / 2 + 5, str(number), "middle")] if number else [square]


def reliability(seen: Sequence[Seen], bins: int = 10) -> Markup:
    """Told confidence (across) against the share that was right (up); on the line, a confidence means what it says."""
    groups: dict[int, list[Seen]] = {}
    for pair in seen:
        groups.setdefault(min(int(pair[0] * bins), bins - 1), []).append(pair)
    bottom = _EDGE + _SIDE
    parts = [
        _LINE.format(_EDGE, bottom, bottom, bottom, "axis"),
        _LINE.format(_EDGE, bottom, _EDGE, _EDGE, "axis"),
        _LINE.format(_EDGE, bottom, bottom, _EDGE, "ideal"),
    ]
    for share in (0, 0.5, 1):
        parts.append(_text(_EDGE + share * _SIDE, bottom + 16, f"{share:g}", "middle"))
        parts.append(_text(_EDGE - 6, bottom - share * _SIDE + 4, f"{share:g}", "end"))
    most = max(map(len, groups.values()), default=1)
    for at, group in sorted(groups.items()):
        right = sum(was_right for _, was_right in group) / len(group)
        told = sum(told for told, _ in group) / len(group)
        words = f"{len(group)} answers told with {told:.2f} on average: {right:.2f} right"
        height = max(right * _SIDE, 1)
        width = _SIDE / bins - 2
        parts.append(_SQUARE.format(
            f"{_EDGE + at * _SIDE / bins + 1:.1f}", f"{bottom - height:.1f}", f"{width:.1f}", f"{height:.1f}",
            "right", 0.25 + 0.75 * len(group) / most, words,
        ))  # fmt: skip
    parts.append(_text(_EDGE + _SIDE / 2, bottom + 34, "told confidence", "middle"))
    parts.append(_text(_EDGE, _EDGE - 10, "share right", "middle"))
    size = bottom + _EDGE
    return _SVG.format(size, size, size, f"Reliability of {len(seen)} answers", Markup("").join(parts))


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> Markup:
    short = text if len(text) <= 20 else f"{text[:19]}\N{HORIZONTAL ELLIPSIS}"
    return _TEXT.format(f"{x:.1f}", f"{y:.1f}", anchor, Markup(more), short)  # noqa: S704 - `more` is a number of ours
