"""Queues for classes of models, so that small and large ones run on different workers ([model.classes])."""

from __future__ import annotations

from config.models import Task, chosen
from config.routes import Route
from config.settings import Settings
from tasks.app import MODEL_QUEUE, QUEUE_OF
from tasks.errors import Unavailable
from tasks.intake import raw_of
from tasks.models import Job, Stage
from tasks.pipeline import extracted_of
from tasks.routing import choose
from tasks.workshop import Workshop

TASKS_OF: dict[Stage, tuple[Task, ...]] = {Stage.CLASSIFY: ("fields", "classify"), Stage.REPLY: ("reply",)}
"""What a stage asks a model for; the first task whose model has a class decides for all of it."""


def queue_of(shop: Workshop, job_id: str, stage: Stage) -> str:
    """The queue that a job's stage is for; `model` for those whose model has no class. Raises Unavailable (the ledger)."""
    if stage not in TASKS_OF or not shop.settings.model.classes:
        return QUEUE_OF[stage]
    job = shop.ledger.jobs.get(job_id)
    if job is None or job.stage is not stage:
        return QUEUE_OF[stage]  # it has ended, or is further: whoever gets this message finds nothing to do
    try:
        route = _route_of(shop, job)
    except Unavailable as error:
        if error.dependency == "ledger":
            raise
        return QUEUE_OF[stage]
    except Exception:  # whatever is wrong with this job is for the stage to find, and to settle
        return QUEUE_OF[stage]
    return queue_for(shop.settings, route, stage)


def queue_for(settings: Settings, route: Route, stage: Stage) -> str:
    """The queue for a stage of the jobs of `route`."""
    names = (chosen(task, settings.model, route.model).name for task in TASKS_OF[stage])
    found = (settings.model.classes.get(name) for name in names)
    return next((f"{MODEL_QUEUE}.{one}" for one in found if one), MODEL_QUEUE)


def _route_of(shop: Workshop, job: Job) -> Route:
    return choose(shop.routes, job, extracted_of(shop, job), raw_of(shop.ledger, shop.blobs, job.id, job.raw_sha256))
