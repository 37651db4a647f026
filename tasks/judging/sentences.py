"""What the model writes in its own words, made safe to send: plain text, without addresses nobody asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from tasks.identifiers import one_line
from tasks.links import LINK, NOTHING, Allowed, strange

LONGEST = 600
"""Characters of the free text; a longer one ends at the last whole sentence before."""

ALIKE = 0.8
"""Similarity (0 to 1) from which one sentence repeats another: "We are unhappy" is theirs to say, not ours."""

LEAST_COPIED, COPIED = 5, 7
"""Words in a row from which a sentence counts as copied from a document: three fifths of it, within these bounds."""

_WORD = re.compile(r"\w+")
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'«„“<]?[A-ZÀ-Þ0-9])")
_SHORT = re.compile(
    r"\b(?:[^\W\d_]|in[kc]l|ex[kc]l|zzgl|bzw|ca|evtl|ggf|vgl|usw|etc|nr|no|st|str|ust|mwst|dr|hr|fr|mr|mrs|ms|mme|sra?"
    r"|inc|ltd|co|corp|approx|art|env|réf|ref|núm|tel|tél)\.$",
    re.IGNORECASE,
)
"""Abbreviations that a sentence seldom ends with."""
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_TAG = re.compile(r"<[^<>\n]{0,200}>")
_MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}|[-*>]|\d+\.)\s+|\*\*|__|`+", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[[^\]\n]{1,60}\]|\{\{?[^}\n]{1,60}\}\}?|<[^>\n]{1,60}>")
_GREETING = re.compile(
    r"^\s*(?:dear|hello|hi|good (?:morning|day)|sehr geehrte[rs]?|liebe[rs]?|guten tag|hallo"
    r"|bonjour|cher|chère|madame|monsieur)\b[^\n]{0,80}?[,!:]\s*(?=\n|[A-ZÀ-Þ])",
    re.IGNORECASE,
)
_COMMITS = re.compile(
    r"\b(?:(?-i:I)|i'm|i've|i'll|me|my|mine|will|we'll|shall|promise\w*|guarantee\w*|going to|refund\w*|compensat\w*|please"
    r"|ich|mir|mich|meine?[mnrs]?|werden|wird|verspr\w+|garantier\w+|erstatt\w+|zahlen|überweis\w+|bitte"
    r"|je|j'ai|mon|mes|allons|ferons|promett\w+|garanti\w+|rembours\w+|veuillez)\b",
    re.IGNORECASE,
)
"""Words of somebody who promises or decides, or who speaks for one person: an office's receipt has none of them."""
_NUMBER = re.compile(r"\d")
_CLOSING = re.compile(
    r"\n\s*(?:best regards|kind regards|regards|sincerely|yours|best,|thank you,?\s*$|mit freundlichen grüßen"
    r"|viele grüße|freundliche grüße|cordialement|bien à vous|salutations)[\s\S]*$",
    re.IGNORECASE,
)


def clean(text: str, allowed: Allowed = NOTHING, heard: str = "", theirs: Iterable[str] = ()) -> str:
    """`text` as one paragraph of plain text.

    Taken out: markup, greeting and closing (the template has them), and every sentence with a placeholder, with a link
    or an address that is not `allowed`, with a number (the template lists what was read, with its evidence), words that
    promise or ask, that only repeats one of `heard`, what the other side says, or that is copied from `theirs`, the
    documents: what somebody else wrote is not sent in our name. A sentence goes as a whole: without its link it would
    mislead.
    """
    plain = _CLOSING.sub("", _GREETING.sub("", text.strip().strip('"')))
    plain = one_line(_MARKUP.sub("", plain))
    said = [sentence.casefold() for sentence in _sentences(one_line(heard))]
    kept = [one for one in _sentences(plain) if _harmless(one, allowed) and not _repeats(one.casefold(), said)]
    if kept:
        documents = [_words(document) for document in theirs]
        kept = [one for one in kept if not any(_copied(one, document) for document in documents)]
    while kept and len(" ".join(kept)) > LONGEST:
        kept.pop()
    return " ".join(kept)


def _sentences(text: str) -> list[str]:
    """Ends are not taken behind an abbreviation nor before brackets: "inkl. USt. (Brutto) ist da" is one."""
    parts: list[str] = []
    for part in _END.split(text):
        if parts and _SHORT.search(parts[-1]):
            parts[-1] += f" {part}"
        elif part:
            parts.append(part)
    return parts


def _harmless(sentence: str, allowed: Allowed) -> bool:
    if _LINK.search(sentence) or _TAG.search(sentence) or _PLACEHOLDER.search(sentence):
        return False
    if _COMMITS.search(sentence) or _NUMBER.search(LINK.sub("", sentence)):
        return False
    return not strange(sentence, allowed)


def _repeats(sentence: str, theirs: list[str]) -> bool:
    return any(SequenceMatcher(None, sentence, other).ratio() > ALIKE for other in theirs)


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _copied(sentence: str, document: str) -> bool:
    """Whether most of a sentence, or COPIED of its words in a row, stand in a document; both as `_words` makes them."""
    words = _words(sentence).split()
    run = min(len(words), max(LEAST_COPIED, min(COPIED, -(-len(words) * 3 // 5))))
    runs = (words[start : start + run] for start in range(len(words) - run + 1))
    return bool(words) and any(f" {' '.join(one)} " in document for one in runs)


def whole(text: str) -> str:
    """`text` up to its last full stop: what is left of an answer that ran out of tokens. Empty when there is none."""
    found = re.search(r"^[\s\S]*[.!?](?=\s|$)", text)
    return found[0] if found else ""
