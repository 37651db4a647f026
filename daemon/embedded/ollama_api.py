"""The routes of Ollama's HTTP API over the embedded engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from daemon.embedded import generation
from daemon.embedded import ollama_requests as requests
from daemon.embedded.engine import Engine
from daemon.embedded.ollama_errors import ApiError, not_found
from daemon.embedded.presence import ClientGone, NdjsonStream, OnlyLocalHosts, Presence, read_body
from daemon.embedded.residency import Resident

VERSION = "0.0.0-postroom"
"""Answer of `/api/version`: marks this server as not being Ollama itself."""

Shape = Callable[[generation.Piece], dict[str, Any]]


def application(residents: dict[str, Resident], default_context: int, lifespan: Lifespan[Starlette]) -> Starlette:
    """The web application for the given models (by name); `default_context` is used where a request has no num_ctx."""
    api = Api(residents, default_context)
    routes = [
        Route("/", _running, methods=["GET", "HEAD"]),
        Route("/api/version", _version, methods=["GET", "HEAD"]),
        Route("/api/tags", api.tags, methods=["GET", "HEAD"]),
        Route("/api/ps", api.ps, methods=["GET"]),
        Route("/api/show", api.show, methods=["POST"]),
        Route("/api/chat", api.chat, methods=["POST"]),
        Route("/api/generate", api.generate, methods=["POST"]),
        Route("/api/embed", api.embed, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(OnlyLocalHosts)],
        exception_handlers={ApiError: _tell, ClientGone: _nobody},
    )


async def _tell(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse({"error": error.message}, status_code=error.status)


async def _nobody(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "request canceled"}, status_code=499)


async def _running(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return JSONResponse({"version": VERSION})


@dataclass(frozen=True)
class Work:
    """One generation that is about to start."""

    model: str
    engine: Engine
    request: requests.Generating
    tokens: list[int]
    num_ctx: int
    started_ns: int
    loaded_ns: int


class Api:
    """The handlers, with the models that they offer."""

    def __init__(self, residents: dict[str, Resident], default_context: int) -> None:
        self._residents = residents
        self._default_context = default_context

    def _find(self, name: str) -> Resident:
        """A model by name. Raises ApiError(404)."""
        resident = self._residents.get(name.lower())
        if resident is None:
            raise not_found(name)
        return resident

    def _context(self, resident: Resident, options: requests.Options) -> int:
        """The context (tokens) that a request gets: what it asks for, up to what the engine was started with."""
        return min(max(options.num_ctx or self._default_context, 4), resident.settings.context)

    async def tags(self, _: Request) -> Response:
        """List the models."""
        return JSONResponse({"models": [_listed(resident) for resident in self._residents.values()]})

    async def ps(self, _: Request) -> Response:
        """List the models that are loaded, with what they hold and until when."""
        loaded = [(resident, resident.engine) for resident in self._residents.values()]
        return JSONResponse(
            {
                "models": [
                    {key: value for key, value in _listed(resident).items() if key != "modified_at"}
                    | {
                        "size": engine.resident,
                        "expires_at": _rfc3339(resident.expires_at),
                        "size_vram": 0,
                        "context_length": resident.settings.context,
                    }
                    for resident, engine in loaded
                    if engine is not None
                ]
            }
        )

    async def show(self, request: Request) -> Response:
        """Describe one model."""
        body = requests.parse(await read_body(request))
        name = body.get("model") or body.get("name")
        if not isinstance(name, str):
            raise ApiError(400, "model is required")
        return JSONResponse(_shown(self._find(name)))

    async def chat(self, request: Request) -> Response:
        """Continue a conversation."""
        started = time.monotonic_ns()
        wanted = requests.read_chat(requests.parse(await read_body(request)))
        resident = self._find(wanted.model)

        def shape(piece: generation.Piece) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": piece.content}}

        if not wanted.messages:
            return await self._only_load(request, resident, wanted, shape)

        async def prepare(engine: Engine, num_ctx: int) -> list[int]:
            _, tokens = await generation.chat_prompt(engine, wanted.messages, num_ctx, truncate=wanted.truncate)
            return tokens

        return await self._answer(request, resident, wanted, prepare, shape, started)

    async def generate(self, request: Request) -> Response:
        """Answer one prompt, through the model's template unless `raw`."""
        started = time.monotonic_ns()
        wanted = requests.read_generate(requests.parse(await read_body(request)))
        resident = self._find(wanted.model)

        def shape(piece: generation.Piece) -> dict[str, Any]:
            return {"response": piece.content}

        if not wanted.prompt:
            return await self._only_load(request, resident, wanted, shape)

        async def prepare(engine: Engine, num_ctx: int) -> list[int]:
            if wanted.raw:
                return await engine.tokenize(wanted.prompt, add_special=True)
            system = [{"role": "system", "content": wanted.system}] if wanted.system else []
            messages = [*system, {"role": "user", "content": wanted.prompt}]
            _, tokens = await generation.chat_prompt(engine, messages, num_ctx, truncate=wanted.truncate)
            return [*wanted.context, *tokens]

        return await self._answer(request, resident, wanted, prepare, shape, started)

    async def embed(self, request: Request) -> Response:
        """Vectors of length one for texts."""
        started = time.monotonic_ns()
        wanted = requests.read_embed(requests.parse(await read_body(request)))
        resident = self._find(wanted.model)
        async with Presence(request) as presence, AsyncExitStack() as stack:
            engine = await presence.hold(stack.enter_async_context(resident.use(wanted.keep_alive)))
            loaded = time.monotonic_ns()
            limit = self._context(resident, wanted.options)
            vectors, count = await presence.hold(generation.embed(engine, wanted, limit))
        answer: dict[str, Any] = {"model": wanted.model, "embeddings": vectors}
        if vectors:
            answer |= _metrics(
                total_duration=time.monotonic_ns() - started, load_duration=loaded - started, prompt_eval_count=count
            )
        return JSONResponse(answer)

    async def _only_load(
        self, request: Request, resident: Resident, wanted: requests.Generating, shape: Shape
    ) -> Response:
        """A request without a prompt loads the model, or unloads it where keep_alive is 0."""
        if wanted.keep_alive == 0:
            await resident.unload()
            reason = "unload"
        else:
            async with Presence(request) as presence, AsyncExitStack() as stack:
                await presence.hold(stack.enter_async_context(resident.use(wanted.keep_alive)))
            reason = "load"
        return JSONResponse(
            _head(wanted.model) | shape(generation.Piece("")) | {"done": True, "done_reason": reason},
        )

    async def _answer(
        self,
        request: Request,
        resident: Resident,
        wanted: requests.Generating,
        prepare: Callable[[Engine, int], Any],
        shape: Shape,
        started: int,
    ) -> Response:
        """Wait for a turn, generate, and answer as one object or as a stream; ends when the client is gone."""
        presence, stack = Presence(request), AsyncExitStack()
        await stack.enter_async_context(presence)
        try:
            engine = await presence.hold(stack.enter_async_context(resident.use(wanted.keep_alive)))
            loaded = time.monotonic_ns()
            num_ctx = self._context(resident, wanted.options)
            tokens = await presence.hold(prepare(engine, num_ctx))
            tokens = generation.fit(tokens, wanted.options, num_ctx, truncate=wanted.truncate)
            work = Work(wanted.model, engine, wanted, tokens, num_ctx, started, loaded)
            lines = presence.each(_lines(work, shape))
            stack.push_async_callback(lines.aclose)
            first = await anext(lines)  # an error before the first piece still gets its own status
            if wanted.stream:
                return NdjsonStream(first, lines, stack)
            whole = [first] + [line async for line in lines]
            await stack.aclose()
            return JSONResponse(_joined(whole))
        except BaseException:
            await stack.aclose()
            raise


async def _lines(work: Work, shape: Shape) -> AsyncIterator[dict[str, Any]]:
    """The answer's objects in Ollama's shape, one for each piece."""
    said: list[str] = []
    async for piece in generation.run(work.engine, work.request, work.tokens, work.num_ctx):
        said.append(piece.content)
        line = _head(work.model) | shape(piece) | {"done": bool(piece.done_reason)}
        if piece.done_reason:
            line["done_reason"] = piece.done_reason
            if isinstance(work.request, requests.Generate) and not work.request.raw:
                line["context"] = [*work.tokens, *await work.engine.tokenize("".join(said))]
            line |= _metrics(
                total_duration=time.monotonic_ns() - work.started_ns,
                load_duration=work.loaded_ns - work.started_ns,
                prompt_eval_count=piece.prompt_tokens,
                prompt_eval_duration=piece.prompt_ns,
                eval_count=piece.tokens,
                eval_duration=piece.tokens_ns,
            )
        if piece.logprobs:
            line["logprobs"] = piece.logprobs
        yield line


def _joined(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """One object for the whole answer: the last line with all text and all log-probabilities."""
    whole = dict(lines[-1])
    if "message" in whole:
        whole["message"] = {"role": "assistant", "content": "".join(line["message"]["content"] for line in lines)}
    else:
        whole["response"] = "".join(line["response"] for line in lines)
    logprobs = [item for line in lines for item in line.get("logprobs", [])]
    if logprobs:
        whole["logprobs"] = logprobs
    return whole


def _head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": _rfc3339(datetime.now(UTC))}


def _metrics(**values: int) -> dict[str, int]:
    """Counts and nanoseconds; those that are 0 are left out, as Ollama does."""
    return {name: value for name, value in values.items() if value}


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _details(resident: Resident) -> dict[str, Any]:
    weights = resident.weights
    return {
        "parent_model": "",
        "format": "gguf",
        "family": weights.family,
        "families": [weights.family],
        "parameter_size": weights.parameters,
        "quantization_level": weights.quantization,
    }


def _listed(resident: Resident) -> dict[str, Any]:
    weights = resident.weights
    changed = datetime.fromtimestamp(resident.path.stat().st_mtime, UTC)
    return {
        "name": weights.name,
        "model": weights.name,
        "modified_at": _rfc3339(changed),
        "size": weights.size,
        "digest": weights.sha256,
        "details": _details(resident),
    }


def _shown(resident: Resident) -> dict[str, Any]:
    weights = resident.weights
    return {
        "modelfile": f"# served by Postroom's embedded model server\nFROM {resident.path.name}\n",
        "details": _details(resident),
        "model_info": {
            "general.architecture": weights.family,
            f"{weights.family}.context_length": weights.trained_context,
            "postroom.context_length": resident.settings.context,
        },
        "capabilities": ["completion", "embedding"],
        "modified_at": _listed(resident)["modified_at"],
    }
