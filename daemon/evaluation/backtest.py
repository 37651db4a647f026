"""`postroom backtest`: today's routes, prompts and model over stored jobs; what would change is told, nothing else is done.

The text that was read when a job came is judged anew. Nothing is sent, and nothing is written to the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from config.routes import Route
from config.settings import Settings
from daemon.evaluation.running import judge_of
from tasks.configured import message_id_secret, routes_of
from tasks.errors import Permanent, PostroomError, Unavailable
from tasks.intake import raw_of
from tasks.ledger import Ledger
from tasks.models import OWN_SOURCE, Classification, Extracted, Job, Reply, Stage
from tasks.routing import choose
from tasks.stages.classify import classify
from tasks.stages.reply import Answering, reply
from tasks.stores import Store, open_store

PAGE = 200


@dataclass(frozen=True)
class Change:
    """One thing that would be otherwise."""

    what: str
    """`route`, `label`, `review`, `reply`, `recipients`, or the name of a field."""
    then: str
    now: str


@dataclass(frozen=True)
class Compared:
    """One job, judged anew."""

    job: Job
    label: str
    confidence: float
    changes: tuple[Change, ...] = ()
    problem: str = ""
    """Why it could not be judged again."""


@dataclass
class Tally:
    """What all of them came to."""

    jobs: int = 0
    changed: int = 0
    problems: int = 0
    by_what: dict[str, int] = field(default_factory=dict)

    def add(self, one: Compared) -> None:
        """Count it."""
        self.jobs += 1
        self.changed += bool(one.changes)
        self.problems += bool(one.problem)
        for change in one.changes:
            self.by_what[change.what] = self.by_what.get(change.what, 0) + 1


class Backtest:
    """Judges stored jobs anew."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        """Raises ConfigError when today's routes are wrong."""
        self._settings = settings
        self._ledger = ledger
        self._blobs: Store = open_store(settings)
        self._routes = routes_of(settings)
        self._judge = judge_of(settings)
        self._answering = Answering(settings, self._judge, message_id_secret(settings), lambda _recipient: "")

    def jobs(self, since: int, *, source: str = "", label: str = "", limit: int = 0) -> Iterator[Job]:
        """Jobs that were judged and came `since` then (milliseconds), newest first, at most `limit`; 0: all."""
        last, given = "", 0
        while page := self._ledger.jobs.page(since=since, source=source, label=label, before=last, limit=PAGE):
            for job in page:
                if job.source == OWN_SOURCE or not job.label:
                    continue
                if limit and given >= limit:
                    return
                given += 1
                yield job
            last = page[-1].id

    def compare(self, job: Job) -> Compared:
        """Judge one job again. Raises Unavailable when the model or the ledger cannot be asked."""
        try:
            now, route, extracted = self._judged(job)
            then = Classification(**(self._ledger.jobs.result(job.id, Stage.CLASSIFY) or {}))
            changes = [*_judgement(job, then, route, now), *self._answer(job, extracted, route, now)]
        except Unavailable:
            raise
        except PostroomError as error:
            return Compared(job, job.label or "", job.confidence or 0.0, problem=error.reason)
        return Compared(job, now.label, now.confidence, tuple(changes))

    def _judged(self, job: Job) -> tuple[Classification, Route, Extracted]:
        value = self._ledger.jobs.result(job.id, Stage.EXTRACT)
        if value is None or self._ledger.jobs.result(job.id, Stage.CLASSIFY) is None:
            raise Permanent("what was read of it, or how it was judged, is no longer in the ledger")
        extracted = Extracted(mail=value.get("mail"), documents=tuple(self._ledger.jobs.documents(job.id)))
        raw = raw_of(self._ledger, self._blobs, job.id, job.raw_sha256)
        route = choose(self._routes, job, extracted, raw)
        return classify(extracted, route, self._judge), route, extracted

    def _answer(self, job: Job, extracted: Extracted, route: Route, now: Classification) -> Iterator[Change]:
        """What would go out, without the model's own sentences: they are another text each time the summary is."""
        value = self._ledger.jobs.result(job.id, Stage.REPLY)
        if value is None or now.review:
            return  # it was not answered then, or would not be answered now before a person has looked
        then = Reply(**value)
        quiet = route.model_copy(update={"reply": route.reply.model_copy(update={"free_text": False})})
        new = reply(job, extracted, now, quiet, self._answering)
        if _words(then) != _words(new):
            yield Change("reply", _words(then) or "(no reply)", _words(new) or "(no reply)")
        before = {f"{transport} {target}" for _, transport, target in self._ledger.deliveries.ordinals(job.id)}
        after = {f"{one.transport} {one.target}" for one in new.deliveries}
        if before != after:
            yield Change("recipients", ", ".join(sorted(before)) or "(nobody)", ", ".join(sorted(after)) or "(nobody)")


def _judgement(job: Job, then: Classification, route: Route, now: Classification) -> Iterator[Change]:
    if job.route != route.name:
        yield Change("route", job.route or "(none)", route.name)
    if then.label != now.label:
        yield Change("label", f"{then.label} {then.confidence:.2f}", f"{now.label} {now.confidence:.2f}")
    if bool(then.review) != bool(now.review):
        yield Change("review", then.review or "(nobody has to look)", now.review or "(nobody has to look)")
    old, new = then.values(), now.values()
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name, "(none)"), new.get(name, "(none)"))


def _words(answer: Reply) -> str:
    """The reply without the sentences that the model wrote itself, on one line; empty when nothing goes to the sender."""
    if answer.not_sent_because:
        return ""
    text = answer.text.replace(answer.free_text, "") if answer.free_text else answer.text
    return " ".join(f"{answer.subject}: {text}".split()) if text else ""


def told(one: Compared) -> Mapping[str, Any]:
    """For programs."""
    changes = [{"what": change.what, "then": change.then, "now": change.now} for change in one.changes]
    return {
        "job": one.job.id,
        "label": one.label,
        "confidence": one.confidence,
        "changes": changes,
        "problem": one.problem,
    }
