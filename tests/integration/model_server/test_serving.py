"""The model server as a server: its models, its errors, many clients, and its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ollama
import pytest

from tests.integration.model_server.parts import (
    COLD,
    HELLO,
    MODEL,
    REPOSITORY,
    Server,
    chat,
    embedded_only,
    ended,
    started,
)

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]


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
        deadline = time.monotonic() + 60
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

        def one(_: int) -> int:
            with server.http() as http:
                body = {"model": MODEL, "messages": messages, "options": COLD | {"num_predict": 40}, "stream": False}
                return http.post("/api/chat", json=body).status_code

        with ThreadPoolExecutor(5) as pool:
            assert sorted(pool.map(one, range(5))) == [200, 200, 200, 503, 503]

    @pytest.mark.parametrize("streaming", [True, False])
    def test_client_that_leaves_stops_its_generation(self, server: Server, streaming: bool) -> None:
        """After a client hung up in the middle of a long answer, the next one is served soon."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 1 to 2000."}], "stream": streaming}
        body["options"] = COLD | {"num_predict": 3000}
        try:
            most = 60 if streaming else 4
            with server.http() as http, http.stream("POST", "/api/chat", json=body, timeout=most) as response:
                for _, _line in zip(range(3), response.iter_lines(), strict=False):
                    pass
        except httpx.ReadTimeout:
            assert not streaming
        started_at = time.monotonic()
        with server.http() as http:
            chat(http, messages=HELLO, options=COLD | {"num_predict": 2})
        assert time.monotonic() - started_at < 60  # the whole answer takes minutes

    def test_version_answers_while_it_generates(self, server: Server) -> None:
        """Small questions are answered while a long answer is written."""
        with server.http() as http, server.http() as other:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Count to 500."}]}
            with http.stream("POST", "/api/chat", json=body | {"options": {"num_predict": 60}}) as response:
                next(response.iter_lines())
                started_at = time.monotonic()
                assert other.get("/api/version").status_code == 200
                assert other.get("/api/ps").json()["models"]
                assert time.monotonic() - started_at < 10

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
        """/api/version answers while the model loads; SIGTERM in mid-answer ends server and engine, not after the answer."""
        server = started("--context", "1024")
        try:
            with server.http() as http:
                assert http.get("/api/version", timeout=60).status_code == 200
                assert http.get("/api/ps").json() == {"models": []}
                body = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 1 to 900."}]}
                with http.stream("POST", "/api/chat", json=body) as response:
                    next(response.iter_lines())
                    (engine,) = server.engines()
                    stopped_at = time.monotonic()
                    assert server.process is not None
                    server.process.terminate()
                    server.process.wait(60)
                    assert time.monotonic() - stopped_at < 20  # the whole answer takes minutes
                    assert not Path(f"/proc/{engine}").exists()
        finally:
            ended(server)

    def test_taken_port_is_told(self) -> None:
        """A port that is in use ends with status 1 and one sentence, before the model is loaded."""
        server = started("--no-preload", "--context", "1024")
        try:
            port = server.url.rpartition(":")[2]
            command = [sys.executable, "-m", "daemon.embedded.model_server", "--model", MODEL, "--port", port]
            failed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
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
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert failed.returncode == 1
        assert reason in failed.stderr
