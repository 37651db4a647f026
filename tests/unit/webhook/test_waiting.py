"""Callers that wait for a result in the response (`Prefer: wait=N`)."""

from __future__ import annotations

import asyncio

import pytest

from daemon.web import results
from daemon.web.results import Waiting


def test_only_so_many_may_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more gets no result and no Preference-Applied, so that it is answered 202 at once."""
    monkeypatch.setattr(results, "MAX_WAITING", 1)
    ready: dict[str, dict[str, str]] = {}

    async def ask() -> tuple[object, object, dict[str, str], object]:
        waiting = Waiting(ready.get)
        mine: dict[str, str] = {}
        others: dict[str, str] = {}
        first = asyncio.create_task(waiting.result("job", "wait=20", mine))
        await asyncio.sleep(0.05)
        second = await waiting.result("job", "wait=20", others)
        ready["job"] = {"type": "job.processed"}
        found = await first
        return found, second, others, await waiting.result("job", "wait=20", {})

    found, second, others, later = asyncio.run(ask())
    assert found == later == {"type": "job.processed"}
    assert (second, others) == (None, {})
