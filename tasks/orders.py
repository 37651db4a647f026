"""The words that speak to a model, in English, German, French, Spanish, Italian, Portuguese, Dutch and Polish.

As text is searched in them: in lower case and without accents, `(?-i:AI)` but for capitals (`tasks/triggers.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from tasks.triggers import Chain, Gap, Marks

_ORDERS = (
    r"instructions?|prompts?|rules|directives?|guidelines|commands|orders|programming"
    r"|anweisung\w*|instruktion\w*|regeln|vorgaben|befehle?n?|anordnung\w*"
    r"|consignes?|regles|ordres"
    r"|instruccion\w*|ordenes|reglas|indicaciones|istruzion[ei]|regole|ordini|instruc(?:oes|ao)|regras|ordens"
    r"|instructies|opdrachten|regels|instrukcj\w*|polece\w*|zasad\w*"
)
_EARLIER = (
    r"previous|prior|earlier|above|preceding|foregoing|former|original|initial|all|any|every|your|system"
    r"|vorherig\w*|vorig\w*|bisherig\w*|obig\w*|fruher\w*|vorangegangen\w*|vorstehend\w*|alle[nr]?|samtliche\w*|deine\w*|ihre"
    r"|precedent\w*|anterieur\w*|ci-dessus|toutes|tous|tes|vos"
    r"|anterior\w*|previ[ao]s?|todas|todos|tus|sus|tutte|tutti|tue|tuas|suas"
    r"|eerdere|bovenstaande|poprzedni\w*|wczesniejsz\w*|wszystki\w*"
)
_FORGET = (
    r"ignor(?:e[sz]?|ed|ing|iere?[nt]?|ier|a|ad|ate|ar|are|uj|ujcie)|disregard|forget|override|overrule|bypass"
    r"|do\s+not\s+follow|stop\s+following|missachte[nt]?|vergi(?:ss|ß)|vergesst|vergessen\s+sie|ubergehe?[nt]?|verwirf"
    r"|verwerfen\s+sie|oublie[sz]?|negligez?|ne\s+(?:tenez|tiens)\s+(?:pas|aucun)\s+compte|fai(?:s|tes)\s+abstraction"
    r"|ne\s+(?:suis|suivez)\s+pas|olvid[ae]\w*|omit[ae]|descart[ae]|haz\s+caso\s+omiso|hagan?\s+caso\s+omiso"
    r"|dimentic\w+|trascur\w+|esqueca\w*|desconsider\w+|negeer|vergeet|zignoruj\w*|zapomnij\w*|pomin"
)
_MACHINE = (
    r"(?:an?\s|eine?\s|the\s|den\s|die\s|das\s|une?\s|l['’]|la\s|el\s|il\s|o\s|een\s)?"
    r"(?:(?:(?-i:AI|KI|IA)|artificial\sintelligence|kunstliche\sintelligenz|intelligence\sartificielle"
    r"|inteligencia\sartificial)\b(?:[ -](?:assistants?|models?|agents?|systems?|bots?|assistent\w*|modell\w*|system\w*))?"
    r"|(?-i:LLMs?|GPT\S*)|(?:large\s)?language\smodels?|sprachmodell\w*|modeles?\s(?:de\slangage|linguistique)"
    r"|modelos?\sde\s(?:lenguaje|linguagem)|modello\slinguistico|taalmodel|model\sjezykowy|chat\s?bots?|chatgpt)"
)
_LABEL = (
    r"classif\w+|label|categori[sz]e|klassifizier\w*|kategorisier\w*|etikettier\w*|einstuf\w*|stufe|etiquet\w+|categoris\w+"
    r"|clasif\w+"
)
_YOU_ARE = (
    r"you\s+are|du\s+bist|sie\s+sind|tu\s+es|vous\s+etes|eres|usted\s+es|sei|voce\s+e|jestes|je\s+bent|act\s+as"
    r"|pretend\s+to\s+be"
)
_NOTICE = (
    r"instructions?|note|notice|message|attention|reminder|orders?|hinweis|anweisung(?:en)?|nachricht|mitteilung|achtung"
    r"|avis|remarque|nota|aviso|mensaje|instruccion(?:es)?|avviso|messaggio|istruzion[ei]|atencao|mensagem|let\s+op|uwaga"
)
_SEND = (
    r"send|forward|copy|cc|bcc|email|mail|upload|exfiltrate|leite[n]?|sende[n]?|schicke?[n]?|envoie\w*|envoye[zr]"
    r"|transfere\w*|envi[ae]\w*|reenvi\w+|inoltr\w+|invi[ao]\w*|stuur|wyslij"
)
_OF_OURS = (
    r"repl(?:y|ies)|answers?|responses?|summar(?:y|ies)|result|output|contents?|conversation|customer|data|passwords?"
    r"|everything|all|antwort\w*|zusammenfassung|ergebnis|kundendaten|daten|alles|reponse|resume|donnees|tout|respuesta"
    r"|resumen|datos|todo|risposta|dati|tutto"
)
_TARGET = Marks(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.|https?:/?/?|www\.")
_CLAUSE = Gap(50, r".!?;\f")
_LINE = Gap(60, r".!?\n")


class Rule(NamedTuple):
    """One thing that such words do."""

    says: str
    """In words: finishes "the text ..."."""
    strong: bool
    """Tells by itself; of weak signs, which people write too, two different ones must stand close together."""
    chains: tuple[Chain, ...]


def _strong(says: str, *chains: str | Chain) -> Rule:
    return Rule(says, True, tuple(one if isinstance(one, Chain) else Chain(one) for one in chains))


def _weak(says: str, *chains: str | Chain) -> Rule:
    return _strong(says, *chains)._replace(strong=False)


def _marks(source: str) -> Chain:
    return Chain(Marks(source))


RULES = (
    _strong(
        "tells a model to forget its orders",
        Chain(_FORGET, _CLAUSE, _EARLIER, _CLAUSE, _ORDERS),
        Chain(_FORGET, _CLAUSE, _ORDERS, _CLAUSE, _EARLIER),
        r"(?:ignore|disregard|forget)\s+(?:everything|anything|all(?:\s+that)?)\s+(?:above|before|you\s+(?:were|have\s+been)\s+told)",
        r"vergi(?:ss|ß)\s+alles|oublie[sz]?\s+tout\s+ce|olvida\s+todo|dimentica\s+tutto",
    ),
    _strong(
        "has marks of a chat template",
        _marks(r"<\|[a-z_]{2,30}\|>|\[/?inst\]|<</?sys>>|</?(?:start|end)_of_turn>|<(?:begin|end)▁of▁sentence>"),
        _marks(
            r"^[ \t]*+#{2,}+[ \t]*+(?:system|instructions?|assistant|response|new instructions?)"
            r"[ \t]*+(?:prompt|message)?+[ \t]*+:?+[ \t]*+$"
        ),
        _marks(r"[\"']role[\"']\s*+:\s*+[\"'](?:system|assistant|developer)[\"']"),
        _marks(r"</?(?:system|assistant|system_prompt|system-prompt|user_input|untrusted\w{0,40})>"),
        _marks(r"\[/?(?:system|assistant|system message|system prompt)\]"),
        _marks(
            r"(?<!-)-{2,}+\s*+(?:begin|end|start)\s++(?:of\s++)?(?:system|prompt|user\s++input|untrusted|document|data|instructions?)\b[^\n]{0,30}-{2,}"
        ),
    ),
    _strong(
        "speaks as the system or the assistant of a chat",
        _marks(
            r"^[ \t]*+(?:system|assistant|developer)(?:[ \t]++(?:prompt|message|override|note))?[ \t]*+:[^\n]{0,60}"
            r"\b(?:you|your|ignore|answer|classify|label|must|always|never|du|sie|ihr|vous|tu|usted|sure|understood|instructions?)\b"
        ),
        r"(?:system|admin(?:istrator)?|developer)[ -](?:override|prompt|mode)\s*+[:\-]\w*",
        r"(?:enter|enable|activate|switch\s+to)\s+(?:developer|debug|god|jailbreak|dan|maintenance)\s+mode",
    ),
    _strong(
        "asks for the model's orders",
        Chain(
            r"reveal|print|show|repeat|output|display|reproduce|leak|disclose|recite|tell|give|write|dump|quote|include|send",
            _CLAUSE,
            r"(?:system|hidden|initial|secret|original|internal)\s+(?:prompt|instructions?|message|orders)",
        ),
        r"(?:reveal|print|repeat|output|display|reproduce|leak|disclose|recite|dump)\s+(?:\w+\s+){0,3}(?:your|the)\s+(?:\w+\s+)?(?:prompt|instructions)",
        Chain(
            r"gib|geben\s+sie|zeige?|zeigen\s+sie|nenne[n]?|wiederhole[n]?|verrate[n]?|drucke[n]?",
            _CLAUSE,
            r"system-?\s?prompt\w*|systemanweisung\w*|deine\s+(?:\w+\s+)?anweisungen|ihre\s+(?:internen|geheimen|ursprunglichen)\s+anweisungen",
        ),
        Chain(
            r"revele\w*|affiche\w*|montre\w*|repete\w*|imprime\w*|donne\w*",
            _CLAUSE,
            r"prompt\s+systeme|instructions\s+(?:systeme|initiales|secretes|internes)|tes\s+instructions|vos\s+instructions\s+(?:internes|initiales)",
        ),
        Chain(
            r"revel[ae]\w*|muestr\w+|repit\w+|imprim\w+|mostr[ae]\w*|ripet\w+|rivel\w+",
            _CLAUSE,
            r"prompt\s+(?:del|do|de|di)\s+sistema|instrucciones\s+(?:internas|iniciales|secretas|del\s+sistema)|tus\s+instrucciones|istruzioni\s+(?:di\s+sistema|interne)|instrucoes\s+(?:internas|do\s+sistema)",
        ),
        r"repeat\s+(?:everything|all|the\s+(?:text|words))\s+(?:above|before)",
    ),
    _strong(
        "gives a model another part to play",
        rf"(?:{_YOU_ARE})\s+(?:now\s+|jetzt\s+|ab\s+jetzt\s+|nun\s+|nur\s+|maintenant\s+|desormais\s+|ahora\s+|adesso\s+|ora\s+|agora\s+|nu\s+|teraz\s+|just\s+)?{_MACHINE}",
        Chain(
            r"you\s+are\s+(?:now|no\s+longer)|from\s+now\s+on,?\s+you\s+(?:are|will|must|answer|obey)",
            _LINE,
            r"assistant|bot|model|filter|restrict\w+|rules|unrestricted|dan|obey|classifier",
        ),
    ),
    _strong(
        "turns to the model that reads it",
        rf"(?:{_NOTICE})\s*+(?:to|for|an|fur|a(?:\s+l['’]attention\s+de)?|pour|para|per|voor|dla|do|de|:|,)\s*+(?:(?:any|all|every|jede[nsr]?|alle|toute|todo)\s*+)?{_MACHINE}",
        rf"(?:if|wenn|falls|si|se|als|jesli)\s+(?:you\s+are|du|sie|tu\s+es|vous\s+etes|eres|usted\s+es|sei|voce\s+e|je|jestes)\s+{_MACHINE}",
        Chain(
            Marks(r"^[ \t]*+(?=[acdhl])"),
            Gap(0, "\n"),
            rf"(?:dear|hey|hello|hi|hallo|liebe[rs]?|chere?|hola|ciao|attention|achtung)[ ,]++{_MACHINE}[ \t]*+[,:!]\w*",
        ),
        r"(?:as\s+the|to\s+the|dear)\s+(?:model|assistant|classifier|bot|ai)\s+(?:that\s+reads|reading|processing|who\s+reads|that\s+processes)",
    ),
    _strong(
        "asks to decode orders and follow them",
        Chain(
            r"decode|dekodier\w*|entschlussel\w*|decod\w+",
            Gap(80, ".!?"),
            r"base64|rot13|hex",
            Gap(80, "!?"),
            r"follow|execute|obey|do\s+what|befolg\w*|ausfuhr\w*|suis|suivez|execut\w+|sigue|ejecut\w+",
        ),
    ),
    _weak(
        "dictates the answer",
        r"(?:answer|respond|reply|output|return|write|say|print)\s+(?:only|exactly|just|nothing\s+but|verbatim)\b"
        r"\s*+(?:with\w*|the\s+word\w*|:\w*|[\"'“{]\w*)",
        r"(?:only|just|simply)\s+(?:answer|respond|output|return)",
        r"(?:antworte[n]?|schreibe?[n]?|gib|geben)\s+(?:sie\s+)?(?:nur|ausschlie(?:ss|ß)lich|exakt|genau|einfach)",
        r"(?:reponde?[sz]?|ecri[sv]\w*)\s+(?:uniquement|seulement|exactement|juste)",
        r"(?:responde|conteste|contesta|escribe|escriba|rispond\w+|scriv\w+|responda|escreva)\s+(?:solo|solamente|unicamente|exactamente|soltanto|apenas|somente)",
        r"antwoord\s+(?:alleen|enkel)|odpowiedz\s+tylko",
        r"(?:your|the)\s+(?:answer|reply|response|summary|output)\s+(?:must|has\s+to|should|shall)\s+(?:be|say|begin|start|contain|include|end)",
        r"(?:deine|ihre|die)\s+(?:antwort|zusammenfassung|ausgabe)\s+(?:muss|soll)|(?:ta|votre|la)\s+reponse\s+doit|(?:tu|su|la)\s+respuesta\s+debe",
    ),
    _weak(
        "names the label it wants",
        Chain(_LABEL, Gap(50, r".!?\n"), r"as|als|comme|como|come"),
        _marks(r"[\"']label[\"']\s*+:"),
    ),
    _weak(
        "tells which answer is right",
        r"(?:correct|right|only|true)\s+(?:label|category|classification)",
        r"(?:das|die)\s+(?:richtige|korrekte)\s+(?:label|kategorie|etikett)",
        r"(?:label|category|etikett|kategorie|etiquette|categorie|etiqueta|categoria)\s+(?:is\w*|must\s+be\w*|should\s+be\w*|ist|lautet\w*|est\w*|doit\s+etre\w*|es|debe\s+ser\w*|=\w*)",
        r"confidence\s*+(?:of|is|=|:|to)?+\s*+(?:1(?:\.0+)?\d*|100\s?%\w*|0\.9\d*)",
    ),
    _weak(
        "wants it sent somewhere",
        Chain(_SEND, _LINE, _OF_OURS, _LINE, _TARGET),
        Chain(r"set|change|replace", Gap(30, r".!?\n"), r"recipient|reply-to|bcc|cc|url|webhook|header|endpoint|iban"),
        Chain(r"setze|andere", Gap(30, r".!?\n"), r"empfanger|adresse|kopfzeile"),
    ),
    _weak(
        "claims to outrank what was said",
        r"(?:new|updated|real|actual|higher[- ]priority)\s+(?:instructions?|orders|task|objective|rules)",
        r"neue\s+(?:anweisung\w*|aufgabe)|nouvelles?\s+(?:consignes?|instructions?|tache)|nuevas?\s+(?:instrucci\w+|tarea)|nuove\s+istruzioni",
        r"(?:end|ende|fin|fine)\s+(?:of|des|du|de|del)\s+(?:the\s+)?(?:document|dokuments?|e-?mail|message|data|input|nachricht|documento|mensaje)",
        r"(?:this|these)\s+(?:overrides?|supersedes?)|highest\s+priority|do\s+not\s+(?:tell|mention|reveal)",
    ),
)
