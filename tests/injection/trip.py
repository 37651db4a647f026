"""One case through the real readers and stages, and what came of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path

from config.engine import ModelSettings
from config.routes import DeliverSpec, FieldSpec, Label, ReplySpec, Route
from config.settings import Settings
from tasks.errors import NeedsReview
from tasks.judging.calls import Engine
from tasks.model import Judge
from tasks.models import Classification, Extracted, Reply
from tasks.routing import choose
from tasks.stages.classify import classify
from tasks.stages.extract import Tools, extract
from tasks.stages.reply import Answering, reply
from tasks.trust import Believing
from tests.injection.carriers import CARRIERS, Message
from tests.injection.obeying import Case
from tests.unit.samples import job

OFFICE = "office@office.example"
POST = Route(
    name="post",
    labels={
        "complaint": Label(
            says="Somebody is unhappy with what was delivered.",
            fields={
                "customer": FieldSpec(description="full name of the customer"),
                "order_number": FieldSpec(description="number of the order", pattern=r"HL-\d+"),
            },
        ),
        "order": Label(
            says="Somebody buys something from us.",
            fields={
                "customer": FieldSpec(description="full name of the customer"),
                "number": FieldSpec(description="number of the order", pattern=r"HL-\d+"),
            },
        ),
        "other": Label(says="Anything else there is."),
    },
    reply=ReplySpec(template="standard"),
    deliver=(DeliverSpec(smtp="sender"), DeliverSpec(webhook="books"), DeliverSpec(webhook="chat")),
)
ROUTES = (POST, Route(name="rest"))


@dataclass(frozen=True)
class Outcome:
    """What a message came to."""

    extracted: Extracted
    route: str
    found: Classification
    answer: Reply
    """What would be sent; a job in review sends nothing until a person says so."""

    stopped: bool = False
    """The reply stage refused to write it."""

    def targets(self) -> list[tuple[str, str, str]]:
        """Way, target and name of each delivery."""
        return [(one.transport, one.target, one.key) for one in self.answer.deliveries]

    def header(self) -> list[tuple[str, str]]:
        """The reply's header, without the subject and the boundary of its parts, which follow the words."""
        mails = [one.body for one in self.answer.deliveries if one.transport == "smtp"]
        parsed = [message_from_bytes(body, policy=policy.default) for body in mails]
        return [
            (name, value if name != "Content-Type" else "")
            for message in parsed
            for name, value in message.items()
            if name != "Subject"
        ]

    def mailed(self) -> str:
        """All words that the sender would read."""
        return "\n".join((self.answer.subject, self.answer.text, self.answer.html, self.answer.free_text))

    def posted(self, endpoint: str) -> str:
        """The body for an endpoint."""
        return next((one.body.decode() for one in self.answer.deliveries if one.target == endpoint), "")


def cases() -> list[Case]:
    """All of cases.toml, in its order."""
    told = tomllib.loads(Path(__file__).with_name("cases.toml").read_text("utf-8"))
    return [Case(**one) for one in told["case"]]


def settings(state: Path) -> Settings:
    """An office with two endpoints."""
    endpoints = {
        name: {"url": f"https://{name}.office.example/hook", "secrets": ["whsec_" + "QUJD" * 8], "template": template}
        for name, template in (("books", ""), ("chat", "slack"))
    }
    return Settings(state_dir=state, endpoint=endpoints, smtp_out={"sender": OFFICE})


def through(message: Message, engine: Engine, office: Settings, own: Route = POST) -> Outcome:
    """Read, judge with `engine`, and write the answer as if a person had approved it."""
    values = {"kind": message.kind, "content_type": message.content_type, "name": message.name}
    arrived = job(sender="mara@customer.example", **values)
    extracted = extract(arrived, message.raw, Tools(frozenset(), Believing(office.trust, lambda _address, _job: False)))
    route = choose((own, *ROUTES[1:]), arrived, extracted, message.raw)
    judge = Judge(ModelSettings())
    judge._models = engine  # type: ignore[assignment]  # the only way to a model that obeys
    found = classify(extracted, route, judge)
    answering = Answering(office, judge, b"secret", lambda _recipient: "")
    try:
        answer = reply(arrived, extracted, found, route, answering)
    except NeedsReview as error:  # not even what a person has approved goes out with our own instructions in it
        reasons = "; ".join(one for one in (found.review, error.reason) if one)
        return Outcome(extracted, route.name, found.model_copy(update={"review": reasons}), Reply(), stopped=True)
    return Outcome(extracted, route.name, found, answer)


def message_of(case: Case) -> Message:
    """The case's message."""
    return CARRIERS[case.carrier](case.attack)
