"""Which language a text is in, by a vote of its most frequent small words."""

from __future__ import annotations

import re
from collections import Counter

_WORDS = {
    "en": "the and of to in is for that this with you your are be on have not from we our will please it as at or by",
    "de": "der die das und ist nicht mit den für von ein eine zu auf dem des wir sie ich auch bei oder wird werden "
    "sind im am als nach bitte ihre ihr uns zum zur",
    "fr": "le la les et des est une un pour dans que qui sur nous vous votre avec par pas ce au aux du sont notre être "
    "ou de cette",
    "es": "el la los las y de que en un una para con por no es su se del al como más sus este esta está",
    "it": "il la di che e un una per con non sono del della dei le gli lo nel alla questo più si è da come vostra "
    "nostro delle",
    "nl": "de het een en van in is dat niet op te voor met zijn aan er om ook bij uw wij ons wordt deze als naar door "
    "heeft onze",
    "pt": "o a os as de que e do da em um uma para com não por mais se no na dos das ao sua seu foi são você está pelo",
    "pl": "i w na z do nie że się jest to dla od po przez oraz za jak ale lub są tego który być czy pan faktura proszę",
}
_STOP = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_TOKEN = re.compile(r"[^\W\d_]+")
_SAMPLE = 20_000
_FEWEST = 4


def language_of(text: str) -> str:
    """ISO 639-1 code of en, de, fr, es, it, nl, pt or pl; empty when too few words speak or two languages are close.

    A word shared by several languages counts as a part for each, so that `de` alone decides nothing.
    """
    counts = Counter(word.lower() for word in _TOKEN.findall(text[:_SAMPLE]))
    votes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for word, count in counts.items():
        speakers = [language for language, stop in _STOP.items() if word in stop]
        for language in speakers:
            votes[language] += min(count, 50) * 60 // len(speakers)
            hits[language] += 1
    ranked = votes.most_common(2)
    if not ranked or hits[ranked[0][0]] < _FEWEST:
        return ""
    if len(ranked) > 1 and ranked[1][1] * 4 > ranked[0][1] * 3:
        return ""
    return ranked[0][0]
