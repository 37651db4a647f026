"""Label and fields -> what goes out, as exact bytes with stable names."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Any

import jinja2

from config.routes import DeliverSpec, Route
from config.settings import Settings
from tasks.compose import compose
from tasks.containment import allowed_in, name_in_reply, recipient_of
from tasks.links import Allowed, unlinked, without
from tasks.model import Judge, Progress
from tasks.models import Classification, Delivery, Document, Extracted, Job, Kind, MailFacts, Reply
from tasks.payload import body_for, payload_of

TO_SENDER = DeliverSpec(smtp="sender")


@dataclass(frozen=True)
class Answering:
    """What the reply stage may use besides the job: settings, the model, and what was sent before."""

    settings: Settings
    judge: Judge
    secret: bytes
    over_cap: Callable[[str], str]
    """Address -> why it gets no more replies now; empty when it may."""
    planned: Callable[[str], Iterable[tuple[int, str, str]]] = lambda _job: ()
    """Job -> ordinal, transport and target of what it planned when it was here before."""


def reply(
    job: Job,
    extracted: Extracted,
    classification: Classification,
    route: Route,
    tools: Answering,
    progress: Callable[[Progress], None] | None = None,
    own_words: str = "",
) -> Reply:
    """Write the answer and plan every delivery. Sends nothing.

    On a replay, what goes the same way to the same target as before keeps its ordinal, and with it its name, however
    the route's list has changed: so what was sent is recognised here, and what may have arrived by the receiver.
    `own_words` are a reviewer's: the text that goes out in the place of what the template would say.
    """
    label = classification.label
    specs = [spec for spec in (route.deliver or (TO_SENDER,)) if not spec.when or label in spec.when]
    template = route.template_for(label)
    recipient = recipient_of(extracted.mail, job.sender)
    silence = _silence(job, extracted.mail, template, recipient, specs, label) or tools.over_cap(recipient)
    answer = Reply(not_sent_because=silence)
    wants_mail = any(spec.smtp and (spec.smtp != "sender" or not silence) for spec in specs)
    if template and wants_mail:
        if own_words:
            subject = _subject(job, extracted, allowed_in(route, recipient, classification))
            answer = Reply(template=template, subject=subject, text=own_words)
        else:
            answer = _written(job, extracted, classification, route, template, tools, progress)
        answer = answer.model_copy(update={"not_sent_because": silence})
    deliveries: list[Delivery] = []
    number = _numbering(tools.planned(job.id))
    for spec in specs:
        if spec.webhook:
            ordinal = number("webhook", spec.webhook)
            deliveries.append(_webhook(job, extracted, classification, answer, spec, ordinal, tools))
        elif answer.text and (spec.smtp != "sender" or not silence):
            target = recipient if spec.smtp == "sender" else spec.smtp
            deliveries.append(_mail(job, extracted.mail, route, answer, target, number("smtp", target), tools))
    return answer.model_copy(update={"deliveries": tuple(deliveries)})


def _numbering(before: Iterable[tuple[int, str, str]]) -> Callable[[str, str], int]:
    """Transport and target -> ordinal: the one it had before, else one that nothing had."""
    known = list(before)
    free = (ordinal for ordinal in itertools.count() if ordinal not in {one[0] for one in known})
    left = list(known)

    def number(transport: str, target: str) -> int:
        for one in left:
            if one[1:] == (transport, target):
                left.remove(one)
                return one[0]
        return next(free)

    return number


def preview(job: Job, extracted: Extracted, classification: Classification, route: Route, templates: Path) -> Reply:
    """The answer as it will look, without the sentences that the model would write, and without asking any model."""
    label = classification.label
    specs = [spec for spec in (route.deliver or (TO_SENDER,)) if not spec.when or label in spec.when]
    template = route.template_for(label)
    recipient = recipient_of(extracted.mail, job.sender)
    silence = _silence(job, extracted.mail, template, recipient, specs, label)
    if silence:
        return Reply(not_sent_because=silence)
    allowed = allowed_in(route, recipient, classification)
    text, _ = render(templates, template, _context(job, extracted, classification, "", allowed))
    return Reply(template=template, subject=_subject(job, extracted, allowed), text=text)


def _silence(
    job: Job, mail: MailFacts | None, template: str, recipient: str, specs: list[DeliverSpec], label: str
) -> str:
    """Why the sender gets no mail; empty when an answer goes out."""
    if not any(spec.smtp == "sender" for spec in specs):
        return "the route sends no reply to the sender"
    if job.kind is Kind.EVENT:
        return "an event has no sender to answer"
    if mail and mail.no_reply_because:
        return mail.no_reply_because
    if not template:
        return f"the route does not answer {label}"
    return "" if recipient else "there is no address to answer"


def _written(
    job: Job,
    extracted: Extracted,
    classification: Classification,
    route: Route,
    template: str,
    tools: Answering,
    progress: Callable[[Progress], None] | None,
) -> Reply:
    words, tokens, notes = "", 0, tuple[str, ...]()
    if route.reply.free_text:
        readable = [document for document in extracted.documents if document.status == "read"]
        free = tools.judge.free_text(readable, extracted.mail, classification, route, progress)
        words, tokens, notes = free.text, free.output_tokens, free.notes
    allowed = allowed_in(route, recipient_of(extracted.mail, job.sender), classification)
    context = _context(job, extracted, classification, words, allowed)
    text, html = render(tools.settings.templates_dir, template, context)
    subject = _subject(job, extracted, allowed)
    return Reply(
        template=template,
        subject=subject,
        text=text,
        html=html,
        free_text=words,
        output_tokens=tokens,
        notes=notes,
    )


def _subject(job: Job, extracted: Extracted, allowed: Allowed) -> str:
    return without(extracted.mail.subject if extracted.mail else job.subject or job.name, allowed)


def _context(
    job: Job, extracted: Extracted, classification: Classification, free_text: str, allowed: Allowed
) -> dict[str, Any]:
    """What a reply template may use. Only values that were found in the documents are among `fields`.

    Subject, names and summary are without links and addresses that are not `allowed`; a value with one was in review.
    """
    mail = extracted.mail or MailFacts()
    shown = {"subject": without(mail.subject, allowed), "from_name": without(mail.from_name, allowed)}
    documents = [
        one.model_copy(update={"name": name_in_reply(one, allowed), "reason": without(one.reason, allowed)})
        for one in extracted.documents
    ]
    return {
        "job": {"id": job.id, "received_at": job.received_at},
        "mail": mail.model_copy(update=shown),
        "label": classification.label,
        "fields": classification.values(),
        "summary": without(classification.summary, allowed),
        "free_text": free_text,
        "documents": documents,
        "unreadable": [document for document in documents if document.status == "unreadable"],
        "language": _language(extracted.documents),
    }


def _language(documents: tuple[Document, ...]) -> str:
    """The language most of the text is in."""
    weight: dict[str, int] = {}
    for document in documents:
        if document.language:
            weight[document.language] = weight.get(document.language, 0) + len(document.text)
    return max(weight, key=lambda code: weight[code]) if weight else ""


def render(templates: Path, name: str, context: Mapping[str, Any]) -> tuple[str, str]:
    """Text and HTML part of a reply; the HTML is empty when the template has none.

    Raises jinja2.TemplateError when a template asks for what is not there.
    """
    environment = _environment(templates / "reply")
    text = environment.get_template(f"{name}.txt.j2").render(context).strip() + "\n"
    if not (templates / "reply" / f"{name}.html.j2").is_file():
        return text, ""
    return text, environment.get_template(f"{name}.html.j2").render(context)


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    """Compiles a template once, and again when its file has changed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unlinked"] = unlinked
    return environment


def _mail(
    job: Job, mail: MailFacts | None, route: Route, answer: Reply, target: str, ordinal: int, tools: Answering
) -> Delivery:
    message_id, body = compose(
        job_id=job.id,
        ordinal=ordinal,
        reply_text=answer.text,
        reply_html=answer.html,
        subject=answer.subject,
        sender=_sender(route, tools.settings),
        recipient=target,
        facts=mail or MailFacts(subject=answer.subject),
        domain=tools.settings.smtp_out.domain,
        secret=tools.secret,
        date_ms=job.received_at,
    )
    return Delivery(ordinal=ordinal, transport="smtp", target=target, key=message_id, body=body)


def _sender(route: Route, settings: Settings) -> str:
    name, address = parseaddr(route.reply.sender or settings.smtp_out.sender)
    return formataddr((name, address))


def _webhook(
    job: Job,
    extracted: Extracted,
    classification: Classification,
    answer: Reply,
    spec: DeliverSpec,
    ordinal: int,
    tools: Answering,
) -> Delivery:
    told = payload_of(job, extracted, classification, answer, tools.settings.web.public_url)
    body = body_for(tools.settings.endpoint[spec.webhook], told, tools.settings.templates_dir)
    return Delivery(
        ordinal=ordinal,
        transport="webhook",
        target=spec.webhook,
        key=f"{job.id}-{ordinal}",
        content_type="application/json",
        body=body,
    )
