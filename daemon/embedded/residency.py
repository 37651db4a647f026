"""Which models are in memory: loads on the first request, keeps, unloads, and lets only so many wait."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from daemon.embedded import memory
from daemon.embedded.catalogue import Weights
from daemon.embedded.engine import Engine, EngineSettings, check_memory
from daemon.embedded.ollama_errors import busy

log = structlog.get_logger("postroom.model_server")

_NEVER = timedelta(days=292 * 365)  # what Ollama tells for a model that is kept for ever


@dataclass(frozen=True)
class Limits:
    """How much one model takes on."""

    max_queue: int = 512
    """Requests that may wait for their turn; one more is refused with 503."""
    keep_alive: float = 300.0
    """Seconds that a model stays after its last request, where the request does not say; infinity is for ever."""


class Resident:
    """One model that this server offers, loaded or not."""

    def __init__(
        self,
        weights: Weights,
        path: Path,
        settings: EngineSettings,
        limits: Limits,
        *,
        start: Callable[[EngineSettings], Awaitable[Engine]] = Engine.start,
        free: Callable[[], int | None] = memory.available,
    ) -> None:
        self.weights = weights
        self.path = path
        self.settings = settings
        self.expires_at = datetime.now(UTC)
        self._limits = limits
        self._start = start
        self._free = free
        self._turns = asyncio.Semaphore(settings.parallel)
        self._waiting = 0
        self._running = 0
        self._engine: Engine | None = None
        self._loading: asyncio.Task[Engine] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._keep = limits.keep_alive

    @property
    def engine(self) -> Engine | None:
        """The engine while the model is loaded."""
        return self._engine if self._engine is not None and self._engine.alive else None

    @contextlib.asynccontextmanager
    async def use(self, keep_alive: float | None) -> AsyncIterator[Engine]:
        """Wait for a turn, load when needed, and keep the model for `keep_alive` seconds afterwards.

        Raises ApiError(503) when too many wait already, ApiError(500) when it cannot be loaded.
        """
        await self._take_turn()
        self._running += 1
        try:
            yield await self._loaded()
        finally:
            self._running -= 1
            self._turns.release()
            self._keep = self._limits.keep_alive if keep_alive is None else keep_alive
            self._schedule_unload()

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        if self._waiting >= self._limits.max_queue:
            raise busy()
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1

    async def _loaded(self) -> Engine:
        if self._timer is not None:
            self._timer.cancel()
        if self._unloading is not None:
            await self._unloading
        if self.engine is not None:
            return self.engine
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(self._loading_done)
        return await asyncio.shield(self._loading)  # who gives up waiting does not stop the loading

    def _loading_done(self, task: asyncio.Task[Engine]) -> None:
        self._loading = None
        if not task.cancelled() and task.exception() is None:
            self._engine = task.result()
            if not self._running:
                self._schedule_unload()

    async def _load(self) -> Engine:
        if self._engine is not None:  # it ended by itself: clear up what is left of it
            log.warning("engine_lost", model=self.weights.name, last_words=self._engine.last_words())
            await self._engine.stop()
            self._engine = None
        check_memory(self.weights, self.settings, self._free())
        started = time.monotonic()
        engine = await self._start(self.settings)
        log.info("model_loaded", model=self.weights.name, seconds=round(time.monotonic() - started, 2))
        return engine

    def _schedule_unload(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if math.isinf(self._keep):
            self.expires_at = datetime.now(UTC) + _NEVER
            return
        self.expires_at = datetime.now(UTC) + timedelta(seconds=min(self._keep, _NEVER.total_seconds()))
        self._timer = asyncio.get_running_loop().call_later(self._keep, self._expire)

    def _expire(self) -> None:
        if not self._running and not self._waiting and self._engine is not None:
            self._unloading = asyncio.create_task(self._unload())

    async def _unload(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
            log.info("model_unloaded", model=self.weights.name)
        self._unloading = None

    async def unload(self) -> None:
        """Unload now, or after the requests that run or wait have ended."""
        self._keep = 0.0
        if not self._running and not self._waiting:
            await self._unload()

    async def close(self) -> None:
        """Unload at once, whatever runs: the server is ending."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._loading
        await self._unload()
