"""From a request to the engine's events: the prompt, what to do when it is too long, and the pieces that come back."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.embedded import grammar
from daemon.embedded.engine import Engine
from daemon.embedded.ollama_errors import ApiError
from daemon.embedded.ollama_requests import Embed, Generating, Options

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True)
class Piece:
    """A part of the answer; the last one says how it ended and what it cost."""

    content: str
    logprobs: list[dict[str, Any]] | None = None
    done_reason: str = ""
    """`stop` or `length` in the last piece, empty before."""
    prompt_tokens: int = 0
    prompt_ns: int = 0
    tokens: int = 0
    tokens_ns: int = 0


async def chat_prompt(
    engine: Engine, messages: Sequence[dict[str, str]], num_ctx: int, *, truncate: bool
) -> tuple[str, list[int]]:
    """The prompt for a conversation, and its tokens.

    Where it is longer than the context, the oldest messages are left out, but never a system message nor the last one.
    A last message by the assistant is left open, so that the answer continues it.
    """
    for start in range(len(messages)):
        system = [message for message in messages[:start] if message["role"] == "system"]
        prompt = await engine.render([*system, *messages[start:]])
        tokens = await engine.tokenize(prompt, add_special=True)
        if not truncate or len(tokens) <= num_ctx:
            break
    return prompt, tokens


def fit(tokens: list[int], options: Options, num_ctx: int, *, truncate: bool) -> list[int]:
    """Cut a prompt that does not fit: its first `num_keep` tokens stay, then the oldest go until half is free.

    Raises ApiError(400) where cutting was forbidden.
    """
    if len(tokens) < num_ctx:
        return tokens
    if not truncate:
        raise ApiError(400, TOO_LONG)
    keep = min(len(tokens) if options.num_keep < 0 else options.num_keep, num_ctx - 1)
    limit = num_ctx - max((num_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (limit - keep) :]


async def embed(engine: Engine, request: Embed, limit: int) -> tuple[list[list[float]], int]:
    """Vectors of length one for the request's texts, and their tokens together.

    Raises ApiError(400) for a text longer than `limit` tokens where cutting its end was forbidden.
    """
    vectors, count = [], 0
    for text in request.input:
        vector, tokens = await engine.embed(await _shortened(engine, text, limit, truncate=request.truncate))
        if 0 < request.dimensions < len(vector):
            vector = vector[: request.dimensions]
        length = math.sqrt(sum(value * value for value in vector))
        vectors.append([value / max(length, 1e-12) for value in vector])
        count += tokens
    return vectors, count


async def _shortened(engine: Engine, text: str, limit: int, *, truncate: bool) -> str:
    tokens = await engine.tokenize(text)
    if len(tokens) <= limit:
        return text
    if not truncate:
        raise ApiError(400, "the input length exceeds the context length")
    return await engine.detokenize(tokens[:limit])


async def run(engine: Engine, request: Generating, tokens: list[int], num_ctx: int) -> AsyncIterator[Piece]:
    """Generate from prompt tokens; closing the iterator ends the generation.

    Raises ApiError, also in mid-stream.
    """
    options = request.options
    room = max(num_ctx - len(tokens), 0)
    body: dict[str, Any] = options.sampling() | {
        "prompt": tokens,
        "n_predict": room if options.num_predict < 0 else min(options.num_predict, room),
        "cache_prompt": True,
        "n_probs": max(request.top_logprobs, 1) if request.logprobs else 0,
    }
    if constraint := grammar.of(request.format):
        body["grammar"] = constraint
    failures = engine.grammar_failures
    async for event in engine.complete(body):
        if constraint and engine.grammar_failures > failures:
            raise ApiError(500, f"the engine could not follow `format`: {engine.last_words()}")
        probabilities = event.get("completion_probabilities")
        logprobs = [_logprob(item, request.top_logprobs) for item in probabilities] if probabilities else None
        if event.get("stop"):
            yield _last(event, logprobs)
            return
        if event["content"] or logprobs:
            yield Piece(event["content"], logprobs)
    raise ApiError(500, "the engine ended the answer without saying why")


def _last(event: dict[str, Any], logprobs: list[dict[str, Any]] | None) -> Piece:
    timings = event["timings"]
    return Piece(
        content=event["content"],
        logprobs=logprobs,
        done_reason="length" if event.get("stop_type") == "limit" else "stop",
        prompt_tokens=timings["cache_n"] + timings["prompt_n"],
        prompt_ns=round(timings["prompt_ms"] * 1e6),
        tokens=timings["predicted_n"],
        tokens_ns=round(timings["predicted_ms"] * 1e6),
    )


def _logprob(item: dict[str, Any], top: int) -> dict[str, Any]:
    """One token's log-probability in Ollama's shape; alternatives only where they were asked for."""
    shaped = _token(item)
    if top:
        shaped["top_logprobs"] = [_token(other) for other in item.get("top_logprobs", [])[:top]]
    return shaped


def _token(item: dict[str, Any]) -> dict[str, Any]:
    token = str(item["token"])
    shaped: dict[str, Any] = {"token": token, "logprob": item["logprob"]}
    if token:
        shaped["bytes"] = list(token.encode())
    return shaped
