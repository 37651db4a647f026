"""The trip of a job: STAGES in order, the lease around each, and what an error makes of the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tasks import log, meters, settling, tracing
from tasks.clock import now_ms
from tasks.configured import passwords_of
from tasks.errors import LeaseLost, Unavailable
from tasks.events.mapping import urls_of
from tasks.events.paths import event_of
from tasks.events.taking import take_apart
from tasks.heart import Held
from tasks.intake import raw_of
from tasks.ledger import Lease
from tasks.model import Progress
from tasks.models import (
    RESTING,
    STATE_BEFORE,
    Classification,
    Document,
    Extracted,
    Fetched,
    Job,
    Stage,
    State,
)
from tasks.review.tokens import masked
from tasks.routing import choose, mapped_by
from tasks.sending import send_all
from tasks.stages.classify import classify
from tasks.stages.extract import extract, extract_event, stored
from tasks.stages.fetch import Tools as FetchTools
from tasks.stages.fetch import fetch, policy_for
from tasks.stages.reply import reply
from tasks.workshop import Workshop


@dataclass(frozen=True)
class Done:
    """What a stage came to: its value, what it makes of the job's row, and facts for the log line."""

    value: dict[str, Any]
    job: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    texts: tuple[Document, ...] | None = None
    blobs: frozenset[str] | None = None
    """What the job needs of the blob store from now on, beside its raw message."""


@dataclass(frozen=True)
class Step:
    """One stage: its name, the job's state while it runs, and its work."""

    stage: Stage
    running: State
    work: Callable[[Workshop, Job, Held], Done]


def _fetch(shop: Workshop, job: Job, held: Held) -> Done:
    raw = raw_of(shop.ledger, shop.blobs, job.id, job.raw_sha256)
    route = mapped_by(shop.routes, job, raw)
    urls = urls_of(route.event, event_of(job.content_type, raw)) if route and route.event else ()
    is_new = job.attempts == 1 and not shop.ledger.leases.outages(held.lease)
    known = fetched_of(shop, job)
    if is_new:  # a person asks again: what was refused then may be allowed now
        known = {url: one for url, one in known.items() if one.status == "fetched"}
    tools = FetchTools(
        policy_for(shop.settings, job),
        shop.blobs,
        keep=lambda files: shop.ledger.leases.keep(held.lease, _files(files), _blobs(files)),
        tell=lambda phase: held.progress(phase, 0),
    )
    files = fetch(urls, known, tools)
    refused = sum(one.status == "refused" for one in files)
    facts = {"files": len(files), "refused": refused, "bytes": sum(one.size for one in files)}
    return Done(value=_files(files), facts=facts if files else {}, blobs=_blobs(files))


def _blobs(files: Sequence[Fetched]) -> frozenset[str]:
    return frozenset(one.sha256 for one in files if one.sha256)


def _extract(shop: Workshop, job: Job, held: Held) -> Done:
    raw = raw_of(shop.ledger, shop.blobs, job.id, job.raw_sha256)
    held.progress("reading", 0)
    route = mapped_by(shop.routes, job, raw)
    taken = take_apart(job, raw, route.event, shop.settings.templates_dir) if route and route.event else None
    if route and taken:
        load = stored(fetched_of(shop, job), shop.blobs)
        extracted = extract_event(job, taken, load, shop.known(), passwords_of(shop.settings, route))
    else:
        extracted = extract(job, raw, shop.reading_tools())
    mail = extracted.mail
    told: dict[str, Any] = {"subject": (taken.subject if taken else "") or job.name}
    if mail:
        told = {"subject": mail.subject, "message_id": mail.message_id}
    if mail and not job.sender:
        told["sender"] = mail.from_address
    answer = shop.answers.take(job, extracted)
    if mail and answer:  # of a reviewer: it is no business of the routes, and what it refers to is nobody else's
        told |= {"stage": None, "state": answer.state.value, "reason": answer.reason}
        hidden = {"in_reply_to": masked(mail.in_reply_to), "references": tuple(map(masked, mail.references))}
        mail = mail.model_copy(update=hidden)
    unreadable = sum(document.status == "unreadable" for document in extracted.documents)
    return Done(
        value={"mail": mail.model_dump() if mail else None},
        job=told,
        facts={
            "documents": len(extracted.documents),
            "unreadable": unreadable,
            **({"answer": answer.what} if answer else {}),
        },
        texts=extracted.documents,
    )


def _classify(shop: Workshop, job: Job, held: Held) -> Done:
    extracted = extracted_of(shop, job)
    raw = raw_of(shop.ledger, shop.blobs, job.id, job.raw_sha256)
    route = choose(shop.routes, job, extracted, raw)
    found = classify(extracted, route, shop.judge, _reporting(held))
    row: dict[str, Any] = {"route": route.name, "label": found.label, "confidence": found.confidence}
    if found.review:
        row |= {"state": State.REVIEW.value, "reason": found.review}
    facts = {"route": route.name, "label": found.label, "confidence": round(found.confidence, 3)}
    return Done(
        value=found.model_dump(), job=row, facts={**facts, **({"review": found.review} if found.review else {})}
    )


def _reply(shop: Workshop, job: Job, held: Held) -> Done:
    extracted = extracted_of(shop, job)
    found = Classification(**(shop.ledger.jobs.result(job.id, Stage.CLASSIFY) or {}))
    raw = raw_of(shop.ledger, shop.blobs, job.id, job.raw_sha256)
    route = choose(shop.routes, job, extracted, raw)
    own_words = shop.ledger.decisions.reply_text(job.id)
    answer = reply(job, extracted, found, route, shop.answering, _reporting(held), own_words)
    shop.ledger.deliveries.plan(held.lease, answer.deliveries)
    value = answer.model_dump(exclude={"deliveries"})
    return Done(value=value, facts={"deliveries": len(answer.deliveries), "not_sent_because": answer.not_sent_because})


def _deliver(shop: Workshop, job: Job, held: Held) -> Done:
    sent = send_all(shop.ledger, shop.settings, job, held)
    answer = shop.ledger.jobs.result(job.id, Stage.REPLY) or {}
    reason = str(answer.get("not_sent_because", ""))
    return Done(value={"sent": sent}, job={"state": State.DONE.value, "reason": reason}, facts={"sent": sent})


STAGES = (
    Step(Stage.FETCH, State.FETCHING, _fetch),
    Step(Stage.EXTRACT, State.EXTRACTING, _extract),
    Step(Stage.CLASSIFY, State.CLASSIFYING, _classify),
    Step(Stage.REPLY, State.REPLYING, _reply),
    Step(Stage.DELIVER, State.DELIVERING, _deliver),
)
_ORDER = [step.stage for step in STAGES]


def from_stage(stage: Stage) -> tuple[Step, ...]:
    """The steps that are left, beginning with `stage`."""
    return STAGES[_ORDER.index(stage) :]


Here = Callable[[Stage], Step | None]
"""Which step the caller would run for a stage that comes next; None when that is for another queue."""


def elsewhere(_: Stage) -> Step | None:
    """Every stage is for its own queue."""
    return None


def run(shop: Workshop, job_id: str, step: Step, here: Here = elsewhere) -> Stage | None:
    """Run one stage of one job, if it is this stage's turn and nobody else has it, and those after it that are `here`.

    The stage that comes next, for whoever runs it; None when none does, because the job has ended, waits, rests or is in
    somebody else's hands. Raises nothing but Unavailable for the ledger itself; whatever else goes wrong is written
    down as the job's state.
    """
    claimed = shop.ledger.leases.claim(job_id, step.stage, step.running, shop.owner)
    if claimed is None:
        return _stage_after(shop, job_id, step.stage)
    going: Step | None = step
    following: Step | None = None
    while going and claimed:
        job, lease = claimed
        with tracing.stage(job, lease.stage):
            try:
                following, going, claimed = _one(shop, job, lease, going, here)
            except LeaseLost:
                log.lease_lost(job.id, lease.stage)
                _ended(job, lease, "lost")
                return None
            except (
                Unavailable
            ):  # the ledger went away meanwhile: when it is back the lease is given back, with its attempt
                shop.reporter.owe(partial(settling.give_back, shop, job, lease))
                raise
    return following.stage if following else None


def _one(
    shop: Workshop, job: Job, lease: Lease, step: Step, here: Here
) -> tuple[Step | None, Step | None, tuple[Job, Lease] | None]:
    """Run one stage under its lease: the step that comes next, the same when it goes on here, and then the job anew.

    Raises LeaseLost and Unavailable.
    """
    done = _work(shop, job, lease, step)
    if done is None:
        return None, None, None
    following = _following(lease.stage, done)
    going = here(following.stage) if following else None
    claimed = _finish(shop, job, lease, done, following, going)
    rests = done.job.get("state") == State.REVIEW.value
    log.stage_done(job, lease.stage, (now_ms() - lease.started_at) / 1000, **done.facts)
    _ended(job, lease, "review" if rests else "done")
    if rests:
        log.needs_review(job, lease.stage, done.job["reason"])
    return following, going, claimed


def _ended(job: Job, lease: Lease, outcome: str) -> None:
    """Count and trace what became of a stage, and of its job where that has ended."""
    meters.stage_ended(lease.stage, outcome, (now_ms() - lease.started_at) / 1000)
    tracing.stage_ended(outcome)
    if outcome == "failed" or (outcome == "done" and lease.stage is _ORDER[-1]):
        tracing.job_ended(job, outcome)


def _stage_after(shop: Workshop, job_id: str, stage: Stage) -> Stage | None:
    """Where a job stands that is past `stage`: this message came late, and the one that followed may be lost."""
    job = shop.ledger.jobs.get(job_id)
    if job is None or job.stage is None or job.state in RESTING:
        return None
    return job.stage if _ORDER.index(job.stage) > _ORDER.index(stage) else None


def _work(shop: Workshop, job: Job, lease: Lease, step: Step) -> Done | None:
    """What the stage came to; None when that was an error, which is written down then. Raises LeaseLost."""
    limit = shop.settings.worker.max_attempts
    if job.attempts > limit:
        never = f"{step.stage.value} was begun {limit} times and never ended: it may kill its worker"
        _ended(job, lease, settling.fail(shop, job, lease, never))
        return None
    try:
        with shop.heart.holding(lease) as held:
            return step.work(shop, job, held)
    except LeaseLost:
        raise
    except Exception as error:  # an unknown error is transient: no job is lost for a bug of ours
        _ended(job, lease, settling.settle(shop, job, lease, error))
        return None


def _following(stage: Stage, done: Done) -> Step | None:
    """The step after `stage`, unless what it came to ends the trip or lets the job rest."""
    left = from_stage(stage)[1:]
    return left[0] if left and done.job.get("state") not in RESTING else None


def _finish(
    shop: Workshop, job: Job, lease: Lease, done: Done, following: Step | None, going: Step | None
) -> tuple[Job, Lease] | None:
    """Write what the stage came to; the job with the lease of the next stage, when it is `going` on."""
    left = from_stage(lease.stage)[1:]
    row: dict[str, Any] = {"stage": left[0].stage.value if left else None, "reason": ""}
    if following and not going:  # the chain brings it to the next stage's queue, so the rescue need not
        row |= {"state": STATE_BEFORE[following.stage].value, "enqueued_at": now_ms()}
    return shop.ledger.leases.finish(
        lease,
        value=done.value,
        job=row | done.job,
        event=f"{lease.stage.value} done",
        detail=done.facts,
        texts=done.texts,
        blobs=done.blobs,
        then=going.running if going else None,
    )


def extracted_of(shop: Workshop, job: Job) -> Extracted:
    """The value of the extract stage, put together from the ledger."""
    value = shop.ledger.jobs.result(job.id, Stage.EXTRACT) or {}
    return Extracted(mail=value.get("mail"), documents=tuple(shop.ledger.jobs.documents(job.id)))


def fetched_of(shop: Workshop, job: Job) -> dict[str, Fetched]:
    """The files of an event that the fetch stage has or refuses, by URL."""
    value = shop.ledger.jobs.result(job.id, Stage.FETCH) or {}
    return {one["url"]: Fetched(**one) for one in value.get("files", ())}


def _files(files: Sequence[Fetched]) -> dict[str, Any]:
    return {"files": [one.model_dump() for one in files]}


def _reporting(held: Held) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        held.progress(progress.phase, progress.tokens, progress.percent, progress.tail)

    return report
