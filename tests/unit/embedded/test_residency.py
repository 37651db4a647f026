"""Which models stay in memory, who waits and who is refused. The engine is a stand-in: these are its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.embedded.catalogue import DEFAULT_MODEL, find
from daemon.embedded.engine import EngineSettings, memory_needed
from daemon.embedded.ollama_errors import ApiError
from daemon.embedded.ollama_requests import FOREVER
from daemon.embedded.residency import Limits, Resident

WEIGHTS = find(DEFAULT_MODEL)


class StandIn:
    """An engine that holds no model."""

    def __init__(self) -> None:
        self.alive = True
        self.resident = 1

    def last_words(self) -> str:
        return "it fell over"

    async def stop(self) -> None:
        self.alive = False


class House:
    """A resident whose engines are stand-ins, all remembered."""

    def __init__(self, limits: Limits | None = None, *, parallel: int = 1, free: int | None = None) -> None:
        self.engines: list[StandIn] = []
        self.fail: ApiError | None = None
        self.settings = EngineSettings("model.gguf", context=4096, parallel=parallel)
        start: Callable[[EngineSettings], Awaitable[Any]] = self.start
        self.resident = Resident(
            WEIGHTS, Path("model.gguf"), self.settings, limits or Limits(), start=start, free=lambda: free
        )

    async def start(self, settings: EngineSettings) -> StandIn:
        await asyncio.sleep(0.01)
        if self.fail is not None:
            raise self.fail
        self.engines.append(StandIn())
        return self.engines[-1]


async def use(house: House, keep_alive: float | None = None, hold: float = 0.0) -> None:
    async with house.resident.use(keep_alive):
        await asyncio.sleep(hold)


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that is true; fails after a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # whatever it is, it tells nobody
            await asyncio.sleep(0.005)


def test_first_use_loads_and_later_uses_share() -> None:
    """The model is loaded once, by the first of many requests."""

    async def story() -> None:
        house = House(parallel=3)
        await asyncio.gather(*(use(house) for _ in range(6)))
        assert len(house.engines) == 1
        assert house.resident.engine is house.engines[0]
        await house.resident.close()
        assert not house.engines[0].alive

    asyncio.run(story())


def test_one_more_than_the_queue_holds_is_refused() -> None:
    """With one turn and two places to wait, the fourth request at once gets 503 and the others are served."""

    async def story() -> None:
        house = House(Limits(max_queue=2))
        results = await asyncio.gather(*(use(house, hold=0.02) for _ in range(4)), return_exceptions=True)
        refused = [error for error in results if isinstance(error, ApiError)]
        assert [(error.status, error.message) for error in refused] == [
            (503, "server busy, please try again.  maximum pending requests exceeded")
        ]
        assert results.count(None) == 3
        await house.resident.close()

    asyncio.run(story())


def test_who_leaves_the_queue_makes_room() -> None:
    """A request that is cancelled while it waits takes no place any more."""

    async def story() -> None:
        house = House(Limits(max_queue=1))
        first = asyncio.create_task(use(house, hold=0.2))
        await until(lambda: house.engines)
        second = asyncio.create_task(use(house))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        await use(house)
        await first
        await house.resident.close()

    asyncio.run(story())


def test_parallel_turns_are_honoured() -> None:
    """Never more requests at once than the engine has places for."""

    async def story() -> None:
        house, now, most = House(parallel=2), 0, 0

        async def one() -> None:
            nonlocal now, most
            async with house.resident.use(None):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.01)
                now -= 1

        await asyncio.gather(*(one() for _ in range(6)))
        assert most == 2
        await house.resident.close()

    asyncio.run(story())


@pytest.mark.parametrize("keep_alive", [0.0, 0.05])
def test_model_leaves_after_keep_alive(keep_alive: float) -> None:
    """After the last request's keep_alive the model is unloaded, and the next request loads it anew."""

    async def story() -> None:
        house = House()
        await use(house, keep_alive)
        await until(lambda: house.resident.engine is None and not house.engines[0].alive)
        await use(house)
        assert len(house.engines) == 2
        await house.resident.close()

    asyncio.run(story())


def test_keep_alive_for_ever_and_default() -> None:
    """The time of leaving follows the request, or the server's default where the request says nothing."""

    async def story() -> None:
        house = House(Limits(keep_alive=600))
        await use(house)
        assert abs(house.resident.expires_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=5)
        await use(house, FOREVER)
        assert house.resident.expires_at.year > 2300
        await house.resident.close()

    asyncio.run(story())


def test_unload_waits_for_who_runs() -> None:
    """An unload during a request takes effect when that request has ended, not in its middle."""

    async def story() -> None:
        house = House()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(house.resident.use(0.0))
            await house.resident.unload()
            assert house.engines[0].alive
        await until(lambda: not house.engines[0].alive)

    asyncio.run(story())


def test_unload_now_when_nobody_runs() -> None:
    """An unload of an idle model is done when it answers, and again when it is already unloaded."""

    async def story() -> None:
        house = House()
        await use(house, FOREVER)
        await house.resident.unload()
        assert house.resident.engine is None
        await house.resident.unload()

    asyncio.run(story())


def test_engine_that_died_is_started_again() -> None:
    """A request after the engine's death gets a new engine."""

    async def story() -> None:
        house = House()
        await use(house, FOREVER)
        house.engines[0].alive = False
        await use(house, FOREVER)
        assert len(house.engines) == 2
        await house.resident.close()

    asyncio.run(story())


def test_failed_load_reaches_all_who_wait_and_is_tried_again() -> None:
    """Everybody who waited for the load gets its error; the next request tries anew and the turn is not lost."""

    async def story() -> None:
        house = House(parallel=2)
        house.fail = ApiError(500, "error loading model: broken file")
        results = await asyncio.gather(*(use(house) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in results] == ["error loading model: broken file"] * 3
        house.fail = None
        await asyncio.gather(*(use(house) for _ in range(4)))
        assert len(house.engines) == 1
        await house.resident.close()

    asyncio.run(story())


def test_leaving_while_it_loads_does_not_stop_the_load() -> None:
    """Who asked for the load may go; the next one finds the model loaded by that same load."""

    async def story() -> None:
        house = House()
        first = asyncio.create_task(use(house))
        await asyncio.sleep(0.002)
        first.cancel()
        await use(house)
        assert len(house.engines) == 1
        await house.resident.close()

    asyncio.run(story())


def test_short_memory_is_refused_with_both_numbers() -> None:
    """A model that does not fit is not started; the error says what is needed, what is free, what to do."""

    async def story() -> None:
        house = House(free=2**30)
        with pytest.raises(ApiError, match=r"requires more system memory \(2\.7 GiB\) than is available \(1\.0 GiB\)"):
            await use(house)
        assert house.engines == []

    asyncio.run(story())


def test_memory_needed_grows_with_context_and_parallel() -> None:
    """Each token of context of each parallel request is counted."""
    one = memory_needed(WEIGHTS, EngineSettings("m", context=1000))
    assert memory_needed(WEIGHTS, EngineSettings("m", context=1000, parallel=3)) - one == 2 * 1000 * 28_672


def test_closing_in_mid_load_leaves_nothing_behind() -> None:
    """A server that ends while it loads does not wait for the load."""

    async def story() -> None:
        house = House()
        first = asyncio.create_task(use(house))
        await asyncio.sleep(0.002)
        await house.resident.close()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert house.resident.engine is None

    asyncio.run(story())
