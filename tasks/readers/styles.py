"""What a browser would not show of an HTML element: the part of CSS that hides words, computed from the root down.

Known are style attributes, the old attributes for colours and sizes, and style sheets with selectors of elements,
classes and ids, joined by spaces or `>` (CSS 2.1 section 6.4, without specificity: the later rule wins, `!important`
first). Where a sheet holds what is not understood here, the page's own background counts as unknown, so that words are
rather kept than lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

Colour = tuple[int, int, int]
Declared = Mapping[str, str]

WHITE: Colour = (255, 255, 255)
SMALLEST = 2.0
"""Pixels of a font below which nobody reads it."""
ALIKE = 12
"""Difference of each of two colours' parts (0 to 255) up to which words in one on the other are not seen."""
MOST_RULES = 2_000
MOST_STYLED = 100_000
"""Rules of all style sheets that are looked at, and elements that they may style."""

_AT_SEEN = re.compile(r"@media\s+(?:all|screen|only\s+screen)\s*\{((?:[^{}]*\{[^{}]*\})*)[^{}]*\}", re.I)
_AT_BLOCK = re.compile(r"@[a-z-]+[^{};]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}|@[a-z-]+[^{};]*;", re.I)
_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_RULE = re.compile(r"([^{}]{1,300})\{([^{}]{0,4000})\}")
_SELECTOR = re.compile(r"(?:[\w-]+|\*)?(?:[.#][\w-]+)*(?:(?:\s*>\s*|\s+)(?:[\w-]+|\*)?(?:[.#][\w-]+)*){0,3}")
_WANTED = frozenset(
    {
        "display", "visibility", "opacity", "font-size", "font", "color", "background", "background-color",
        "background-image", "position", "left", "top", "right", "bottom", "text-indent", "margin-left", "margin-top",
        "height", "width", "max-height", "max-width", "overflow", "overflow-x", "overflow-y", "clip", "clip-path",
        "transform", "mso-hide",
    }
)  # fmt: skip
_LENGTH = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(px|pt|em|rem|%|ex|ch|vw|vh|in|cm|mm)?$")
_PIXELS = {
    "": 1.0, "px": 1.0, "pt": 4 / 3, "in": 96.0, "cm": 37.8, "mm": 3.78, "ex": 8.0, "ch": 8.0, "rem": 16.0, "vw": 10.0,
    "vh": 8.0,
}  # fmt: skip
_FUNCTION = re.compile(r"^rgba?\(([^)]*)\)$")
_NAMES: dict[str, Colour] = {
    "white": WHITE, "black": (0, 0, 0), "snow": (255, 250, 250), "ghostwhite": (248, 248, 255), "ivory": (255, 255, 240),
    "whitesmoke": (245, 245, 245), "floralwhite": (255, 250, 240), "azure": (240, 255, 255), "mintcream": (245, 255, 250),
    "red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "gray": (128, 128, 128),
    "grey": (128, 128, 128), "silver": (192, 192, 192), "navy": (0, 0, 128), "orange": (255, 165, 0),
    "lightgray": (211, 211, 211), "lightgrey": (211, 211, 211), "darkgray": (169, 169, 169), "maroon": (128, 0, 0),
    "purple": (128, 0, 128), "teal": (0, 128, 128), "lime": (0, 255, 0), "aqua": (0, 255, 255), "olive": (128, 128, 0),
}  # fmt: skip
_FAR = 900.0
"""Pixels to the left of or above the page from which something is moved out of sight."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the words directly within an element look: what it inherits."""

    colour: Colour | None = (0, 0, 0)
    """None: cannot be told."""
    ground: Colour | None = WHITE
    """Of what lies behind it; None: a picture, or cannot be told."""
    size: float = 16.0
    """Pixels."""
    seen: bool = True
    """By `visibility`."""
    clear: bool = False
    """The colour is transparent."""

    def shows(self) -> bool:
        """Whether words can be read."""
        if not self.seen or self.clear or self.size < SMALLEST:
            return False
        if self.colour is None or self.ground is None:
            return True
        return any(abs(one - other) > ALIKE for one, other in zip(self.colour, self.ground, strict=True))


class Sheets:
    """The style sheets of one page."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self._styled: dict[int, dict[str, str]] = {}
        self._is_whole = True
        """Whether all that could colour a background was understood."""
        room = MOST_STYLED
        for number, (selector, declared) in enumerate(self._rules(tree)):
            wanted = _parsed(declared)
            if not wanted:
                continue
            if number >= MOST_RULES or room <= 0 or not _SELECTOR.fullmatch(selector):
                self._is_whole = self._is_whole and not _colours(wanted)
                continue
            try:
                found = tree.css(selector)
            except (SelectolaxError, ValueError):
                self._is_whole = False
                continue
            room -= len(found)
            for node in found:
                _merge(self._styled.setdefault(node.mem_id, {}), wanted)

    def root(self) -> Look:
        """How words look where nothing is said."""
        return Look(ground=WHITE if self._is_whole else None)

    def look(self, node: LexborNode, attributes: Mapping[str, str | None], outer: Look) -> Look | None:
        """How the words in `node` look, in an element that looks like `outer`; None when nothing in it is shown."""
        declared = dict(self._styled.get(node.mem_id, {})) if self._styled else {}
        style = attributes.get("style")
        if not declared and not attributes:
            return outer
        if "hidden" in attributes:
            return None
        if style:
            _merge(declared, _parsed(style))
        declared = {**_of_attributes(attributes), **declared}
        if not declared:
            return outer
        return None if _is_gone(declared) else _inner(declared, outer)

    def _rules(self, tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
        for style in tree.css("style"):
            sheet = _COMMENT.sub("", style.text()[:200_000]).replace("<!--", "").replace("-->", "")
            outside = _AT_BLOCK.sub("", _AT_SEEN.sub(lambda found: found[1], sheet))
            self._is_whole = self._is_whole and "@import" not in sheet
            for selectors, declared in _RULE.findall(outside):
                for one in selectors.split(","):
                    yield " ".join(one.split()), declared


@lru_cache(maxsize=512)
def _parsed(style: str) -> Declared:
    """The declarations in `style` that can hide words, the later ones and `!important` winning."""
    found: dict[str, str] = {}
    for part in _COMMENT.sub("", style)[:8_000].split(";"):
        name, colon, value = part.partition(":")
        name = name.strip().lower()
        if colon and name in _WANTED:
            _merge(found, {name: " ".join(value.lower().split())})
    return found


def _merge(into: dict[str, str], more: Declared) -> None:
    for name, value in more.items():
        if "!important" in value or "!important" not in into.get(name, ""):
            into[name] = value


def _of_attributes(attributes: Mapping[str, str | None]) -> dict[str, str]:
    """What HTML's own attributes say (HTML Living Standard, section 15.3), as declarations."""
    found = {}
    for attribute, name in (("bgcolor", "background-color"), ("color", "color"), ("text", "color")):
        if value := attributes.get(attribute):
            found[name] = (
                value.lower() if value.startswith("#") or not re.fullmatch(r"[0-9a-fA-F]{6}", value) else f"#{value}"
            )
    if attributes.get("background"):
        found["background-image"] = "url"
    return found


def _value(declared: Declared, name: str) -> str:
    return declared.get(name, "").replace("!important", "").strip()


def _is_gone(declared: Declared) -> bool:
    """Whether nothing within the element can be seen, whatever is said below it."""
    if _value(declared, "display") == "none" or _value(declared, "mso-hide") == "all":
        return True
    opacity = _number(_value(declared, "opacity"))
    if opacity is not None and opacity < 0.05:
        return True
    if re.search(r"scale\(\s*0(?:\.0*)?\s*[,)]|translate[xy]?\(\s*-\d{4,}", _value(declared, "transform")):
        return True
    if re.search(r"inset\(\s*(?:50|100)%|circle\(\s*0", _value(declared, "clip-path")):
        return True
    placed = _value(declared, "position") in ("absolute", "fixed")
    if placed and re.search(
        r"rect\(\s*[01](?:px)?[,\s]+[01](?:px)?[,\s]+[01](?:px)?[,\s]+[01](?:px)?\s*\)", _value(declared, "clip")
    ):
        return True
    away = ("left", "top", "right", "bottom") if placed or _value(declared, "position") == "relative" else ()
    if any(
        (_pixels(_value(declared, name)) or 0) <= -_FAR for name in (*away, "text-indent", "margin-left", "margin-top")
    ):
        return True
    return _is_shut(declared)


def _is_shut(declared: Declared) -> bool:
    """A box without room that cuts off what is in it."""
    cuts = any(_value(declared, name) in ("hidden", "clip") for name in ("overflow", "overflow-x", "overflow-y"))
    sides = (_pixels(_value(declared, name)) for name in ("height", "width", "max-height", "max-width"))
    return cuts and any(side is not None and side <= 1 for side in sides)


def _inner(declared: Declared, outer: Look) -> Look:
    look = outer
    if visibility := _value(declared, "visibility"):
        look = replace(look, seen=visibility not in ("hidden", "collapse") if visibility != "inherit" else outer.seen)
    if size := _value(declared, "font-size") or _value(declared, "font"):
        look = replace(look, size=_font_size(size, outer.size))
    if (colour := _value(declared, "color")) and colour != "inherit":
        look = replace(look, clear=_is_clear(colour), colour=_colour(colour))
    return replace(look, ground=_ground(declared, look.ground))


def _ground(declared: Declared, outer: Colour | None) -> Colour | None:
    if "background-image" in declared and _value(declared, "background-image") != "none":
        return None
    ground = outer
    for name in ("background", "background-color"):
        value = _value(declared, name)
        if not value or value in ("none", "transparent", "inherit", "initial", "unset") or _is_clear(value):
            continue
        if "url(" in value or "gradient" in value:
            return None
        found = [one for word in re.findall(r"rgba?\([^)]*\)|[^\s]+", value) if (one := _colour(word))]
        ground = found[0] if found else None
    return ground


def _colours(declared: Declared) -> bool:
    return any(name.startswith("background") for name in declared)


def _colour(value: str) -> Colour | None:
    """A colour by name, as `#rgb`, `#rrggbb` or `rgb()`; None for what is not known or is half transparent."""
    if value.startswith("#"):
        digits = value[1:]
        if len(digits) in (3, 4):
            digits = "".join(one * 2 for one in digits)
        if not re.fullmatch(r"[0-9a-f]{6}(?:ff)?", digits):
            return None
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    if found := _FUNCTION.match(value):
        parts = [_number(one) for one in re.split(r"[,\s/]+", found[1].strip())]
        if len(parts) < 3 or "%" in found[1] or (len(parts) > 3 and (parts[3] or 0) < 0.95):
            return None
        red, green, blue = (min(255, max(0, int(one or 0))) for one in parts[:3])
        return red, green, blue
    return _NAMES.get(value)


def _is_clear(value: str) -> bool:
    if value == "transparent" or re.fullmatch(r"#(?:[0-9a-f]{3}0|[0-9a-f]{6}0[0-9a-f])", value):
        return True
    found = re.fullmatch(r"(?:rgba?|hsla?)\([^)]*[,/]\s*([\d.]+)(%?)\s*\)", value)
    return bool(found) and value.count(",") != 2 and (_number(found[1]) or 0) < (5 if found[2] else 0.05)  # type: ignore[index]


def _font_size(value: str, outer: float) -> float:
    for word in value.partition("/")[0].split():
        if found := _LENGTH.match(word):
            number, unit = float(found[1]), found[2] or ""
            if unit in ("em", "%"):
                return outer * number / (100 if unit == "%" else 1)
            if unit or number == 0 or len(value.split()) == 1:
                return number * _PIXELS[unit]
    return (
        max(outer, 10.0)
        if value in ("small", "medium", "large", "x-small", "x-large", "xx-large", "xx-small", "initial")
        else outer
    )


def _pixels(value: str) -> float | None:
    found = _LENGTH.match(value)
    if not found or found[2] == "%":
        return None
    return float(found[1]) * _PIXELS.get(found[2] or "", 16.0)


def _number(value: str) -> float | None:
    found = _LENGTH.match(value)
    return float(found[1]) / (100 if found[2] == "%" else 1) if found else None
