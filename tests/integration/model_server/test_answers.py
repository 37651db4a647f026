"""Ollama's API as Postroom uses it, over the real model, driven by the real `ollama` client and by raw HTTP.

By default against the embedded model server. With POSTROOM_TEST_OLLAMA=http://127.0.0.1:PORT (and POSTROOM_TEST_MODEL)
the same tests run against that server, so that the embedded one can be held against a real Ollama. Where the two differ
on purpose (docs/embedded.md) a test says so.
"""

from __future__ import annotations

import json

import httpx
import ollama
import pytest

from tests.integration.model_server.parts import (
    COLD,
    ELSEWHERE,
    HELLO,
    MODEL,
    chat,
    embedded_only,
    stream,
)

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]
INVOICE = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "total": {"type": "number"}, "label": {"enum": ["invoice", "other"]}},
    "required": ["number", "total", "label"],
}


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
        answer = chat(http, messages=messages, options=COLD | {"stop": ["four", "Four"], "num_predict": 40})
        assert answer["message"]["content"].strip().lower().endswith("three")
        assert answer["done_reason"] == "stop"

    def test_schema_is_followed(self, client: ollama.Client) -> None:
        """With a schema as format the answer is JSON of that schema."""
        messages = [{"role": "user", "content": "Invoice RE-17, total 12.50 EUR. Give number, total, label."}]
        answer = client.chat(model=MODEL, messages=messages, format=INVOICE, options=COLD | {"num_predict": 100})
        assert answer.done_reason == "stop"
        assert json.loads(answer.message.content or "") == {"number": "RE-17", "total": 12.5, "label": "invoice"}

    @embedded_only
    def test_json_is_compact(self, http: httpx.Client) -> None:
        """`format: "json"` gives an object, without white space between the parts even where the prompt begs for it."""
        messages = [{"role": "user", "content": "A JSON object with the keys a and b, pretty printed with tabs."}]
        text = chat(http, messages=messages, format="json", options=COLD | {"num_predict": 100})["message"]["content"]
        assert isinstance(json.loads(text), dict)
        assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)

    def test_assistants_last_message_is_continued(self, http: httpx.Client) -> None:
        """A conversation that ends with the assistant's words is continued right there; the first token told is new."""
        begun = '{"label": "'
        messages = [
            {"role": "user", "content": 'Is "Please pay 5 EUR" an invoice or spam? {"label": "invoice" or "spam"}'},
            {"role": "assistant", "content": begun},
        ]
        answer = chat(http, messages=messages, options=COLD | {"num_predict": 4}, logprobs=True, top_logprobs=5)
        content = answer["message"]["content"]
        assert content.removeprefix(begun if ELSEWHERE else "").startswith(("invoice", "spam"))
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
