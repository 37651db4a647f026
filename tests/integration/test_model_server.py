"""Ollama's API as Postroom uses it, over the real model, driven by the real `ollama` client and by raw HTTP.

By default against the embedded model server. With POSTROOM_TEST_OLLAMA=http://127.0.0.1:PORT (and POSTROOM_TEST_MODEL)
the same tests run against that server, so that the embedded one can be held against a real Ollama. Where the two differ
on purpose (docs/embedded.md) a test says so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).resolve().parents[2]
ELSEWHERE = os.environ.get("POSTROOM_TEST_OLLAMA", "")
MODEL = os.environ.get("POSTROOM_TEST_MODEL", "qwen2.5-coder:1.5b")
embedded_only = pytest.mark.skipif(bool(ELSEWHERE), reason="only of the embedded server")
COLD = {"temperature": 0, "seed": 1}
HELLO = [{"role": "user", "content": "Say hello in one word."}]
INVOICE = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "total": {"type": "number"}, "label": {"enum": ["invoice", "other"]}},
    "required": ["number", "total", "label"],
}


@dataclass
class Server:
    """A running server and, where it is ours, its process."""

    url: str
    process: subprocess.Popen[str] | None = None

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=200)

    def client(self) -> ollama.Client:
        return ollama.Client(host=self.url, timeout=200)

    def engines(self) -> list[int]:
        """Process ids of the engines below the server."""
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def started(*options: str, **environment: str) -> Server:
    """An embedded server on a free port; its first line tells the address."""
    command = [sys.executable, "-m", "daemon.embedded.model_server", "--port", "0", "--model", MODEL, *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=clean | environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:3] == ["postroom", "model", "server:"], words
    threading.Thread(target=process.stdout.read, daemon=True).start()  # so that its log never blocks it
    return Server(words[3], process)


def ended(server: Server) -> None:
    assert server.process is not None
    server.process.terminate()
    try:
        server.process.wait(10)
    finally:
        server.process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for all tests of this file: one request at once, two may wait."""
    if ELSEWHERE:
        yield Server(ELSEWHERE)
        return
    server = started(OLLAMA_MAX_QUEUE="2", OLLAMA_NUM_PARALLEL="1", OLLAMA_KEEP_ALIVE="-1")
    yield server
    ended(server)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture
def client(server: Server) -> ollama.Client:
    return server.client()


def chat(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """One answer of /api/chat without streaming."""
    response = http.post("/api/chat", json={"model": MODEL, "stream": False, "options": COLD} | fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stream(http: httpx.Client, path: str, **fields: Any) -> list[dict[str, Any]]:
    """All lines of a streamed answer."""
    with http.stream("POST", path, json={"model": MODEL, "options": COLD} | fields) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


class TestChat:
    """/api/chat."""

    def test_one_answer(self, client: ollama.Client) -> None:
        """Without streaming there is one message, a reason for its end, counts and durations."""
        answer = client.chat(model=MODEL, messages=HELLO, options=COLD)
        assert "hello" in (answer.message.content or "").lower()
        assert (answer.message.role, answer.done, answer.done_reason) == ("assistant", True, "stop")
        assert 20 < (answer.prompt_eval_count or 0) < 60
        assert 0 < (answer.eval_count or 0) < 20
        assert (answer.total_duration or 0) >= (answer.eval_duration or 0) > 0
        assert answer.prompt_eval_duration
        assert answer.load_duration

    def test_streamed_answer(self, client: ollama.Client) -> None:
        """Streaming gives the same text in pieces; only the last piece is done and has the counts."""
        parts = list(client.chat(model=MODEL, messages=HELLO, options=COLD, stream=True))
        assert "hello" in "".join(part.message.content or "" for part in parts).lower()
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert parts[-1].done_reason == "stop"
        assert parts[-1].eval_count
        assert parts[0].eval_count is None

    def test_num_predict_ends_with_length(self, http: httpx.Client) -> None:
        """Exactly num_predict tokens, and the reason is `length`."""
        answer = chat(http, messages=[{"role": "user", "content": "Count to 100."}], options=COLD | {"num_predict": 5})
        assert (answer["done_reason"], answer["eval_count"]) == ("length", 5)

    def test_stop_text_ends_the_answer_and_is_left_out(self, http: httpx.Client) -> None:
        """The answer ends before a stop text; the reason is `stop`."""
        messages = [{"role": "user", "content": "Write exactly: one two three four five six"}]
        answer = chat(http, messages=messages, options=COLD | {"stop": ["four"], "num_predict": 40})
        assert answer["message"]["content"].strip().endswith("three")
        assert answer["done_reason"] == "stop"

    def test_schema_is_followed(self, client: ollama.Client) -> None:
        """With a schema as format the answer is JSON of that schema."""
        messages = [{"role": "user", "content": "Invoice RE-17, total 12.50 EUR. Give number, total, label."}]
        answer = client.chat(model=MODEL, messages=messages, format=INVOICE, options=COLD | {"num_predict": 100})
        assert answer.done_reason == "stop"
        assert json.loads(answer.message.content or "") == {"number": "RE-17", "total": 12.5, "label": "invoice"}

    @embedded_only
    def test_json_is_compact(self, http: httpx.Client) -> None:
        """No white space between the parts, even where the prompt begs for it."""
        messages = [{"role": "user", "content": "A JSON object with the keys a and b, pretty printed with tabs."}]
        text = chat(http, messages=messages, format="json", options=COLD | {"num_predict": 100})["message"]["content"]
        assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)

    def test_json_without_schema_is_an_object(self, http: httpx.Client) -> None:
        """`format: "json"` gives an object."""
        messages = [{"role": "user", "content": "A JSON object with the key colour and one value."}]
        answer = chat(http, messages=messages, format="json", options=COLD | {"num_predict": 100})
        assert isinstance(json.loads(answer["message"]["content"]), dict)

    def test_assistants_last_message_is_continued(self, http: httpx.Client) -> None:
        """A conversation that ends with the assistant's words is continued right there, without repeating them."""
        begun = '{"label": "'
        messages = [
            {"role": "user", "content": 'Is "Please pay 5 EUR" an invoice or spam? {"label": "invoice" or "spam"}'},
            {"role": "assistant", "content": begun},
        ]
        answer = chat(http, messages=messages, options=COLD | {"num_predict": 4}, logprobs=True, top_logprobs=5)
        assert answer["message"]["content"].startswith(("invoice", "spam"))
        assert answer["logprobs"][0]["token"] in ("invoice", "in", "inv", "spam", "sp")

    def test_oldest_messages_go_when_it_is_too_long(self, http: httpx.Client) -> None:
        """Of a conversation longer than num_ctx the oldest messages are dropped in silence; system and last stay."""
        messages = [{"role": "system", "content": "The code word is BANANA."}]
        messages += [{"role": "user", "content": f"Note {n}: " + "words " * 60} for n in range(12)]
        messages += [{"role": "user", "content": "What is the code word? Answer with the word only."}]
        answer = chat(http, messages=messages, options=COLD | {"num_ctx": 512, "num_predict": 12})
        assert 256 < answer["prompt_eval_count"] <= 512
        assert "BANANA" in answer["message"]["content"].upper()

    def test_too_long_without_truncate_is_refused(self, http: httpx.Client) -> None:
        """With truncate=false a prompt longer than num_ctx is an error that says so, not a cut."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "words " * 900}], "truncate": False}
        body |= {"shift": False, "options": COLD | {"num_ctx": 512, "num_predict": 4}, "stream": False}
        response = http.post("/api/chat", json=body)
        assert response.status_code == 400
        assert "context" in response.json()["error"]

    def test_same_seed_same_answer(self, http: httpx.Client) -> None:
        """Sampling with the same seed gives the same text."""
        asked = {"messages": [{"role": "user", "content": "Invent a name for a ship."}]}
        options = {"temperature": 1.0, "seed": 42, "num_predict": 12}
        chat(http, **asked, options=options)  # so that both of the next find the same prefix cached
        first, second = (chat(http, **asked, options=options)["message"]["content"] for _ in range(2))
        assert first == second


class TestLogprobs:
    """`logprobs` and `top_logprobs`."""

    def test_each_token_with_alternatives(self, http: httpx.Client) -> None:
        """Each token has its text, bytes and log-probability, and as many alternatives, the likeliest first."""
        answer = chat(http, messages=HELLO, logprobs=True, top_logprobs=3, options=COLD | {"num_predict": 3})
        tokens = answer["logprobs"]
        assert len(tokens) in (answer["eval_count"], answer["eval_count"] - 1)  # the end token counts but may be silent
        for token in tokens:
            assert set(token) - {"bytes"} == {"token", "logprob", "top_logprobs"}
            assert token.get("bytes", []) == list(token["token"].encode())
            assert token["logprob"] <= 0
            told = [other["logprob"] for other in token["top_logprobs"]]
            assert len(told) == 3
            assert told == sorted(told, reverse=True)
            assert all(set(other) - {"bytes"} == {"token", "logprob"} for other in token["top_logprobs"])

    def test_without_top_there_are_no_alternatives(self, http: httpx.Client) -> None:
        """logprobs alone gives the tokens without alternatives, and neither gives none."""
        tokens = chat(http, messages=HELLO, logprobs=True)["logprobs"]
        assert all("top_logprobs" not in token for token in tokens)
        assert "logprobs" not in chat(http, messages=HELLO)

    def test_streamed_with_their_pieces(self, http: httpx.Client) -> None:
        """In a stream each piece carries its own tokens; together they are the text."""
        lines = stream(http, "/api/generate", prompt="1, 2, 3,", raw=True, logprobs=True, options={"num_predict": 4})
        for line in lines[:-1]:
            assert "".join(token["token"] for token in line["logprobs"]) == line["response"]


class TestGenerate:
    """/api/generate."""

    def test_raw_prompt_is_continued(self, client: ollama.Client) -> None:
        """raw sends the prompt as it is: the model goes on with it, and there is no context to hand back."""
        answer = client.generate(model=MODEL, prompt="1, 2, 3, 4,", raw=True, options=COLD | {"num_predict": 3})
        assert answer.response.strip().startswith("5")
        assert (answer.prompt_eval_count or 0) < 16
        assert answer.context is None

    def test_prompt_goes_through_the_template(self, http: httpx.Client) -> None:
        """Without raw the prompt becomes a user's message, after the system's words; context comes back."""
        body = {"model": MODEL, "prompt": "Who are you? One word.", "system": "You are BANANA.", "stream": False}
        answer = http.post("/api/generate", json=body | {"options": COLD | {"num_predict": 10}}).json()
        assert "BANANA" in answer["response"].upper()
        assert len(answer["context"]) >= answer["prompt_eval_count"]

    def test_streamed(self, http: httpx.Client) -> None:
        """Pieces are in `response`, the last line has the counts."""
        lines = stream(http, "/api/generate", prompt="1, 2, 3, 4,", raw=True, options=COLD | {"num_predict": 3})
        assert "".join(line["response"] for line in lines).strip().startswith("5")
        assert (lines[-1]["done"], lines[-1]["done_reason"], lines[-1]["eval_count"]) == (True, "length", 3)

    def test_long_prompt_is_cut_in_silence(self, http: httpx.Client) -> None:
        """A prompt longer than num_ctx loses tokens without an error: only prompt_eval_count shows it."""
        body = {"model": MODEL, "prompt": "words " * 900, "raw": True, "stream": False}
        answer = http.post("/api/generate", json=body | {"options": COLD | {"num_ctx": 512, "num_predict": 2}}).json()
        assert 200 < answer["prompt_eval_count"] < 512


class TestModels:
    """What is there, what is loaded, loading and unloading."""

    def test_listed_and_described(self, client: ollama.Client, http: httpx.Client) -> None:
        """The model is in tags with its size and digest, and show tells its family and context."""
        model = next(model for model in client.list().models if model.model == MODEL)
        assert (model.size or 0) > 400_000_000
        assert len(model.digest or "") == 64
        shown = http.post("/api/show", json={"model": MODEL}).json()
        assert shown["details"]["family"] == "qwen2"
        assert shown["model_info"]["qwen2.context_length"] == 32_768
        assert "completion" in shown["capabilities"]
        assert http.get("/").text == "Ollama is running"
        assert http.get("/api/version").json()["version"]

    def test_load_and_unload(self, client: ollama.Client, http: httpx.Client) -> None:
        """No messages load the model (`load`), with keep_alive 0 they unload it (`unload`); ps shows it."""
        assert chat(http, messages=[], keep_alive="1h")["done_reason"] == "load"
        (loaded,) = client.ps().models
        assert loaded.model == MODEL
        assert (loaded.size or 0) > 400_000_000
        assert loaded.context_length
        answer = http.post("/api/generate", json={"model": MODEL, "prompt": "", "keep_alive": 0}).json()
        assert (answer["response"], answer["done"], answer["done_reason"]) == ("", True, "unload")
        deadline = time.monotonic() + 10
        while client.ps().models and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.ps().models == []
        answer = chat(http, messages=HELLO, options=COLD | {"num_predict": 1}, keep_alive=-1)
        assert answer["load_duration"] > 100_000_000
        assert client.ps().models[0].expires_at.year > 2200  # type: ignore[union-attr]

    @embedded_only
    def test_embeddings_have_length_one_and_tell_texts_apart(self, client: ollama.Client) -> None:
        """One vector for each text, of length one; the same text has the same vector, another one has not."""
        answer = client.embed(model=MODEL, input=["an unpaid invoice", "an unpaid invoice", "a cat on a mat"])
        first, same, other = answer.embeddings
        assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
        assert sum(a * b for a, b in zip(first, same, strict=True)) == pytest.approx(1, abs=1e-3)
        assert sum(a * b for a, b in zip(first, other, strict=True)) < 0.99
        assert (answer.prompt_eval_count or 0) >= 9


class TestErrors:
    """Error statuses and bodies."""

    def test_unknown_model_is_404(self, client: ollama.Client) -> None:
        """The client sees status 404 and the words "model 'nope' not found"."""
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat(model="nope", messages=HELLO)
        assert (caught.value.status_code, caught.value.error) == (404, "model 'nope' not found")
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.generate(model="nope", prompt="x", stream=True))
        assert caught.value.status_code == 404

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/chat", b""),
            ("/api/chat", b"{"),
            ("/api/chat", b'{"messages": "hi"}'),
            ("/api/generate", json.dumps({"model": MODEL, "prompt": "x", "top_logprobs": 21}).encode()),
            ("/api/generate", json.dumps({"model": MODEL, "prompt": "x", "raw": True, "system": "s"}).encode()),
            ("/api/chat", json.dumps({"model": MODEL, "messages": HELLO, "keep_alive": "soon"}).encode()),
            ("/api/chat", json.dumps({"model": MODEL, "messages": HELLO, "think": True}).encode()),
            ("/api/embed", json.dumps({"model": MODEL, "input": 5}).encode()),
        ],
    )
    def test_bad_request_is_400(self, http: httpx.Client, path: str, body: bytes) -> None:
        """Each wrong body is a 400 with a sentence in `error`."""
        response = http.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400, response.text
        assert isinstance(response.json()["error"], str)

    def test_wrong_format_is_an_error(self, http: httpx.Client) -> None:
        """A format that is neither json nor a schema is refused."""
        body = {"model": MODEL, "messages": HELLO, "format": "xml", "stream": False}
        response = http.post("/api/chat", json=body)
        assert response.status_code >= 400
        assert "invalid format" in response.json()["error"]


class TestLoad:
    """Many clients, clients that leave, and an engine that falls over."""

    @embedded_only
    def test_full_queue_is_503_and_the_others_are_served(self, server: Server) -> None:
        """One runs and two wait; of five at once exactly two are refused with 503, at once."""
        messages = [{"role": "user", "content": "Count from 1 to 200."}]

        def one(number: int) -> int:
            time.sleep(number * 0.1)
            with server.http() as http:
                body = {"model": MODEL, "messages": messages, "options": COLD | {"num_predict": 40}, "stream": False}
                return http.post("/api/chat", json=body).status_code

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(one, range(5))) == [200, 200, 200, 503, 503]

    @pytest.mark.parametrize("streaming", [True, False])
    def test_client_that_leaves_stops_its_generation(self, server: Server, streaming: bool) -> None:
        """After a client hung up in the middle of a long answer, the next one is served soon."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 1 to 2000."}], "stream": streaming}
        body["options"] = COLD | {"num_predict": 3000}
        try:
            with server.http() as http, http.stream("POST", "/api/chat", json=body, timeout=4) as response:
                for _, _line in zip(range(3), response.iter_lines(), strict=False):
                    pass
        except httpx.ReadTimeout:
            assert not streaming
        started_at = time.monotonic()
        with server.http() as http:
            chat(http, messages=HELLO, options=COLD | {"num_predict": 2})
        assert time.monotonic() - started_at < 20  # the whole answer takes minutes

    def test_version_answers_while_it_generates(self, server: Server) -> None:
        """Small questions are answered while a long answer is written."""
        with server.http() as http, server.http() as other:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Count to 500."}]}
            with http.stream("POST", "/api/chat", json=body | {"options": {"num_predict": 60}}) as response:
                next(response.iter_lines())
                started_at = time.monotonic()
                assert other.get("/api/version").status_code == 200
                assert other.get("/api/ps").json()["models"]
                assert time.monotonic() - started_at < 2

    @embedded_only
    def test_engine_that_is_killed_is_an_error_line_and_then_replaced(self, server: Server) -> None:
        """Kill -9 of the engine in mid-answer: the stream ends with a line `error`; the next request loads anew."""
        with server.http() as http:
            chat(http, messages=[])
            (engine,) = server.engines()
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 1 to 500."}]}
            with http.stream("POST", "/api/chat", json=body) as response:
                lines = response.iter_lines()
                first = json.loads(next(lines))
                os.kill(engine, signal.SIGKILL)
                rest = [json.loads(line) for line in lines]
            assert first["done"] is False
            assert "unexpectedly stopped" in rest[-1]["error"]
            assert chat(http, messages=HELLO)["done_reason"] == "stop"
            assert server.engines() != [engine]


@embedded_only
class TestProcess:
    """The server as a process."""

    def test_answers_while_it_loads_and_ends_fast(self) -> None:
        """/api/version answers while the model loads; SIGTERM in mid-answer ends server and engine within 2 s."""
        server = started("--context", "1024")
        try:
            with server.http() as http:
                started_at = time.monotonic()
                assert http.get("/api/version", timeout=5).status_code == 200
                assert http.get("/api/ps").json() == {"models": []}
                assert time.monotonic() - started_at < 2
                body = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 1 to 900."}]}
                with http.stream("POST", "/api/chat", json=body) as response:
                    next(response.iter_lines())
                    (engine,) = server.engines()
                    stopped_at = time.monotonic()
                    assert server.process is not None
                    server.process.terminate()
                    server.process.wait(10)
                    assert time.monotonic() - stopped_at < 2
                    assert not Path(f"/proc/{engine}").exists()
        finally:
            ended(server)

    def test_taken_port_is_told(self) -> None:
        """A port that is in use ends with status 1 and one sentence, before the model is loaded."""
        server = started("--no-preload", "--context", "1024")
        try:
            port = server.url.rpartition(":")[2]
            command = [sys.executable, "-m", "daemon.embedded.model_server", "--model", MODEL, "--port", port]
            failed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
            assert failed.returncode == 1
            assert f"cannot listen on 127.0.0.1, port {port}" in failed.stderr
            assert "Traceback" not in failed.stderr
        finally:
            ended(server)

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("OLLAMA_NUM_PARALLEL", "0", "OLLAMA_NUM_PARALLEL='0' is not a whole number of at least 1"),
            ("OLLAMA_MAX_QUEUE", "many", "OLLAMA_MAX_QUEUE='many' is not a whole number"),
            ("OLLAMA_KEEP_ALIVE", "soon", "OLLAMA_KEEP_ALIVE='soon': time: invalid duration"),
        ],
    )
    def test_bad_environment_is_told(self, name: str, value: str, reason: str) -> None:
        """A variable that makes no sense ends with status 1 and its name."""
        command = [sys.executable, "-m", "daemon.embedded.model_server", "--port", "0"]
        environment = os.environ | {name: value}
        failed = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert failed.returncode == 1
        assert reason in failed.stderr
