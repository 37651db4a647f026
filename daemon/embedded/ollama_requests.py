"""Reads the bodies of Ollama's requests into frozen values, with Ollama's defaults and refusals.

Field names and defaults follow Ollama's API (docs/embedded.md lists where this server differs). Unknown fields are
ignored and null means "not given", as there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from daemon.embedded.ollama_errors import ApiError

FOREVER = math.inf
MAX_STOPS = 64
MAX_MESSAGES = 4096
MAX_INPUTS = 1024
_INT32 = 2**31 - 1
_FLOAT_LIMIT = 1e6
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Options:
    """How to generate; the defaults are Ollama's."""

    num_ctx: int = 0
    """Context (tokens); 0 means the server's default."""
    num_predict: int = -1
    """Most tokens to generate; below 0 means until the context is full."""
    num_keep: int = 4
    seed: int = -1
    top_k: int = 40
    repeat_last_n: int = 64
    temperature: float = 0.8
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()

    def sampling(self) -> dict[str, Any]:
        """The fields that the engine takes under the same name."""
        own = {"num_ctx", "num_predict", "num_keep"}
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in own}


@dataclass(frozen=True)
class Common:
    """What every request to a model may carry."""

    model: str
    options: Options
    keep_alive: float | None
    """Seconds to keep the model after this request; FOREVER; None means the server's default."""
    truncate: bool


@dataclass(frozen=True)
class Generating(Common):
    """What chat and generate share."""

    stream: bool
    format: Any
    logprobs: bool
    top_logprobs: int


@dataclass(frozen=True)
class Chat(Generating):
    """Body of `/api/chat`."""

    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Generate(Generating):
    """Body of `/api/generate`."""

    prompt: str
    system: str
    raw: bool
    context: tuple[int, ...]


@dataclass(frozen=True)
class Embed(Common):
    """Body of `/api/embed`."""

    input: tuple[str, ...]
    dimensions: int


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises ApiError(400) when there is none.
    """
    if not body.strip():
        raise ApiError(400, "missing request body")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"the request body must be a JSON object, not {_kind(value)}")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def read_chat(body: dict[str, Any]) -> Chat:
    """Read `/api/chat`. Raises ApiError(400)."""
    return Chat(messages=_messages(body), **_generating(body))


def read_generate(body: dict[str, Any]) -> Generate:
    """Read `/api/generate`. Raises ApiError(400)."""
    raw, system = _get(body, "raw", bool, False), _get(body, "system", str, "")
    template, context = _get(body, "template", str, ""), _get(body, "context", list, [])
    if raw and (template or system or context):
        raise ApiError(400, "raw mode does not support template, system, or context")
    if template:
        raise ApiError(400, "this server has no Go templates: send `raw` with the finished prompt, or use /api/chat")
    if _get(body, "suffix", str, ""):
        raise ApiError(400, f"{body.get('model')} does not support insert")
    if not all(type(token) is int and 0 <= token <= _INT32 for token in context):
        raise ApiError(400, "context must be an array of token numbers")
    _no_images(body)
    return Generate(
        prompt=_get(body, "prompt", str, ""), system=system, raw=raw, context=tuple(context), **_generating(body)
    )


def read_embed(body: dict[str, Any]) -> Embed:
    """Read `/api/embed`. Raises ApiError(400)."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) and given else [] if given in (None, "") else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "invalid input type")
    if len(texts) > MAX_INPUTS:
        raise ApiError(400, f"input has {len(texts)} texts; at most {MAX_INPUTS} in one request")
    return Embed(input=tuple(texts), dimensions=_get(body, "dimensions", int, 0), **_common(body))


def _common(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": _get(body, "model", str, ""),
        "options": read_options(_get(body, "options", dict, {})),
        "keep_alive": read_keep_alive(body.get("keep_alive")),
        "truncate": _get(body, "truncate", bool, True),
    }


def _generating(body: dict[str, Any]) -> dict[str, Any]:
    top = _get(body, "top_logprobs", int, 0)
    if not 0 <= top <= 20:
        raise ApiError(400, "top_logprobs must be between 0 and 20")
    if _get(body, "tools", list, []):
        raise ApiError(400, f"{body.get('model')} does not support tools")
    if body.get("think"):
        raise ApiError(400, f'"{body.get("model")}" does not support thinking')
    return _common(body) | {
        "stream": _get(body, "stream", bool, True),
        "format": body.get("format"),
        "logprobs": _get(body, "logprobs", bool, False),
        "top_logprobs": top,
    }


def _messages(body: dict[str, Any]) -> tuple[dict[str, str], ...]:
    given = _get(body, "messages", list, [])
    if len(given) > MAX_MESSAGES:
        raise ApiError(400, f"{len(given)} messages; at most {MAX_MESSAGES} in one request")
    return tuple(_message(item, place) for place, item in enumerate(given))


def _message(item: Any, place: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise ApiError(400, f"messages[{place}] must be an object, not {_kind(item)}")
    _no_images(item)
    where = f"messages[{place}]."
    return {
        "role": _get(item, "role", str, "", where).lower(),
        "content": _get(item, "content", str, "", where),
    }


def _no_images(item: dict[str, Any]) -> None:
    if item.get("images"):
        raise ApiError(400, "this model cannot read images: send their text instead")


def read_options(given: Mapping[str, Any]) -> Options:
    """Read `options`: whole numbers may be written as 5.0, unknown names are ignored.

    Raises ApiError(400) naming the option and the type it must have.
    """
    known: dict[str, Any] = {}
    for item in fields(Options):
        value = given.get(item.name)
        if value is not None:
            known[item.name] = _option(item.name, item.default, value)
    return Options(**known)


def _option(name: str, default: Any, value: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list):
            raise ApiError(400, f'option "{name}" must be of type array')
        if not all(isinstance(text, str) for text in value):
            raise ApiError(400, f'option "{name}" must be of an array of strings')
        if len(value) > MAX_STOPS:
            raise ApiError(400, f'option "{name}" has {len(value)} entries; at most {MAX_STOPS}')
        return tuple(text for text in value if text)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(400, f'option "{name}" must be of type {"integer" if whole else "float32"}')
    limit = _INT32 if whole else _FLOAT_LIMIT
    bounded = max(-limit, min(limit, value))
    return int(bounded) if whole else float(bounded)


def read_keep_alive(value: Any) -> float | None:
    """Seconds from a number or a Go duration ("5m", "1h30m"); below 0 is FOREVER; None stays None.

    Raises ApiError(400) for anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ApiError(400, f"keep_alive must be a number of seconds or a duration like 5m, not {_kind(value)}")
    seconds = _go_duration(value) if isinstance(value, str) else float(value)
    return FOREVER if seconds < 0 else seconds


def _go_duration(text: str) -> float:
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if len(rest) > 64 or not rest or _DURATION.sub("", rest):
        raise ApiError(400, f'time: invalid duration "{text[:64]}"')
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(rest))


def _get(body: dict[str, Any], name: str, kind: type, default: Any, where: str = "") -> Any:
    """A field of the given type; null or absent gives the default. Raises ApiError(400) for another type."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ApiError(400, f"{where}{name} must be {_KINDS[kind]}, not {_kind(value)}")
    return value


_KINDS = {
    bool: "a boolean",
    str: "a string",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "null")
