"""Small charts as SVG, made here: no script draws them, and each bar says in words what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 560, 170
_LEFT, _BOTTOM, _TOP = 34, 22, 8
_ROW = 26
_RECT = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="bar{}"><title>{}</title></rect>')
_SVG = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')


@dataclass(frozen=True)
class Bar:
    """One place on the axis, with one number or two."""

    name: str
    """As it stands on the axis; empty: not written."""
    words: str
    """What the place is, for a pointer and for screen readers."""
    values: tuple[int, ...]


def columns(title: str, bars: Sequence[Bar], kinds: Sequence[str]) -> Markup:
    """Upright bars beside each other; `kinds` says what the first and the second number of each are."""
    top = nice(max((value for bar in bars for value in bar.values), default=0))
    step = (WIDTH - _LEFT) / max(len(bars), 1)
    parts = [_grid(top)]
    for at, bar in enumerate(bars):
        left, width = _LEFT + at * step, step * 0.8 / max(len(bar.values), 1)
        for number, value in enumerate(bar.values):
            height = (HEIGHT - _BOTTOM - _TOP) * value / top
            words = f"{bar.words}: {value} {kinds[number]}"
            parts.append(
                _rect(left + step * 0.1 + number * width, HEIGHT - _BOTTOM - height, width, height, number, words)
            )
        if bar.name:
            parts.append(_text(left + step / 2, HEIGHT - 6, bar.name, "middle"))
    total = ", ".join(f"{sum(bar.values[n] for bar in bars)} {kind}" for n, kind in enumerate(kinds))
    return _svg(f"{title}: {total}", HEIGHT, parts)


def rows(title: str, bars: Sequence[Bar]) -> Markup:
    """Lying bars below each other, each with its name and its number."""
    top = max((bar.values[0] for bar in bars), default=0) or 1
    parts = []
    for at, bar in enumerate(bars):
        y, width = at * _ROW + 4, (WIDTH - 200) * bar.values[0] / top
        parts.append(_text(132, y + 13, bar.name, "end"))
        parts.append(_rect(140, y, max(width, 1), _ROW - 8, 0, f"{bar.words}: {bar.values[0]}"))
        parts.append(_text(140 + width + 6, y + 13, str(bar.values[0]), "start"))
    told = ", ".join(f"{bar.words} {bar.values[0]}" for bar in bars)
    return _svg(f"{title}: {told}", len(bars) * _ROW + 4, parts)


def nice(number: int) -> int:
    """The end of an axis: the next of 1, 2, 4, 10, 20, 40, 100, ..."""
    power = 1
    while power * 10 < number:
        power *= 10
    return next(power * step for step in (1, 2, 4, 10) if power * step >= max(number, 1))


def _grid(top: int) -> Markup:
    parts = []
    for share in (0, 0.5, 1) if top > 1 else (0, 1):
        y = HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * share
        kind = "grid-line" if share else "base"
        parts.append(
            Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" class="{}"/>').format(_LEFT, WIDTH, y, y, kind)
        )
        parts.append(_text(_LEFT - 6, y + 4, f"{top * share:.0f}", "end"))
    return Markup("").join(parts)


def _rect(x: float, y: float, width: float, height: float, kind: int, words: str) -> Markup:
    return _RECT.format(x, y, width, height, " second" if kind else "", words)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    short = text if len(text) <= 18 else f"{text[:17]}\u2026"
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, short)


def _svg(label: str, height: int, parts: Sequence[Markup]) -> Markup:
    return _SVG.format(WIDTH, height, label, Markup("").join(parts))
