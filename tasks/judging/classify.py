"""A job's way through the model: the label over all documents, then the fields of that label, then the reply's words.

Several attachments are also looked at one by one: what they are counts half, the mail as a whole counts half, and the
fields are read from the body and from those attachments that are of the job's kind. docs/model.md tells the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from config.engine import ModelSettings
from config.models import Task
from config.routes import Route
from tasks.containment import allowed_in, recipient_of
from tasks.errors import NeedsReview, Transient
from tasks.judging import labels, sentences
from tasks.judging.budget import condense, estimate
from tasks.judging.calibrations import Calibrations, question_of
from tasks.judging.calls import Engine, OnProgress
from tasks.judging.extract import READ_FROM, extract
from tasks.judging.fields import LabelOnly, missing
from tasks.judging.leaning import BLANK, Leanings, evened
from tasks.judging.session import FRAME, Session, shown, shrinking
from tasks.models import Classification, Document, MailFacts, Noun
from tasks.prompts import PREFIX, Material, Messages, Part, Prompts, canary

FIRST_LOOK = 900
"""Estimated tokens of text that the label call sees: the start and the end of what is longer."""
MOST_ATTACHMENTS = 6
"""Attachments that are also looked at one by one."""
SURE = 0.8
"""Share of another label from which an attachment is left out when the fields are read."""
REPLY_TOKENS = 160
BODY_NAMES = frozenset({"body", "event"})


def _size(material: Material) -> int:
    """Estimated tokens of its parts in a prompt."""
    return sum(estimate(part.text) + FRAME for part in material.parts)


def _first(shares: Mapping[str, float]) -> str:
    label = max(shares, key=lambda name: shares[name])
    return f"{label} ({shares[label]:.2f})"


def _from(part: Part, share: float) -> Part:
    """What stands in `part` from `share` (0 to 1) of its text on: about as much as a first look sees."""
    start = part.text.find("\n", int(len(part.text) * share)) + 1
    return Part(part.name, part.text[start : start + FIRST_LOOK * 3])


class FreeText(Noun):
    """The reply's own sentences."""

    text: str
    """Plain text in one paragraph; empty when nothing fit to send was written."""
    output_tokens: int
    notes: tuple[str, ...] = ()
    """What an admin should know: that another model was asked."""


class Trip:
    """One job and one route."""

    def __init__(
        self,
        engine: Engine,
        prompts: Prompts,
        settings: ModelSettings,
        route: Route,
        progress: OnProgress | None,
        task: Task = "classify",
        calibrations: Calibrations | None = None,
        leanings: Leanings | None = None,
    ) -> None:
        self._calibrations = calibrations or Calibrations(None)
        self._leanings = leanings or Leanings()
        self._prompts = prompts
        self._settings = settings
        self._route = route
        self._session = Session(engine, settings, route, progress, task)

    def classify(self, documents: Sequence[Document], mail: MailFacts | None) -> Classification:
        """Label, fields and summary. Raises NeedsReview when there is nothing to read."""
        if not self._route.labels:
            raise NeedsReview(f"the route {self._route.name} has no labels; add [labels.NAME] to its file")
        readable = [document for document in documents if document.status == "read" and document.text.strip()]
        if not readable and not (mail and mail.subject.strip()):
            reasons = "; ".join(f"{document.name}: {document.reason}" for document in documents if document.reason)
            raise NeedsReview(f"there is nothing to read{': ' if reasons else ''}{reasons}")
        material = Material.of(mail, [Part.of(document) for document in documents])
        self._session.fit(_size(material))
        self._session.toward(READ_FROM)
        shares, method, kinds = self._label(material, readable)
        label = max(shares, key=lambda name: shares[name])
        chosen = [document for document in readable if kinds.get(document.ordinal, label) == label] or readable
        names = {document.name for document in chosen}
        attached = [one for one in readable if one in chosen or one.parent in names]
        reader = self._session.of("fields")
        known = method == "logprobs" and chosen == readable and reader.model == self._session.model
        asked = self._asked(material) if known else None
        found = extract(reader, self._prompts, self._route, label, chosen, material, asked, attached)
        if not found.is_form and reader.fall_back("its answers did not follow the form"):
            found = extract(reader, self._prompts, self._route, label, chosen, material, None, attached)
        self._session.end("fields")
        for problem in found.notes:
            self._session.note(problem)
        confidence = self._calibrated(shares[label], method)
        doubts = [
            self._unsure(label, confidence),
            *found.review,
            self._lacking(label, missing(self._route.labels[label].fields, found.fields), found.unread),
        ]
        return Classification(
            label=label,
            confidence=round(confidence, 4),
            alternatives={name: round(share, 4) for name, share in shares.items()},
            method=method,
            summary=found.summary,
            fields=found.fields,
            model=", ".join(self._session.bill.models),
            prompt_tokens=self._session.bill.prompt_tokens,
            output_tokens=self._session.bill.output_tokens,
            notes=tuple(self._session.bill.notes),
            review="; ".join(reason for reason in doubts if reason),
        )

    def _asked(self, material: Material) -> Messages | None:
        """The conversation that found the label, when it showed all of the text: the fields are then asked in it."""
        if _size(material) > FIRST_LOOK:
            return None
        return self._prompts.label(self._route, material)

    def _calibrated(self, share: float, method: str) -> float:
        """The share of right answers among those told with `share`, where a labelled set has shown it."""
        try:
            known = self._calibrations.find(self._session.model, self._question, method)
        except ValueError as error:
            self._session.note(f"the confidence is not calibrated: {error}")
            return share
        if known is None:
            return share
        calibrated = known.curve.apply(share)
        self._session.note(
            f"the confidence is calibrated from {share:.2f} to {calibrated:.2f}, by {known.answers} labelled answers"
        )
        return calibrated

    def _unsure(self, label: str, confidence: float) -> str:
        own = self._route.model.min_confidence
        least = self._settings.min_confidence if own is None else own
        if confidence >= least:
            return ""
        return f"the model is not sure: {label} at {confidence:.2f}, below {least:g}"

    def _lacking(self, label: str, names: Sequence[str], unread: str) -> str:
        if not names:
            return ""
        where = f"what the model read of it; {unread} was not read" if unread else "the text"
        return f"{label} needs {', '.join(names)}, not found in {where}"

    def _label(self, material: Material, readable: Sequence[Document]) -> tuple[dict[str, float], str, dict[int, str]]:
        """Every label's share, how they were found, and the kinds of those attachments that alone are clearly of one."""
        names = list(self._route.labels)
        if len(names) == 1:
            return {names[0]: 1.0}, "only", {}
        whole, method = self._shares(material)
        attachments = [document for document in readable if document.name not in BODY_NAMES]
        if len(attachments) < 2:
            return self._sampled(whole, material), method, {}
        if len(attachments) > MOST_ATTACHMENTS:
            self._session.note(f"the first {MOST_ATTACHMENTS} of {len(attachments)} attachments were judged one by one")
        alone = {
            document.ordinal: self._shares(Material("", "", (Part.of(document),)))[0]
            for document in attachments[:MOST_ATTACHMENTS]
        }
        kinds = {}
        for document in attachments[:MOST_ATTACHMENTS]:
            kind, share = max(alone[document.ordinal].items(), key=lambda item: item[1])
            self._session.note(f"{document.name} alone looks like {kind} ({share:.2f})")
            if share >= SURE:
                kinds[document.ordinal] = kind
        together = labels.vote([(whole, 1.0), *((shares, 1.0 / len(alone)) for shares in alone.values())])
        return together, method, kinds

    def _sampled(self, whole: dict[str, float], material: Material) -> dict[str, float]:
        """The vote of start and end, `whole`, and of two looks into the middle of a text too long for one call."""
        longest = max(material.parts, key=lambda part: len(part.text), default=None)
        if longest is None or self._session.fits(_size(material)):
            return whole
        middles = [_from(longest, share) for share in (1 / 3, 2 / 3)]
        looks = [self._shares(Material("", "", (middle,)))[0] for middle in middles]
        together = labels.vote([(whole, 1.0), *((shares, 0.25) for shares in looks)])
        said = ", ".join(_first(shares) for shares in looks)
        self._session.note(
            f"the label was voted on: start and end say {_first(whole)}, two looks between {said}; together {_first(together)}"
        )
        return together

    def _shares(self, material: Material) -> tuple[dict[str, float], str]:
        names = list(self._route.labels)
        return shrinking(FIRST_LOOK, lambda room: self._ask_label(self._condensed(material, room), names))

    def _ask_label(self, material: Material, names: list[str]) -> tuple[dict[str, float], str]:
        if shares := self._told(material, names):
            return self._evened(shares, names), "logprobs"
        first, second = (self._name_label(material, reverse=reverse) for reverse in (False, True))
        if first != second:
            self._session.note(f"asked twice, the model said {first} and {second}")
        return labels.agreed(first, second, names), "schema"

    def _evened(self, shares: dict[str, float], names: list[str]) -> dict[str, float]:
        """`shares` without what the model leans to."""
        power = self._settings.evening
        if not power:
            return shares
        leaning = self._leanings.of(self._session.model, self._question, lambda: self._told(BLANK, names))
        return evened(shares, leaning, power) if leaning else shares

    @cached_property
    def _question(self) -> str:
        return question_of(self._prompts, self._route, self._settings.evening)

    def _told(self, material: Material, names: list[str]) -> dict[str, float] | None:
        """The model's own shares, by the log-probabilities of its next token; None when it tells none."""
        messages = self._prompts.label(self._route, material)

        def next_token(start: str) -> Mapping[str, float] | None:
            opened = [*messages, {"role": "assistant", "content": PREFIX + start}]
            return self._session.ask(opened, "label", predict=1, logprobs=True).next_token

        return labels.probabilities(names, next_token)

    def _name_label(self, material: Material, *, reverse: bool) -> str:
        shape = LabelOnly(list(self._route.labels))
        answer = self._session.ask(
            self._prompts.label(self._route, material, reverse=reverse), "label", predict=32, schema=shape.schema
        )
        try:
            return shape.read(answer.text)
        except Transient:
            if not self._session.fall_back("it named no label"):
                raise
        return self._name_label(material, reverse=reverse)

    def _condensed(self, material: Material, room: int) -> Material:
        """Start and end of each part, so that all fit into `room`; what a short part leaves goes to the longer ones."""
        texts = sorted(enumerate(material.parts), key=lambda item: estimate(item[1].text))
        short: dict[int, Part] = {}
        for taken, (index, part) in enumerate(texts):
            share = max(24, room // (len(texts) - taken) - FRAME)
            text, cut = condense(part.text, share)
            short[index] = Part(part.name, text)
            room -= estimate(text) + FRAME
            if cut:
                self._session.note(f"{part.name}: the label was judged by its start and end")
        return shown(material, [short[index] for index in range(len(texts))])

    def free_text(
        self, documents: Sequence[Document], mail: MailFacts | None, classification: Classification
    ) -> FreeText:
        """The reply's own sentences. Raises NeedsReview when the answer repeats what must not come out."""
        if self._settings.max_ctx:  # the context that classify had: another one would have the model loaded anew
            self._session.fit(_size(Material.of(mail, [Part.of(document) for document in documents])))
        self._session.toward(1.0)
        language = next((document.language for document in documents if document.language), "")
        messages = self._prompts.free_text(self._route, classification.label, classification.summary, language)
        answer = self._session.ask(messages, "reply", predict=REPLY_TOKENS)
        self._session.end("reply")
        if canary(self._route) in answer.text:
            raise NeedsReview("the reply's text repeats the model's instructions")
        written = answer.text if answer.done_reason != "length" else sentences.whole(answer.text)
        theirs = [mail.subject if mail else "", *(part for one in documents for part in (one.name, one.text))]
        allowed = allowed_in(self._route, recipient_of(mail, ""), classification)
        return FreeText(
            text=sentences.clean(written, allowed, classification.summary, theirs),
            output_tokens=answer.output_tokens,
            notes=tuple(self._session.bill.notes),
        )
