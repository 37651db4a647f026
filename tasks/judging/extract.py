"""Fields and summary of one label from all of the text: split where it is long, merged by evidence, repaired once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from config.routes import FieldSpec, Route
from tasks.evidence import Source
from tasks.judging import fields as reading
from tasks.judging import portions, xmldata
from tasks.judging.calls import TooLong
from tasks.judging.fields import SUMMARY_CHARACTERS, Reading
from tasks.judging.portions import Portion
from tasks.judging.reckoning import broken
from tasks.judging.sentences import whole
from tasks.judging.session import ATTEMPTS, SMALLEST_ROOM, Session, batches, shown, shrinking
from tasks.judging.xmldata import Data
from tasks.models import Document, Field
from tasks.prompts import Material, Messages, Part, Prompts, canary

READ_FROM, READ_TO = 0.1, 0.9
"""Shares of the stage's work between which a long text is read: before it the label, after it the summary."""
SPARE = 400
"""Tokens kept for the repair: the first answer and what was wrong with it."""


@dataclass
class Found:
    """What was read, and what an admin or a reviewer should know about it."""

    fields: tuple[Field, ...] = ()
    summary: str = ""
    notes: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)
    is_form: bool = True
    """Whether any answer followed the form."""
    unread: str = ""
    """Which pages the model was not shown, because time was over."""


def extract(
    session: Session,
    prompts: Prompts,
    route: Route,
    label: str,
    documents: Sequence[Document],
    material: Material,
    asked: Messages | None = None,
    attached: Sequence[Document] = (),
) -> Found:
    """Read the fields of `label` from `documents`, all of their text. `material` gives the mail's head.

    `attached` are those in which a field's `xml` is looked for: `documents`, and what is embedded in them.
    `asked` is the conversation that found the label when it showed all of that text: the server still has it in its
    prefix cache, so that asking on in it costs half of reading the documents again.
    """
    data = xmldata.of(attached or documents, route.labels[label].fields)
    return _Extraction(session, prompts, route, label, documents, material, data).run(asked)


class _Extraction:
    def __init__(
        self,
        session: Session,
        prompts: Prompts,
        route: Route,
        label: str,
        documents: Sequence[Document],
        head: Material,
        data: Data,
    ) -> None:
        self.session, self.prompts, self.route, self.label, self.head = session, prompts, route, label, head
        self.documents, self.data = documents, data
        self.parts = [Part.of(document) for document in documents]
        languages = {document.language for document in documents if document.language}
        self.language = languages.pop() if len(languages) == 1 else ""
        self.sources = [*map(Source.of, documents), *(Source(text) for text in (head.subject, head.sender) if text)]
        self.specs: Mapping[str, FieldSpec] = reading.possible(route.labels[label].fields, self.sources)
        self.key = reading.summary_key(self.specs)
        self.shape: type[BaseModel] = reading.answer_model(self.specs, self.key, label)
        self.schema = reading.schema(self.shape)
        self.found = Found(notes=data.notes, review=data.review)
        self.known: dict[tuple[str, str], Reading] = {}
        self.repaired = False
        self.split = False
        """Whether each call sees a portion of the text only: what it does not find may stand in another."""
        self.first: dict[str, str | None] = {}
        """What was answered in the conversation that found the label, when not all of it could stand."""

    def run(self, asked: Messages | None) -> Found:
        room = self.session.room(self._messages(()), self.session.predict + SPARE)
        answers = (self._asked_on(asked) if asked else []) or shrinking(room, self._answers)
        if not answers:
            self.found.is_form = False
            self.found.review.append("the model's answer does not follow the form, even when asked again")
            self.found.fields = tuple(self.data.fields.values())
            return self.found
        readings = [self._read(answer) for answer in [*answers, self.first]]
        self.found.fields = tuple(self._kept(readings))
        self.found.summary = _ended(self._summary([answer.get(self.key) or "" for answer in answers]))
        if any(canary(self.route) in str(answer) for answer in [*answers, self.first]):
            self.found.review.append("the answer repeats the model's instructions")
            self.found.fields, self.found.summary = (), ""
            return self.found
        self.found.review += broken(self.route.labels[self.label].checks, self.found.fields)
        return self.found

    def _asked_on(self, asked: Messages) -> list[dict[str, str | None]]:
        """The form filled in the conversation that found the label; none when that does not fit or cannot stand.

        There a weak model may take its values from the examples: what cannot stand is asked again without them.
        """
        try:
            _, answer, wrong = self._try(self._form(asked))
        except TooLong:
            return []
        if answer and not wrong:
            return [answer]
        self.first = answer or {}
        self.session.note(f"asked anew about: {', '.join(wrong)}")
        return []

    def _messages(self, parts: Sequence[Part]) -> Messages:
        return self._form(self.prompts.read(self.route, shown(self.head, parts)))

    def _form(self, conversation: Messages) -> Messages:
        return self.prompts.form(conversation, self.label, self.specs, self.key, self.language)

    def _answers(self, room: int) -> list[dict[str, str | None]]:
        """The form filled for all of the text; answers that cannot be used are missing, and told."""
        fitting = batches(self.parts, room) or [()]
        if len(fitting) > 1:
            return self._long(room)
        answer = self._fill(self._messages(fitting[0]))
        return [] if answer is None else [answer]

    def _long(self, room: int) -> list[dict[str, str | None]]:
        """The form filled portion by portion, the most promising first, until all are or time is over."""
        waiting, asked = portions.plan(self.parts, self.specs, room), list[Portion]()
        self.split = True
        answers, until, shrunk = [], time.monotonic() + self.session.document_time, 0
        while waiting and (not asked or time.monotonic() < until):
            self.session.toward(READ_FROM + (READ_TO - READ_FROM) * (len(asked) + 1) / (len(asked) + len(waiting)))
            try:
                answer = self._fill(self._messages(portions.shown_as(waiting[0], self.parts)))
            except TooLong as error:
                room, shrunk = int(room / max(1.25, error.factor * 1.1)), shrunk + 1
                if shrunk == ATTEMPTS or room < SMALLEST_ROOM:
                    raise
                waiting = portions.smaller(waiting, room)
                continue
            asked.append(waiting.pop(0))
            if answer is None:
                self.session.note(f"{portions.told(asked[-1], self.parts)} gave no usable answer")
            else:
                answers.append(answer)
        self._tell_split(asked, waiting)
        return answers

    def _tell_split(self, asked: Sequence[Portion], left: Sequence[Portion]) -> None:
        how = f"{len(asked)} part{'s' * (len(asked) != 1)} to fit {self.session.num_ctx} tokens"
        if len(asked) > 1:
            how += "; of each field the value with the best evidence was taken, the summary is made of their summaries"
        if not left:
            self.session.note(f"the text was read in {how}")
            return
        read = portions.told([page for one in asked for page in one], self.parts)
        self.found.unread = portions.told([page for one in left for page in one], self.parts)
        self.session.note(
            f"the model read {read}, where the fields seemed to stand, in {how}; "
            f"[model] document_time ({self.session.document_time:g} s) was over before {self.found.unread}"
        )

    def _fill(self, messages: Messages) -> dict[str, str | None] | None:
        """One filled form; one repair when it does not parse, or when a value that is needed cannot stand."""
        text, answer, wrong = self._try(messages)
        needed = [name for name in wrong if name == "answer" or (self.specs[name].required and not self.split)]
        if not needed or self.repaired:
            return answer
        self.repaired = True
        again = [*messages, {"role": "assistant", "content": text}, self.prompts.repair(wrong)]
        _, second, _ = self._try(again)
        self.session.note(f"asked again about: {', '.join(wrong)}")
        if answer is None or second is None:
            return second or answer
        return answer | {name: second[name] for name in wrong if self._better(name, second[name], answer[name])}

    def _try(self, messages: Messages) -> tuple[str, dict[str, str | None] | None, dict[str, str]]:
        told = self.session.ask(messages, "fields", schema=self.schema)
        if told.done_reason == "length":
            return told.text[:200], None, {"answer": "it was too long; write shorter values"}
        try:
            answer = reading.parse(self.shape, told.text)
        except ValueError as error:
            return told.text, None, {"answer": str(error)}
        readings = {one.field.name: one for one in self._read(answer)}
        wrong = {name: f'"{one.field.value}" {one.wrong}' for name, one in readings.items() if one.wrong}
        wrong |= {name: "is needed" for name, spec in self.specs.items() if spec.required and name not in readings}
        return told.text, answer, {name: what for name, what in wrong.items() if name not in self.data.fields}

    def _better(self, name: str, second: str | None, first: str | None) -> bool:
        """A corrected value counts when it is found in the text; taking back one that was not found always does."""
        if second is None:
            return True
        return second != first and not self._reading(name, second).wrong

    def _read(self, answer: Mapping[str, str | None]) -> list[Reading]:
        return [self._reading(name, written) for name in self.specs if (written := answer.get(name)) is not None]

    def _reading(self, name: str, written: str) -> Reading:
        """One field, looked up in the text once: the parts of a long text tend to answer alike."""
        if (name, written) not in self.known:
            self.known[name, written] = reading.read(name, self.specs[name], written, self.sources)
        return self.known[name, written]

    def _kept(self, readings: Sequence[Sequence[Reading]]) -> list[Field]:
        """The best reading of each field; what stands in XML is taken from there."""
        every = [one for some in readings for one in some]
        read = {name: one for name in self.specs if (one := reading.best(i for i in every if i.field.name == name))}
        specs = self.route.labels[self.label].fields
        xmldata.compare(self.data, {name: one.field for name, one in read.items()}, specs, self.documents)
        for name, one in read.items():
            if name not in self.data.fields:
                self._tell(name, one)
        kept = {name: one.field for name, one in read.items()} | self.data.fields
        return [kept[name] for name in specs if name in kept]

    def _tell(self, name: str, one: Reading) -> None:
        if one.wrong:
            self.found.notes.append(f'{name}: "{one.field.value}" {one.wrong}')
        if one.loose:
            self.found.notes.append(
                f'{name}: "{one.field.value}" stands as "{one.field.quote}", read as an OCR confusion'
            )

    def _summary(self, summaries: Sequence[str]) -> str:
        """One summary of several, and again while there are more than fit into one call."""
        told = [summary for summary in summaries if summary]
        room = self.session.room(self._messages(()), self.session.predict)
        while len(told) > 1:
            joined = batches([Part("summaries of its parts", "\n".join(told))], room)
            told = [self._summed_up(one, told[0]) for one in joined] if len(joined) < len(told) else told[:1]
        return told[0] if told else ""

    def _summed_up(self, batch: tuple[Part, ...], otherwise: str) -> str:
        shape = reading.answer_model({}, self.key, self.label)
        messages = self.prompts.form(self.prompts.read(self.route, shown(self.head, batch)), self.label, {}, self.key)
        answer = self.session.ask(messages, "summary", schema=reading.schema(shape))
        try:
            return reading.parse(shape, answer.text)[self.key] or otherwise
        except ValueError:
            return otherwise


def _ended(summary: str) -> str:
    """A summary that was stopped at its greatest length ends at its last sentence, or says that it goes on."""
    if len(summary) < SUMMARY_CHARACTERS:
        return summary
    return whole(summary) or summary.rsplit(" ", 1)[0] + " ..."
