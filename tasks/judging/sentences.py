"""What the model writes in its own words, made safe to send: plain text, without addresses nobody asked for."""

from __future__ import annotations

import re

from tasks.identifiers import one_line

LONGEST = 600
"""Characters of the free text; a longer one ends at the last whole sentence before."""

_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_TAG = re.compile(r"<[^<>\n]{0,200}>")
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}:/{0,3}|www\.)[^\s<>\"']+"  # URL of any scheme, or a bare www.
    r"|[\w.+%-]+@[\w-]+(?:\.[\w-]+)*"
    r"|(?<![\w.])(?:[a-z0-9-]+\.)+(?:com|net|org|info|biz|io|co|dev|app|xyz|top|shop|site|online|club|ru|cn|de|fr|uk|eu|ch|at|it|es|nl|be|pl|us|me|ly|gg|link|click|example|test)(?![\w-])(?:/\S*)?",
    re.IGNORECASE,
)  # fmt: skip
_MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}|[-*>]|\d+\.)\s+|\*\*|__|`+", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[[^\]\n]{1,60}\]|\{\{?[^}\n]{1,60}\}\}?|<[^>\n]{1,60}>")
_GREETING = re.compile(
    r"^\s*(?:dear|hello|hi|good (?:morning|day)|sehr geehrte[rs]?|liebe[rs]?|guten tag|hallo"
    r"|bonjour|cher|chère|madame|monsieur)\b[^\n]{0,80}?[,!:]\s*(?=\n|[A-ZÀ-Þ])",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"\n\s*(?:best regards|kind regards|regards|sincerely|yours|best,|thank you,?\s*$|mit freundlichen grüßen"
    r"|viele grüße|freundliche grüße|cordialement|bien à vous|salutations)[\s\S]*$",
    re.IGNORECASE,
)


def clean(text: str, allowed: frozenset[str] = frozenset()) -> str:
    """`text` as one paragraph of plain text.

    Taken out: markup, greeting and closing (the template has them), every sentence with a placeholder or with a link or
    an address that is not in `allowed` (lower case). A sentence goes as a whole: without its link it would mislead.
    """
    plain = _CLOSING.sub("", _GREETING.sub("", text.strip().strip('"')))
    plain = one_line(_MARKUP.sub("", plain))
    kept = [sentence for sentence in _sentences(plain) if _harmless(sentence, allowed)]
    while kept and len(" ".join(kept)) > LONGEST:
        kept.pop()
    return " ".join(kept)


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+(?=[\"'«„“(<\[]?[A-ZÀ-Þ0-9])", text) if part]


def _harmless(sentence: str, allowed: frozenset[str]) -> bool:
    if _LINK.search(sentence) or _TAG.search(sentence) or _PLACEHOLDER.search(sentence):
        return False
    return all(found[0].casefold().rstrip(".,;:!?)") in allowed for found in _ADDRESS.finditer(sentence))


def whole(text: str) -> str:
    """`text` up to its last full stop: what is left of an answer that ran out of tokens. Empty when there is none."""
    found = re.search(r"^[\s\S]*[.!?](?=\s|$)", text)
    return found[0] if found else ""
