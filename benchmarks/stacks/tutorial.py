"""FastAPI and Celery as their tutorials put them together. The worker is not run: only accepting is measured."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI, Request

celery = Celery("tutorial", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app = FastAPI()


@celery.task
def process(event: dict[str, Any]) -> None:
    """What a worker would do."""


@app.post("/hooks/{source}", status_code=202)
async def hook(source: str, request: Request) -> dict[str, str]:
    """Publish and answer."""
    result = process.delay({"source": source, "event": await request.json()})
    return {"task": result.id}
