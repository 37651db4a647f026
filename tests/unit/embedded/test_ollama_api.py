"""The routes without a model: error bodies, and what a client sees when the engine fails in mid-answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from daemon.embedded import ollama_api, presence
from daemon.embedded.catalogue import DEFAULT_MODEL, find
from daemon.embedded.engine import EngineSettings
from daemon.embedded.ollama_errors import ApiError, stopped
from daemon.embedded.residency import Limits, Resident

CHAT = {"model": DEFAULT_MODEL, "messages": [{"role": "user", "content": "hi"}]}
TIMINGS = {"cache_n": 2, "prompt_n": 3, "prompt_ms": 1.5, "predicted_n": 2, "predicted_ms": 2.5}
HEL, LO = {"content": "Hel", "stop": False}, {"content": "lo", "stop": False}
END = {"content": "", "stop": True, "stop_type": "eos", "timings": TIMINGS}


class Scripted:
    """An engine that answers what it was told to, events and exceptions alike."""

    def __init__(self, events: list[dict[str, Any] | Exception | str]) -> None:
        self.events = events
        self.alive = True
        self.resident = 1000
        self.grammar_failures = 0
        self.asked: list[dict[str, Any]] = []
        self.closed = asyncio.Event()

    def last_words(self) -> str:
        return "llg error: no such thing"

    async def render(self, messages: list[dict[str, str]]) -> str:
        return "".join(f"{message['role'][0]}:{message['content']};" for message in messages)

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        return list(text.encode())

    async def complete(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(body)
        try:
            for event in self.events:
                if event == "wait for ever":
                    await asyncio.sleep(3600)
                if event == "grammar lost":
                    self.grammar_failures += 1
                elif isinstance(event, Exception):
                    raise event
                elif isinstance(event, dict):
                    yield event
        finally:
            self.closed.set()

    async def stop(self) -> None:
        self.alive = False


Story = Callable[[httpx.AsyncClient, Scripted], Awaitable[None]]


def play(tmp_path: Path, story: Story, *events: dict[str, Any] | Exception | str, max_queue: int = 5) -> None:
    """Run a story against the application over an engine with these events."""

    async def run() -> None:
        engine = Scripted(list(events))
        (tmp_path / "model.gguf").write_bytes(b"GGUF")

        async def start(_: EngineSettings) -> Any:
            return engine

        settings = EngineSettings("model.gguf", context=2048)
        resident = Resident(
            find(DEFAULT_MODEL),
            tmp_path / "model.gguf",
            settings,
            Limits(max_queue=max_queue),
            start=start,
            free=lambda: None,
        )

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield

        app = ollama_api.application({DEFAULT_MODEL: resident}, 1024, lifespan)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
            await story(client, engine)
        await resident.close()

    asyncio.run(run())


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/api/chat", {"model": "nope", "messages": []}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("POST", "/api/embed", {"model": "nope", "input": "x"}, 404, "model 'nope' not found"),
        ("POST", "/api/show", {"model": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/show", {}, 400, "model is required"),
        ("POST", "/api/chat", None, 400, "missing request body"),
        ("POST", "/api/chat", CHAT | {"top_logprobs": 99}, 400, "top_logprobs must be between 0 and 20"),
        (
            "POST",
            "/api/chat",
            CHAT | {"format": "xml"},
            400,
            'invalid format: "xml"; expected "json" or a valid JSON Schema object',
        ),
    ],
)
def test_errors_have_ollamas_body(
    tmp_path: Path, method: str, path: str, body: dict[str, Any] | None, status: int, error: str
) -> None:
    """Every refusal is `{"error": "..."}` with its status."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.request(method, path, json=body) if body is not None else await client.post(path)
        assert (response.status_code, response.json()) == (status, {"error": error})

    play(tmp_path, story, END)


def test_stream_has_one_line_a_piece_and_a_last_one_with_the_costs(tmp_path: Path) -> None:
    """Pieces come as NDJSON; the last line says why it ended, and counts tokens and nanoseconds."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        response = await client.post("/api/chat", json=CHAT | {"options": {"num_predict": 7, "temperature": 0}})
        assert response.headers["content-type"] == "application/x-ndjson"
        first, second, last = lines(response)
        assert [first["message"]["content"], second["message"]["content"]] == ["Hel", "lo"]
        assert (first["done"], last["done"], last["done_reason"]) == (False, True, "stop")
        assert (last["prompt_eval_count"], last["eval_count"]) == (5, 2)
        assert (last["prompt_eval_duration"], last["eval_duration"]) == (1_500_000, 2_500_000)
        assert last["total_duration"] > 0
        assert engine.asked[0]["n_predict"] == 7
        assert engine.asked[0]["temperature"] == 0.0

    play(tmp_path, story, HEL, LO, END)


def test_without_streaming_one_object_has_it_all(tmp_path: Path) -> None:
    """stream=false joins all pieces and all log-probabilities."""

    def piece(text: str, logprob: float) -> dict[str, Any]:
        top = [{"token": text, "logprob": logprob}, {"token": "x", "logprob": -9.0}]
        token = {"id": 1, "token": text, "bytes": [1], "logprob": logprob, "top_logprobs": top}
        return {"content": text, "stop": False, "completion_probabilities": [token]}

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        body = {"model": DEFAULT_MODEL, "prompt": "p", "stream": False, "logprobs": True}
        answer = (await client.post("/api/generate", json=body)).json()
        assert answer["response"] == "Hü"
        assert answer["logprobs"] == [
            {"token": "H", "logprob": -0.1, "bytes": [72]},
            {"token": "ü", "logprob": -0.2, "bytes": [195, 188]},
        ]
        answer = (await client.post("/api/generate", json=body | {"top_logprobs": 1})).json()
        assert answer["logprobs"][0]["top_logprobs"] == [{"token": "H", "logprob": -0.1, "bytes": [72]}]

    play(tmp_path, story, piece("H", -0.1), piece("ü", -0.2), END)


@pytest.mark.parametrize("stream", [True, False])
def test_failure_before_the_first_piece_has_its_status(tmp_path: Path, stream: bool) -> None:
    """An engine that refuses at once gives its status, also to a client that wanted a stream."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.post("/api/chat", json=CHAT | {"stream": stream})
        assert (response.status_code, response.json()) == (400, {"error": "no such template"})

    play(tmp_path, story, ApiError(400, "no such template"))


def test_failure_in_mid_stream_is_a_line_with_error(tmp_path: Path) -> None:
    """When the engine falls over after some pieces, the status was sent; the last line tells the error."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.post("/api/chat", json=CHAT)
        assert response.status_code == 200
        told = lines(response)
        assert told[0]["message"]["content"] == "Hel"
        assert told[-1] == {"error": stopped("boom").message}

    play(tmp_path, story, HEL, stopped("boom"))


def test_failure_without_streaming_is_a_500(tmp_path: Path) -> None:
    """The same failure without streaming is a status, and no half answer."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.post("/api/chat", json=CHAT | {"stream": False})
        assert (response.status_code, response.json()) == (500, {"error": stopped("boom").message})

    play(tmp_path, story, HEL, stopped("boom"))


def test_answer_that_just_ends_is_an_error(tmp_path: Path) -> None:
    """A stream of the engine without a last event is not passed off as a whole answer."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        told = lines(await client.post("/api/chat", json=CHAT))
        assert told[-1] == {"error": "the engine ended the answer without saying why"}

    play(tmp_path, story, HEL)


def test_lost_grammar_is_an_error_not_free_text(tmp_path: Path) -> None:
    """Where the engine says that it could not read the grammar, its unconstrained text never reaches the client."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.post("/api/chat", json=CHAT | {"format": "json"})
        assert response.status_code == 500
        assert response.json()["error"].startswith("the engine could not follow `format`")

    play(tmp_path, story, "grammar lost", HEL, END)


async def begun(engine: Scripted) -> None:
    """Wait until the engine is asked something."""
    async with asyncio.timeout(60):
        while not engine.asked:  # noqa: ASYNC110  # a stand-in that tells nobody
            await asyncio.sleep(0.005)


def test_client_that_leaves_ends_the_generation(tmp_path: Path) -> None:
    """When the client closes, the engine's answer is closed and the turn is free for the next one."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        leaving = asyncio.create_task(client.post("/api/chat", json=CHAT | {"stream": False}))
        await begun(engine)
        leaving.cancel()
        await asyncio.wait_for(engine.closed.wait(), 60)
        engine.events = [END]
        assert (await client.post("/api/chat", json=CHAT)).status_code == 200

    play(tmp_path, story, HEL, "wait for ever")


def test_long_conversation_loses_its_oldest_but_never_system_or_last(tmp_path: Path) -> None:
    """Of a conversation longer than num_ctx the oldest messages are left out, the system's words and the last stay."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        messages = [{"role": "system", "content": "S" * 20}]
        messages += [{"role": "user", "content": f"{n}" * 30} for n in range(1, 6)]
        await client.post("/api/chat", json=CHAT | {"messages": messages, "options": {"num_ctx": 100}})
        prompt = bytes(engine.asked[0]["prompt"]).decode()
        assert prompt == f"s:{'S' * 20};u:{'4' * 30};u:{'5' * 30};"

    play(tmp_path, story, END)


def test_message_longer_than_the_context_is_cut_or_refused(tmp_path: Path) -> None:
    """A last message that alone is too long loses its middle down to half the context, unless truncate is false."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        body = CHAT | {"messages": [{"role": "user", "content": "x" * 200 + "END"}], "options": {"num_ctx": 100}}
        response = await client.post("/api/chat", json=body | {"truncate": False})
        assert response.status_code == 400
        assert "longer than the context length" in response.json()["error"]
        await client.post("/api/chat", json=body)
        prompt = bytes(engine.asked[0]["prompt"]).decode()
        assert len(prompt) == 100 - 48
        assert prompt.startswith("u:xx")
        assert prompt.endswith("xEND;")
        assert engine.asked[0]["n_predict"] == 48

    play(tmp_path, story, END)


def test_context_is_capped_by_the_engine(tmp_path: Path) -> None:
    """A request gets at most the context that the engine was started with, and the default when it says nothing."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        await client.post("/api/chat", json=CHAT | {"options": {"num_ctx": 100_000}})
        await client.post("/api/chat", json=CHAT)
        assert [asked["n_predict"] for asked in engine.asked] == [2048 - 5, 1024 - 5]
        assert (await client.get("/api/ps")).json()["models"][0]["context_length"] == 2048

    play(tmp_path, story, END)


def test_full_queue_is_503(tmp_path: Path) -> None:
    """One runs, none may wait: the second request at once gets 503."""

    async def story(client: httpx.AsyncClient, engine: Scripted) -> None:
        running = asyncio.create_task(client.post("/api/chat", json=CHAT))
        await begun(engine)
        response = await client.post("/api/chat", json=CHAT)
        assert (response.status_code, response.json()["error"][:11]) == (503, "server busy")
        running.cancel()

    play(tmp_path, story, HEL, "wait for ever", max_queue=0)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:11434", 200),
        ("localhost", 200),
        ("[::1]:11434", 200),
        ("model.internal:80", 200),
        ("10.1.2.3", 200),
        ("evil.example", 403),
        ("8.8.8.8:11434", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_foreign_host_names_are_refused(tmp_path: Path, host: str, status: int) -> None:
    """A page that reaches loopback by a DNS name of its own is refused (DNS rebinding)."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        assert (await client.get("/api/version", headers={"host": host})).status_code == status

    play(tmp_path, story)


def test_body_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the limit is refused while it comes in."""
    monkeypatch.setattr(presence, "MAX_BODY", 1000)

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        response = await client.post("/api/chat", content=os.urandom(2000))
        assert response.status_code == 413

    play(tmp_path, story)


def test_answers_that_need_no_model(tmp_path: Path) -> None:
    """Root, version, tags, ps and show answer while nothing is loaded."""

    async def story(client: httpx.AsyncClient, _: Scripted) -> None:
        assert (await client.get("/")).text == "Ollama is running"
        assert (await client.head("/")).status_code == 200
        assert (await client.get("/api/version")).json() == {"version": ollama_api.VERSION}
        (model,) = (await client.get("/api/tags")).json()["models"]
        assert (model["name"], model["digest"]) == (DEFAULT_MODEL, find(DEFAULT_MODEL).sha256)
        assert (await client.get("/api/ps")).json() == {"models": []}
        shown = (await client.post("/api/show", json={"model": DEFAULT_MODEL.upper()})).json()
        assert shown["model_info"]["qwen2.context_length"] == 32_768

    play(tmp_path, story)
