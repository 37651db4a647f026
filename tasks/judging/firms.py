"""Names of firms are given whole: a weak model drops the legal form that the document writes behind the name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.identifiers import one_line

_FORM = (
    r"GmbH(?:\s*&\s*Co\.?\s*KGa?A?)?|AG|KG|KGaA|OHG|UG(?:\s*\(haftungsbeschränkt\))?|e\.\s?K\.|eG|SE"
    r"|Ltd\b\.?|Limited|LLC|LLP|Inc\b\.?|Corp\b\.?|Corporation|PLC|plc"
    r"|SARL|S\.A\.R\.L\.|SAS|S\.A\.S\.|SA|S\.A\.|EURL|S\.r\.l\.|Srl|S\.p\.A\.|SpA|B\.V\.|BV|N\.V\.|NV|AB|Oy|ApS|A/S"
)
_ENDS = re.compile(rf"(?<!\w)(?:{_FORM})$")


def whole_name(name: str, texts: Iterable[str]) -> str:
    """`name` with the legal form that stands behind it on the same line in one of `texts`; else as it is."""
    words = name.split()
    if not words or not words[-1][-1:].isalpha() or _ENDS.search(name):
        return name
    pattern = re.compile(rf"(?<!\w){'[ ]+'.join(map(re.escape, words))},?[ ](?:{_FORM})(?!\w)")
    found = next((match for text in texts if (match := pattern.search(text))), None)
    return one_line(found[0]) if found else name
