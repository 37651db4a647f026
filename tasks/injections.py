"""Text that speaks to a model instead of to people: found by a few rules that can be read and explained.

A strong sign tells by itself: "ignore all previous instructions", a chat template's marks, a request for the system
prompt. Of weak ones, which people write too ("answer only with yes"), two different ones must stand close together.
The rules know English, German, French, Spanish, Italian, Portuguese, Dutch and Polish. They are a tripwire and no proof: what
they miss is held by what the model cannot do (docs/security.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

CLOSE = 400
"""Characters within which two weak signs belong together."""
LONGEST = 120
"""Characters of a quote."""
MOST = 20
"""Signs of one text that are looked at further."""


class Finding(NamedTuple):
    """One place that reads like orders to a model."""

    rule: str
    """What it does, in words: finishes "the text ..."."""
    quote: str
    """Its words on one line."""
    at: int
    """Offset in the text."""


class _Rule(NamedTuple):
    says: str
    pattern: re.Pattern[str]
    strong: bool


_GAP = r"[^.!?;\f]{0,50}?"
_ORDERS = (
    r"instructions?|prompts?|rules|directives?|guidelines|commands|orders|programming"
    r"|anweisung\w*|instruktion\w*|regeln|vorgaben|befehle?n?|anordnung\w*"
    r"|consignes?|directives?|r[eè]gles|ordres"
    r"|instrucci[oó]n\w*|[oó]rdenes|reglas|indicaciones|istruzion[ei]|regole|ordini|instru[cç](?:[oõ]es|[aã]o)|regras|ordens"
    r"|instructies|opdrachten|regels|instrukcj\w*|polece\w*|zasad\w*"
)
_EARLIER = (
    r"previous|prior|earlier|above|preceding|foregoing|former|original|initial|all|any|every|your|system"
    r"|vorherig\w*|vorig\w*|bisherig\w*|obig\w*|fr[uü]her\w*|vorangegangen\w*|vorstehend\w*|alle[nr]?|s[aä]mtliche\w*|deine\w*|ihre"
    r"|pr[eé]c[eé]dent\w*|ant[eé]rieur\w*|ci-dessus|toutes|tous|tes|vos"
    r"|anterior\w*|previ[ao]s?|todas|todos|tus|sus|precedent\w*|tutte|tutti|tue|tuas|suas"
    r"|vorige|eerdere|bovenstaande|poprzedni\w*|wcze[sś]niejsz\w*|wszystki\w*"
)
_FORGET = (
    r"ignor(?:e[sz]?|ed|ing|iere?[nt]?|ier|a|ad|ate|ar|are|uj|ujcie)|disregard|forget|override|overrule|bypass|do not follow"
    r"|stop following|missachte[nt]?|vergi(?:ss|ß)|vergesst|vergessen sie|[uü]bergehe?[nt]?|verwirf|verwerfen sie"
    r"|oublie[sz]?|n[eé]gligez?|ne (?:tenez|tiens) (?:pas|aucun) compte|fai(?:s|tes) abstraction|ne (?:suis|suivez) pas"
    r"|olvid[ae]\w*|omit[ae]|descart[ae]|haz caso omiso|hagan? caso omiso|dimentic\w+|trascur\w+"
    r"|esque[cç]a\w*|desconsider\w+|negeer|vergeet|zignoruj\w*|zapomnij\w*|pomi[nń]"
)
_MACHINE = (
    r"(?:an?\s|eine?\s|the\s|den\s|die\s|das\s|une?\s|l['’]|la\s|el\s|il\s|o\s|een\s)?"
    r"(?:(?:(?-i:AI|KI|IA)|artificial\sintelligence|k[uü]nstliche\sintelligenz|intelligence\sartificielle"
    r"|inteligencia\sartificial)\b(?:[ -](?:assistants?|models?|agents?|systems?|bots?|assistent\w*|modell\w*|system\w*))?"
    r"|(?-i:LLMs?|GPT\S*)|(?:large\s)?language\smodels?|sprachmodell\w*|mod[eè]les?\s(?:de\slangage|linguistique)"
    r"|modelos?\sde\s(?:lenguaje|linguagem)|modello\slinguistico|taalmodel|model\sj[eę]zykowy|chat\s?bots?|chatgpt)"
)
_LABEL = (
    r"(?:classif\w+|label|categori[sz]e|klassifizier\w*|kategorisier\w*|etikettier\w*|einstuf\w*|stufe"
    r"|[eé]tiquet\w+|cat[eé]goris\w+|clasif\w+|etiquet\w+|classific\w+)"
)


def _strong(says: str, *patterns: str) -> _Rule:
    return _Rule(says, re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE), strong=True)


def _weak(says: str, *patterns: str) -> _Rule:
    return _Rule(says, re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE), strong=False)


RULES = (
    _strong(
        "tells a model to forget its orders",
        rf"\b(?:{_FORGET})\b{_GAP}\b(?:{_EARLIER})\b{_GAP}\b(?:{_ORDERS})\b",
        rf"\b(?:{_FORGET})\b{_GAP}\b(?:{_ORDERS})\b{_GAP}\b(?:{_EARLIER})\b",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all(?:\s+that)?)\s+(?:above|before|you\s+(?:were|have\s+been)\s+told)\b",
        r"\bvergi(?:ss|ß)\s+alles\b|\boublie[sz]?\s+tout\s+ce\b|\bolvida\s+todo\b|\bdimentica\s+tutto\b",
    ),
    _strong(
        "has marks of a chat template",
        r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|<(?:begin|end)▁of▁sentence>",
        r"^[ \t]*#{2,}[ \t]*(?:system|instructions?|assistant|response|new instructions?)[ \t]*(?:prompt|message)?[ \t]*:?[ \t]*$",
        r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|developer)[\"']",
        r"</?(?:system|assistant|system_prompt|system-prompt|user_input|untrusted\w*)>",
        r"\[/?(?:system|assistant|system message|system prompt)\]",
        r"(?<!-)-{2,}\s*(?:begin|end|start)\s+(?:of\s+)?(?:system|prompt|user\s+input|untrusted|document|data|instructions?)\b[^\n]{0,30}-{2,}",
    ),
    _strong(
        "speaks as the system or the assistant of a chat",
        r"^[ \t]*(?:system|assistant|developer)(?:[ \t]+(?:prompt|message|override|note))?[ \t]*:[^\n]{0,60}"
        r"\b(?:you|your|ignore|answer|classify|label|must|always|never|du|sie|ihr|vous|tu|usted|sure|understood|instructions?)\b",
        r"\b(?:system|admin(?:istrator)?|developer)[ -](?:override|prompt|mode)\s*[:\-]",
        r"\b(?:enter|enable|activate|switch\s+to)\s+(?:developer|debug|god|jailbreak|dan|maintenance)\s+mode\b",
    ),
    _strong(
        "asks for the model's orders",
        rf"\b(?:reveal|print|show|repeat|output|display|reproduce|leak|disclose|recite|tell|give|write|dump|quote|include|send)\b{_GAP}\b(?:system|hidden|initial|secret|original|internal)\s+(?:prompt|instructions?|message|orders)\b",
        r"\b(?:reveal|print|repeat|output|display|reproduce|leak|disclose|recite|dump)\s+(?:\w+\s+){0,3}(?:your|the)\s+(?:\w+\s+)?(?:prompt|instructions)\b",
        rf"\b(?:gib|geben\s+sie|zeige?|zeigen\s+sie|nenne[n]?|wiederhole[n]?|verrate[n]?|drucke[n]?)\b{_GAP}\b(?:system-?\s?prompt\w*|systemanweisung\w*|deine\s+(?:\w+\s+)?anweisungen|ihre\s+(?:internen|geheimen|urspr[uü]nglichen)\s+anweisungen)\b",
        rf"\b(?:r[eé]v[eè]le\w*|affiche\w*|montre\w*|r[eé]p[eè]te\w*|imprime\w*|donne\w*)\b{_GAP}\b(?:prompt\s+syst[eè]me|instructions\s+(?:syst[eè]me|initiales|secr[eè]tes|internes)|tes\s+instructions|vos\s+instructions\s+(?:internes|initiales))\b",
        rf"\b(?:revel[ae]\w*|muestr\w+|repit\w+|imprim\w+|mostr[ae]\w*|ripet\w+|rivel\w+)\b{_GAP}\b(?:prompt\s+(?:del|do|de|di)\s+sistema|prompt\s+de\s+sistema|instrucciones\s+(?:internas|iniciales|secretas|del\s+sistema)|tus\s+instrucciones|istruzioni\s+(?:di\s+sistema|interne)|instru[cç][oõ]es\s+(?:internas|do\s+sistema))\b",
        r"\brepeat\s+(?:everything|all|the\s+(?:text|words))\s+(?:above|before)\b",
    ),
    _strong(
        "gives a model another part to play",
        rf"\b(?:you\s+are|du\s+bist|sie\s+sind|tu\s+es|vous\s+[eê]tes|eres|usted\s+es|sei|voc[eê]\s+[eé]|jeste[sś]|je\s+bent|act\s+as|pretend\s+to\s+be)\s+(?:now\s+|jetzt\s+|ab\s+jetzt\s+|nun\s+|nur\s+|maintenant\s+|d[eé]sormais\s+|ahora\s+|adesso\s+|ora\s+|agora\s+|nu\s+|teraz\s+|just\s+)?{_MACHINE}(?!\w)",
        r"\b(?:you\s+are\s+(?:now|no\s+longer)|from\s+now\s+on,?\s+you\s+(?:are|will|must|answer|obey))\b[^.!?\n]{0,60}\b(?:assistant|bot|model|filter|restrict\w+|rules|unrestricted|DAN|obey|classifier)\b",
    ),
    _strong(
        "turns to the model that reads it",
        rf"\b(?:instructions?|note|notice|message|attention|reminder|orders?|hinweis|anweisung(?:en)?|nachricht|mitteilung|achtung|message|avis|remarque|nota|aviso|mensaje|instrucci[oó]n(?:es)?|nota|avviso|messaggio|istruzion[ei]|aten[cç][aã]o|mensagem|let\s+op|uwaga)\s*(?:to|for|an|f[uü]r|[aà](?:\s+l['’]attention\s+de)?|pour|para|per|voor|dla|do|de|:|,)\s*(?:any|all|every|jede[nsr]?|alle|toute|todo)?\s*{_MACHINE}(?!\w)",
        rf"\b(?:if|wenn|falls|si|se|als|je[sś]li)\s+(?:you\s+are|du|sie|tu\s+es|vous\s+[eê]tes|eres|usted\s+es|sei|voc[eê]\s+[eé]|je|jeste[sś])\s+{_MACHINE}(?!\w)",
        rf"^[ \t]*(?:dear|hey|hello|hi|hallo|liebe[rs]?|ch[eè]re?|hola|ciao|attention|achtung)[ ,]+{_MACHINE}[ \t]*[,:!]",
        r"\b(?:as\s+the|to\s+the|dear)\s+(?:model|assistant|classifier|bot|AI)\s+(?:that\s+reads|reading|processing|who\s+reads|that\s+processes)\b",
    ),
    _strong(
        "asks to decode orders and follow them",
        r"\b(?:decode|dekodier\w*|entschl[uü]ssel\w*|d[eé]cod\w+|decodific\w+)\b[^.!?]{0,80}\b(?:base64|rot13|hex)\b[^!?]{0,80}\b(?:follow|execute|obey|do\s+what|befolg\w*|ausf[uü]hr\w*|suis|suivez|ex[eé]cut\w+|sigue|ejecut\w+)\b",
    ),
    _weak(
        "dictates the answer",
        r"\b(?:answer|respond|reply|output|return|write|say|print)\s+(?:only|exactly|just|nothing\s+but|verbatim)\b"
        r"\s*(?:with|the\s+word|:|[\"'“{])",
        r"\b(?:only|just|simply)\s+(?:answer|respond|output|return)\b",
        r"\b(?:antworte[n]?|schreibe?[n]?|gib|geben)\s+(?:sie\s+)?(?:nur|ausschlie(?:ss|ß)lich|exakt|genau|einfach)\b",
        r"\b(?:r[eé]ponde?[sz]?|[eé]cri[sv]\w*)\s+(?:uniquement|seulement|exactement|juste)\b",
        r"\b(?:responde|conteste|contesta|escribe|escriba|rispond\w+|scriv\w+|responda|escreva)\s+(?:s[oó]lo|solamente|[uú]nicamente|exactamente|solo|soltanto|apenas|somente)\b",
        r"\bantwoord\s+(?:alleen|enkel)\b|\bodpowiedz\s+tylko\b",
        r"\b(?:your|the)\s+(?:answer|reply|response|summary|output)\s+(?:must|has\s+to|should|shall)\s+(?:be|say|begin|start|contain|include|end)\b",
        r"\b(?:deine|ihre|die)\s+(?:antwort|zusammenfassung|ausgabe)\s+(?:muss|soll)\b|\b(?:ta|votre|la)\s+r[eé]ponse\s+doit\b|\b(?:tu|su|la)\s+respuesta\s+debe\b",
    ),
    _weak(
        "names the label it wants",
        rf"\b{_LABEL}\b[^.!?\n]{{0,50}}\b(?:as|als|comme|como|come)\b",
        r"[\"']label[\"']\s*:",
    ),
    _weak(
        "tells which answer is right",
        r"\b(?:correct|right|only|true)\s+(?:label|category|classification)\b",
        r"\b(?:das|die)\s+(?:richtige|korrekte)\s+(?:label|kategorie|etikett)\b",
        r"\b(?:the\s+)?(?:label|category|etikett|kategorie|[eé]tiquette|cat[eé]gorie|etiqueta|categor[ií]a)\s+(?:is|must\s+be|should\s+be|ist|lautet|est|doit\s+[eê]tre|es|debe\s+ser|=)",
        r"\bconfidence\s*(?:of|is|=|:|to)?\s*(?:1(?:\.0+)?|100\s?%|0\.9\d*)",
    ),
    _weak(
        "wants it sent somewhere",
        r"\b(?:send|forward|copy|cc|bcc|e-?mail|upload|exfiltrate|leite[n]?|sende[n]?|schicke?[n]?|envoie\w*|envoye[zr]"
        r"|transf[eè]re\w*|env[ií][ae]\w*|reenv[ií]\w+|inoltr\w+|invi[ao]\w*|stuur|wy[sś]lij)\b[^.!?\n]{0,60}"
        r"\b(?:repl(?:y|ies)|answers?|responses?|summar(?:y|ies)|result|output|contents?|conversation|customer|data|passwords?|everything|all"
        r"|antwort\w*|zusammenfassung|ergebnis|kundendaten|daten|alles|r[eé]ponse|r[eé]sum[eé]|donn[eé]es|tout|respuesta|resumen|datos|todo"
        r"|risposta|dati|tutto)\b[^.!?\n]{0,60}(?:[\w.+-]{1,64}@[\w-]{1,63}\.|https?:/?/?|www\.)",
        r"\b(?:set|change|replace)\b[^.!?\n]{0,30}\b(?:recipient|reply-to|bcc|cc|url|webhook|header|endpoint|iban)\b",
        r"\b(?:setze|[aä]ndere)\b[^.!?\n]{0,30}\b(?:empf[aä]nger|adresse|kopfzeile)\b",
    ),
    _weak(
        "claims to outrank what was said",
        r"\b(?:new|updated|real|actual|higher[- ]priority)\s+(?:instructions?|orders|task|objective|rules)\b",
        r"\bneue\s+(?:anweisung\w*|aufgabe)\b|\bnouvelles?\s+(?:consignes?|instructions?|t[aâ]che)\b|\bnuevas?\s+(?:instrucci\w+|tarea)\b|\bnuove\s+istruzioni\b",
        r"\b(?:end|ende|fin|fine)\s+(?:of|des|du|de|del)\s+(?:the\s+)?(?:document|dokuments?|e-?mail|message|data|input|nachricht|documento|mensaje)\b",
        r"\b(?:this|these)\s+(?:overrides?|supersedes?)\b|\bhighest\s+priority\b|\bdo\s+not\s+(?:tell|mention|reveal)\b",
    ),
)


def search(text: str) -> list[Finding]:
    """Places in `text` that read like orders to a model, in their order; at most MOST."""
    folded = _folded(text)
    strong: list[Finding] = []
    weak: list[Finding] = []
    for rule in RULES:
        for number, found in enumerate(rule.pattern.finditer(folded)):
            if number >= MOST:
                break
            (strong if rule.strong else weak).append(Finding(rule.says, _quote(text, found.start()), found.start()))
    together = sorted([*strong, *_pairs(weak)], key=lambda one: one.at)
    return list({one.at: one for one in reversed(together)}.values())[::-1][:MOST]


def telling(hidden: str) -> str:
    """What of hidden text reads like orders to a model, to be put behind a note's own words; empty when nothing does."""
    found = search(hidden)
    return f', among them "{found[0].quote}"' if found else ""


def _pairs(weak: Iterable[Finding]) -> Iterator[Finding]:
    """The first of two different weak signs that stand close together."""
    ordered = sorted(weak, key=lambda one: one.at)
    for number, one in enumerate(ordered):
        for other in ordered[number + 1 :]:
            if other.at - one.at > CLOSE:
                break
            if other.rule != one.rule:
                yield Finding(f"{one.rule} and {other.rule}", one.quote, one.at)
                break


def _quote(text: str, at: int) -> str:
    """The words from `at` on, on one line; from the line's start when that is near."""
    begin = max(text.rfind("\n", 0, at), text.rfind("\f", 0, at), -1) + 1
    begin = begin if at - begin <= LONGEST // 3 else at
    words = " ".join(text[begin : begin + 2 * LONGEST].split())
    return words if len(words) <= LONGEST else words[:LONGEST].rstrip() + "\u2026"


def _folded(text: str) -> str:
    """`text` with as many characters, letters that look like Latin ones made so: `ｉｇｎｏｒｅ`, `ignоre` with a Cyrillic o."""
    return text if text.isascii() else text.translate(_Folds())


class _Folds(dict[int, int]):
    """A table for str.translate that fills itself: one character for one, so that offsets hold."""

    def __missing__(self, code: int) -> int:
        plain = unicodedata.normalize("NFKC", chr(code))
        self[code] = _TWINS.get(code) or (ord(plain) if len(plain) == 1 else code)
        return self[code]


_TWINS = str.maketrans(
    "аеорсухіјѕԁһӏАЕОРСУХІЈЅВМНКТοανρικΑΒΕΖΗΙΚΜΝΟΡΤΧ", "aeopcyxijsdhlAEOPCYXIJSBMHKToavpikABEZHIKMNOPTX"
)
