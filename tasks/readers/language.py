"""Which language a text is in, by a vote of the small words of sentences and of the words that stand on business papers."""

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
_PAPERS = {
    "en": "invoice order delivery number amount quantity street customer dear regards thanks thank",
    "de": "rechnung bestellung lieferung lieferschein datum straße betrag menge stück summe anzahl kunde firma grüßen herr "
    "frau danke",
    "fr": "facture commande livraison rue numéro montant quantité client cordialement madame monsieur bonjour merci objet",
    "es": "factura pedido albarán fecha número cantidad importe cliente calle avenida saludos gracias señor señora para "
    "estimado estimada",
    "it": "fattura ordine consegna data numero importo quantità cliente via gentile saluti grazie",
    "nl": "factuur bestelling levering datum nummer bedrag aantal straat klant geachte groeten",
    "pt": "fatura encomenda entrega data número quantidade valor cliente rua obrigado obrigada para",
    "pl": "zamówienie dostawa numer kwota ilość ulica klient pani dziękuję pozdrawiam",
}
"""A form has hardly a sentence: its captions tell."""
_KNOWN = {language: frozenset(f"{words} {_PAPERS[language]}".split()) for language, words in _WORDS.items()}
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
        speakers = [language for language, known in _KNOWN.items() if word in known]
        for language in speakers:
            votes[language] += min(count, 50) * 60 // len(speakers)
            hits[language] += 1
    ranked = votes.most_common(2)
    if not ranked or hits[ranked[0][0]] < _FEWEST:
        return ""
    if len(ranked) > 1 and ranked[1][1] * 4 > ranked[0][1] * 3:
        return ""
    return ranked[0][0]
