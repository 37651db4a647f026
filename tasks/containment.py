"""What a document may not bring about, looked at after the model has answered, whatever it answered.

Text that reads like orders to a model, and values that read like somebody's sentence or link instead of a value, let the
job rest in review with the place told. docs/security.md says what else holds a document back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from config.routes import FieldSpec, Route
from tasks.injections import Finding, search
from tasks.links import Allowed, strange
from tasks.models import Classification, Document, Extracted, Field, MailFacts
from tasks.prompts import canary

TOLD = 3
"""Places that the reason names; the others are counted."""
LONGEST_NAME = 60
"""Characters of a file's name in a reply."""
LONGEST_VALUE = 120
MOST_WORDS = 14
"""Characters and words of a text value; a firm's name and a contract's title have fewer."""

_SPEAKS = re.compile(
    r"[^\W\d_]{4,}[.!?]+\s+\w+\s+\w+|[!?](?:\s|$)"
    r"|\b(?:you|your|yours|please|click|visit|we have|we are|i am"
    r"|(?-i:Sie|Ihr|Ihre[mnrs]?|Ihnen)|dein\w*|bitte|klick\w*|wir haben"
    r"|vous|votre|vos|veuillez|cliqu\w+|nous avons|usted\w*|haga|por favor|hemos|voi|vostr\w+|per favore|clicc\w+"
    r"|voc[eê]|clique|alstublieft|prosz[eę]|kliknij)\b",
    re.IGNORECASE,
)
"""What names, numbers and titles have not: the end of a sentence with another behind it, a call, a word to somebody."""
_NAME_BREAKS = str.maketrans("_-.+", "    ")


def contained(found: Classification, extracted: Extracted, route: Route) -> Classification:
    """`found` with what speaks against sending it unseen; with `injections = "note"` orders to a model are only noted."""
    orders = _orders(extracted, found, route)
    values = [told for field in found.fields if (told := _unfit(field, route, found.label, extracted.mail))]
    noted = orders if route.model.injections == "note" else []
    doubts = [found.review, *(one for one in orders if one not in noted), *values]
    return found.model_copy(
        update={"review": "; ".join(one for one in doubts if one), "notes": (*found.notes, *noted)},
    )


def recipient_of(mail: MailFacts | None, sender: str) -> str:
    """Whom a reply goes to: Reply-To, else From (RFC 5322 section 3.6.2), else the envelope's or folder's sender."""
    if mail:
        return mail.reply_to or mail.from_address or sender
    return sender


def allowed_in(route: Route, recipient: str, found: Classification) -> Allowed:
    """What may stand in a reply beside plain text: the route's list, whom it goes to, what was read as an `email`."""
    specs = route.labels[found.label].fields if found.label in route.labels else {}
    read = [
        one.value for one in found.fields if one.supported and one.name in specs and specs[one.name].type == "email"
    ]
    return Allowed.of(route.reply.allow, [recipient, *read])


def name_in_reply(document: Document, allowed: Allowed) -> str:
    """A document's name as a reply may tell it; what is long, speaks to somebody or holds a foreign link is a number."""
    words = document.name.translate(_NAME_BREAKS)
    if len(words) <= LONGEST_NAME and not _SPEAKS.search(words) and not strange(document.name, allowed):
        return document.name
    extension = document.name.rpartition(".")[2]
    kind = f" ({extension.upper()})" if re.fullmatch(r"[a-z0-9]{2,5}", extension, re.IGNORECASE) else ""
    return f"no. {document.ordinal}{kind}"


def _orders(extracted: Extracted, found: Classification, route: Route) -> list[str]:
    """One sentence on all places that read like orders to a model; nothing when there is none."""
    places = [f'{place} {one.rule}: "{one.quote}"' for place, one in _findings(extracted, found, route)]
    if not places:
        return []
    more = f"; and {len(places) - TOLD} more" if len(places) > TOLD else ""
    return [f"there is text that reads like orders to a model: {'; '.join(places[:TOLD])}{more}"]


def _findings(extracted: Extracted, found: Classification, route: Route) -> Iterator[tuple[str, Finding]]:
    secret = canary(route)
    for document in extracted.documents:
        for one in search(document.text):
            yield _place(document, one.at), one
        for one in search(document.reason):
            yield f"what is hidden in {document.name}", one
        for one in search(document.name.translate(_NAME_BREAKS)):
            yield "the name of a file", one
        at = document.text.find(secret)
        if at >= 0:
            yield _place(document, at), Finding("repeats a string that only stands in our prompts", secret, at)
    mail = extracted.mail
    for place, text in (("the subject", mail.subject), ("the sender's name", mail.from_name)) if mail else ():
        for one in search(text):
            yield place, one
    for one in search(found.summary):
        yield "the model's summary", one


def _place(document: Document, at: int) -> str:
    """The page and line of an offset, counted as evidence is."""
    before = document.text[:at]
    page, line = before.count("\f") + 1, before.rpartition("\f")[2].count("\n") + 1
    return f"{document.name} page {page} line {line}"


def _unfit(field: Field, route: Route, label: str, mail: MailFacts | None) -> str:
    """Why a value is not sent unseen; empty for values that their type, a pattern or choices hold to a form."""
    spec = route.labels[label].fields.get(field.name) if label in route.labels else None
    if not field.supported or spec is None or not _is_free(spec):
        return ""
    where = f"{field.name}, page {field.page} line {field.line}," if field.page else field.name
    allowed = Allowed.of(route.reply.allow, [recipient_of(mail, "")])
    if links := strange(field.value, allowed):
        return f'{where} holds a link or an address that reply.allow does not name: "{links[0][:LONGEST_VALUE]}"'
    if len(field.value) > LONGEST_VALUE or len(field.value.split()) > MOST_WORDS or _SPEAKS.search(field.value):
        return f'{where} reads like a sentence and not like a value: "{field.value[:LONGEST_VALUE]}"'
    return ""


def _is_free(spec: FieldSpec) -> bool:
    return spec.type == "text" and not spec.pattern and not spec.choices
