"""The embedded model server: Ollama's HTTP API over llama.cpp from a wheel.

    python -m daemon.embedded.model_server [--host 127.0.0.1] [--port 11434] [--model NAME] ...

Brings the weights first (once), then listens, and loads the model in a process of its own. Honours OLLAMA_NUM_PARALLEL,
OLLAMA_MAX_QUEUE, OLLAMA_KEEP_ALIVE and OLLAMA_CONTEXT_LENGTH, as Ollama does. Ends at SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette

from daemon.embedded import ollama_api, weights
from daemon.embedded.catalogue import CATALOGUE, DEFAULT_MODEL, find
from daemon.embedded.engine import EngineSettings
from daemon.embedded.ollama_errors import ApiError
from daemon.embedded.ollama_requests import read_keep_alive
from daemon.embedded.residency import Limits, Resident
from daemon.notify import tell_ready
from tasks.errors import Permanent, PostroomError

log = structlog.get_logger("postroom.model_server")


class ServerError(Permanent):
    """The model server cannot start as it was told to."""


@dataclass(frozen=True)
class ServerSettings:
    """What the model server is started with."""

    host: str = "127.0.0.1"
    port: int = 11434
    """0 takes a free one; the line on standard output tells which."""
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    """Names of the models to offer; the first one is loaded at the start."""
    cache: Path = field(default_factory=weights.default_cache)
    """Folder of the model files."""
    context: int = 8192
    """Tokens of context that the engine is started with: the most that a request can have."""
    default_context: int = 4096
    """Tokens of context of a request that does not say num_ctx."""
    threads: int = 0
    """Threads for computing; 0 is one for each processor."""
    parallel: int = 1
    """Requests at once."""
    max_queue: int = 512
    """Requests that may wait."""
    keep_alive: float = 300.0
    """Seconds that a model stays in memory after its last request; infinity is for ever."""
    prompt_cache_mib: int = 512
    """Memory (MiB) for the states of earlier prompts."""
    preload: bool = True
    """Whether the first model is loaded at the start."""


def run(settings: ServerSettings) -> None:
    """Bring the weights, listen, and serve until SIGTERM or Ctrl-C.

    Raises WeightsError, or ServerError when the address is taken.
    """
    paths = {name: _bring(name, settings.cache) for name in settings.models}
    listening = _listen(settings.host, settings.port)
    residents = {name: _resident(name, path, settings) for name, path in paths.items()}
    url = f"http://{_shown_host(settings.host)}:{listening.getsockname()[1]}"

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        print(f"postroom model server: {url} model={','.join(settings.models)}", flush=True)  # told to whoever waits
        log.info("model_server_ready", url=url, models=list(settings.models), context=settings.context)
        tell_ready(f"ollama on {url}")
        loading = asyncio.create_task(_preload(residents[settings.models[0]])) if settings.preload else None
        try:
            yield
        finally:
            if loading is not None:
                loading.cancel()
            await asyncio.gather(*(resident.close() for resident in residents.values()))

    app = ollama_api.application(residents, min(settings.default_context, settings.context), lifespan)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on")
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down in order and repeats the signal
        server.run(sockets=[listening])


def _bring(name: str, cache: Path) -> Path:
    with weights.bar(find(name)) as progress:
        return weights.ensure(name, cache, progress=progress)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ServerError(
            f"the model server cannot listen on {host}, port {port}: {error}; is Ollama or another model server "
            "running? Point OLLAMA_HOST at it, or choose another --port"
        ) from error


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _resident(name: str, path: Path, settings: ServerSettings) -> Resident:
    known = find(name)
    engine = EngineSettings(
        path=str(path),
        context=min(settings.context, known.trained_context),
        parallel=settings.parallel,
        threads=settings.threads,
        prompt_cache_mib=settings.prompt_cache_mib,
    )
    return Resident(known, path, engine, Limits(settings.max_queue, settings.keep_alive))


async def _preload(resident: Resident) -> None:
    try:
        async with resident.use(None):
            return
    except ApiError as error:
        log.warning("model_not_loaded", model=resident.weights.name, reason=error.message)


def _environment_number(name: str, default: int, least: int) -> int:
    """A whole number from the environment. Raises ServerError naming the variable."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit() or not least <= int(text) < 2**31:
        raise ServerError(f"{name}={text!r} is not a whole number of at least {least}; write {name}={default}")
    return int(text)


def settings_from(arguments: list[str] | None = None) -> ServerSettings:
    """Settings from the command line over the environment over the defaults.

    Raises ServerError for an environment variable that makes no sense; a bad option ends with status 2.
    """
    known = ServerSettings()
    parser = argparse.ArgumentParser(
        prog="python -m daemon.embedded.model_server", description="Ollama's HTTP API over llama.cpp from a wheel."
    )
    add = parser.add_argument
    add("--host", default=known.host, help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=known.port, help="port to listen on, 0 for a free one (default: %(default)s)")
    add("--model", action="append", choices=list(CATALOGUE), help=f"may be repeated (default: {DEFAULT_MODEL})")
    add("--cache", type=Path, default=known.cache, help="folder for model files (default: %(default)s)")
    add("--context", type=int, default=known.context, help="most tokens of context (default: %(default)s)")
    add("--threads", type=int, default=0, help="threads for computing (default: one for each processor)")
    add("--prompt-cache", type=int, default=known.prompt_cache_mib, help="MiB for earlier prompts (%(default)s)")
    add("--no-preload", action="store_true", help="load the model at the first request")
    options = parser.parse_args(arguments)
    if options.context < 512 or options.threads < 0 or options.prompt_cache < 0 or not 0 <= options.port < 65536:
        parser.error("--context must be at least 512, --port below 65536, and no number negative")
    return ServerSettings(
        host=options.host,
        port=options.port,
        models=tuple(dict.fromkeys(options.model or known.models)),
        cache=options.cache,
        context=options.context,
        default_context=_environment_number("OLLAMA_CONTEXT_LENGTH", known.default_context, 4),
        threads=options.threads,
        parallel=_environment_number("OLLAMA_NUM_PARALLEL", known.parallel, 1),
        max_queue=_environment_number("OLLAMA_MAX_QUEUE", known.max_queue, 0),
        keep_alive=_environment_keep_alive(known.keep_alive),
        prompt_cache_mib=options.prompt_cache,
        preload=not options.no_preload,
    )


def _environment_keep_alive(default: float) -> float:
    text = os.environ.get("OLLAMA_KEEP_ALIVE", "").strip()
    if not text:
        return default
    try:
        seconds = read_keep_alive(float(text) if text.lstrip("-").isdigit() else text)
    except ApiError as error:
        raise ServerError(f"OLLAMA_KEEP_ALIVE={text!r}: {error.message}; write 5m, 0 or -1") from error
    return default if seconds is None or math.isnan(seconds) else seconds


def main(arguments: list[str] | None = None) -> int:
    """Start from the command line; exit status 1 with one message when that fails."""
    try:
        run(settings_from(arguments))
    except PostroomError as error:
        print(f"postroom: {error.reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
