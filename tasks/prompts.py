"""Renders templates/prompts: what the model is asked, static part first so that the server's prefix cache serves it.

Text of documents only ever stands between two lines with the same mark. The mark is taken from the text's own hash: it
looks random, is the same on every repeat, and no text can hold its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config.routes import FieldSpec, Route
from config.settings import TEMPLATES
from tasks.history import take_apart
from tasks.judging.budget import tidy
from tasks.models import Document, MailFacts

Messages = list[dict[str, str]]

_CONSONANTS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")

PREFIX = '{"label": "'
"""Start of the assistant's message in the label call: what follows is a label and nothing else."""

LANGUAGES = {
    "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "et": "Estonian", "fi": "Finnish", "fr": "French", "hr": "Croatian", "hu": "Hungarian", "it": "Italian",
    "ja": "Japanese", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "sk": "Slovak", "sl": "Slovenian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian", "zh": "Chinese",
}  # fmt: skip

REPLIES = (
    (
        "A bill that asks for payment.",
        "Please pay 310.00 EUR for the repair of two doors by 30 June.",
        "English",
        "Your invoice for the repair of two doors has arrived and we have read it.",
    ),
    (
        "Somebody is unhappy with what was delivered.",
        "Ich bin sehr enttäuscht, der Schrank kam zu spät und zerkratzt, und niemand geht ans Telefon.",
        "German",
        "Ihre Nachricht über den verspäteten und zerkratzten Schrank ist bei uns angekommen. Der Ärger tut uns leid.",
    ),
    (
        "Somebody applies for a job.",
        "I would like to work in your kitchen; my papers are attached.",
        "English",
        "Thank you for applying to work in our kitchen. Your papers have arrived.",
    ),
)
"""What such sentences look like: kind, what they say, language, our sentences. Without them a weak model answers as
the sender, or promises."""


@dataclass(frozen=True)
class Part:
    """One document, or a part of one, as it stands in a prompt."""

    name: str
    text: str

    @cached_property
    def mark(self) -> str:
        """The delimiter: 8 letters made from the SHA-256 of the text."""
        return _letters(self.text, 8)

    @classmethod
    def of(cls, document: Document) -> Part:
        """A whole document, tidied; of an unreadable one only the reason. A mail's body: first what is new in it."""
        if document.status != "read":
            return cls(document.name, f"({document.status}: {document.reason})")
        text = (
            take_apart(document.text).for_model()
            if document.ordinal == 0 and document.name == "body"
            else document.text
        )
        return cls(document.name, tidy(text))


@dataclass(frozen=True)
class Material:
    """What one prompt shows of a job."""

    subject: str
    sender: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, mail: MailFacts | None, parts: Sequence[Part]) -> Material:
        """The head of the mail, when there is one, and parts of its documents."""
        if mail is None:
            return cls("", "", tuple(parts))
        sender = f"{mail.from_name} <{mail.from_address}>" if mail.from_name else mail.from_address
        return cls(tidy(mail.subject)[:300], tidy(sender)[:200], tuple(parts))


class Prompts:
    """The prompt templates of one folder; those that it lacks are the shipped ones."""

    def __init__(self, folder: Path | None = None) -> None:
        self._environment = Environment(
            loader=FileSystemLoader([*([folder] if folder else []), TEMPLATES / "prompts"]),
            undefined=StrictUndefined,
            autoescape=False,  # noqa: S701 - prompts are plain text, not HTML
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def label(self, route: Route, material: Material, *, reverse: bool = False) -> Messages:
        """Ask for the label: instructions, one example a label, the material. `reverse` turns the labels round."""
        labels = dict(reversed(route.labels.items())) if reverse else route.labels
        messages = [_say("system", self._render("label.system.j2", labels=labels, canary=canary(route)))]
        for name, label in labels.items():
            if label.example:
                example = Material("", "", (Part("text", tidy(label.example)),))
                messages += [_say("user", self._material(example)), _say("assistant", f'{PREFIX}{name}"}}')]
        return [*messages, _say("user", self._material(material))]

    def read(self, route: Route, material: Material) -> Messages:
        """Show material without asking for its label: what `form` goes on from when the label is known."""
        system = self._render("read.system.j2", canary=canary(route))
        return [_say("system", system), _say("user", self._material(material))]

    def form(
        self, shown: Messages, label: str, fields: Mapping[str, FieldSpec], summary_key: str, language: str = ""
    ) -> Messages:
        """Ask on in the conversation `shown`, after its label: for the values of `fields` and a summary.

        `language` (ISO 639-1) is the text's, where it is known: a weak model that is not told so translates values.
        """
        name = LANGUAGES.get(language, "")
        form = self._render("form.user.j2", fields=fields, summary_key=summary_key, language=name)
        return [*shown, _say("assistant", f'{PREFIX}{label}"}}'), _say("user", form)]

    def repair(self, wrong: Mapping[str, str]) -> dict[str, str]:
        """The user's message after an answer that cannot stand: what is wrong, by field or by "answer"."""
        return _say("user", self._render("repair.user.j2", wrong=wrong))

    def free_text(self, route: Route, label: str, summary: str, language: str) -> Messages:
        """Ask for the reply's own sentences. The document itself is not shown: what it says cannot steer the reply."""
        instructions = route.reply.instructions
        system = self._render("reply.system.j2", instructions=instructions, canary=canary(route))
        messages = [_say("system", system)]
        for shown in REPLIES:
            messages += [_say("user", self._received(*shown[:3])), _say("assistant", shown[3])]
        says = route.labels[label].says if label in route.labels else label
        return [*messages, _say("user", self._received(says, summary, LANGUAGES.get(language, "English")))]

    def _received(self, says: str, summary: str, language: str) -> str:
        return self._render("reply.user.j2", says=says, summary=summary, language=language)

    def _material(self, material: Material) -> str:
        return self._render("material.j2", material=material)

    def _render(self, name: str, **values: Any) -> str:
        return self._environment.get_template(name).render(**values).strip()


def canary(route: Route) -> str:
    """A string that stands in prompts and in nothing Postroom writes: an answer that has it repeats its orders."""
    return _letters(f"postroom canary {route.name}", 12)


def _letters(text: str, count: int) -> str:
    """`count` letters made from the text's SHA-256: a weak model takes digits for a number that the document states."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:count].translate(_CONSONANTS)


def _say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
