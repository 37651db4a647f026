"""Characters that nobody sees but a model reads: taken out of every text that comes in, and told.

Unicode's tag characters spell ASCII without a picture, variation selectors carry a byte each, bidirectional controls
show a line in another order than it is read, and zero-width characters part words that look whole.
"""

from __future__ import annotations

import re

FEW = 20
"""Zero-width characters that word processors, mail programs and newsletters leave behind; more are told."""

_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_BIDI = re.compile("[\u061c\u202a-\u202e\u2066-\u2069]")
_ZERO_WIDTH = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb]"
    "|(?<![\u0590-\U000e0fff])[\u200c\u200d]|[\u200c\u200d](?![\u0590-\U000e0fff])"
)
"""Zero-width (non-)joiners stay between letters of scripts that need them, and within emoji."""
_ALL = re.compile("|".join(one.pattern for one in (_TAGS, _SELECTORS, _BIDI, _ZERO_WIDTH)))


def without(text: str) -> str:
    """`text` without what nobody sees."""
    return text if text.isascii() else _ALL.sub("", text)


def cleaned(text: str) -> tuple[str, tuple[str, ...]]:
    """`text` without what nobody sees, and notes on what that was: what tag characters spell is told as a quotation."""
    if text.isascii():
        return text, ()
    notes = []
    if spelled := "".join(chr(ord(one) - 0xE0000) for run in _TAGS.findall(text) for one in run):
        words = "".join(one for one in spelled if one.isprintable())
        notes.append(f'{len(spelled)} tag characters that nobody sees were left out; they spell "{words[:200]}"')
    if selectors := sum(map(len, _SELECTORS.findall(text))):
        notes.append(f"{selectors} variation selectors in a row were left out")
    if turned := len(_BIDI.findall(text)):
        notes.append(f"{turned} characters that turn the direction of writing were left out")
    if (blank := len(_ZERO_WIDTH.findall(text))) > FEW:
        notes.append(f"{blank} zero-width characters were left out")
    return _ALL.sub("", text), tuple(notes)
