"""Servers with OpenAI's API: the same questions, and what is done about what they decline, break off or forbid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from config.engine import ModelSettings
from config.models import ModelServer
from tasks import guard as guards
from tasks.errors import Busy, Transient, Unavailable
from tasks.judging.calls import Ask, Progress, TooLong
from tasks.model import Judge, Models
from tests.integration.test_models import MAIL, ROUTE
from tests.standin_openai import EVENTS, OpenAIStandIn, Reply, events, standing_in_for_openai

WISH = Ask("big/org/big", [{"role": "user", "content": "Well, how are you today?"}], "reply", predict=16, num_ctx=2048)


@pytest.fixture
def server() -> Iterator[OpenAIStandIn]:
    guards.forget()
    with standing_in_for_openai() as one:
        yield one
    guards.forget()


def settings(*servers: OpenAIStandIn, key: str = "", **more: object) -> ModelSettings:
    big = ModelServer(urls=tuple(one.url for one in servers), key=SecretStr(key))
    return ModelSettings(name="big/org/big", server={"big": big}, **more)  # type: ignore[arg-type]


def replied(status: int, words: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": words}}).encode()


def test_a_job_is_judged(server: OpenAIStandIn) -> None:
    """The label by log-probabilities of what the model writes by itself, fields by schema, the key on every request."""
    found = Judge(settings(server, key="s3cret", evening=0)).classify(MAIL, None, ROUTE)
    assert (found.label, found.method, found.model) == ("order", "logprobs", "big/org/big")
    assert found.confidence > 0.9
    assert found.summary == "The sender orders."
    label, form = server.heard
    assert (label["model"], label["logprobs"], label["messages"][-1]["role"]) == ("org/big", True, "user")
    assert form["response_format"]["json_schema"]["schema"]["properties"].keys() >= {"number", "summary"}
    assert server.keys == {"Bearer s3cret"}
    assert found.prompt_tokens > 0


@pytest.mark.parametrize(
    "tokens", [["order"], ["\n", '{"label"', ': "', "ord", "er", '"}'], ['{\n  "', 'label": "', "order"]]
)
def test_a_label_is_found_however_it_is_written(server: OpenAIStandIn, tokens: list[str]) -> None:
    """Alone or in its JSON, in one token or in several; tokens that begin no label count for nothing."""
    server.replies = [events({"logprobs": True, "stream_options": {}}, tokens, read=100)]
    found = Judge(settings(server, evening=0)).classify(MAIL, None, ROUTE)
    assert (found.label, found.method) == ("order", "logprobs")
    assert len(server.heard) == 2


def test_what_is_declined_is_not_asked_again(server: OpenAIStandIn) -> None:
    """Without log-probabilities the label is asked twice by schema; without counted tokens nothing can be compared."""
    server.declines = {"logprobs", "stream_options", "max_tokens"}
    judge = Judge(settings(server))
    found = judge.classify(MAIL, None, ROUTE)
    assert (found.label, found.method, found.prompt_tokens) == ("order", "schema", 0)
    server.heard.clear()
    judge.classify(MAIL, None, ROUTE)
    assert not server.declines & {name for one in server.heard for name in one}
    assert all(one["max_completion_tokens"] for one in server.heard)


def test_its_context_is_as_it_tells(server: OpenAIStandIn) -> None:
    """vLLM and llama-server tell; where nobody does it is as configured."""
    server.models += [{"id": "org/small", "meta": {"n_ctx": 4096}}, {"id": "org/none"}]
    models = Models(settings(server))
    assert [models.context_limit(f"big/org/{name}") for name in ("big", "small", "none")] == [16_384, 4096, 8192]


def test_a_server_without_a_list_of_models_is_asked_all_the_same(server: OpenAIStandIn) -> None:
    """Also after a failure, when it has to show a sign of life first."""
    server.models = []
    models = Models(settings(server))
    assert models.context_limit("big/org/big") == 8192
    server.replies = [replied(503, "later")]
    with pytest.raises(Busy):
        models.ask(WISH)
    assert models.ask(WISH).text
    [(one, _)] = models.wanted(())
    with pytest.raises(Unavailable, match="tells no list of its models"):
        one.names()


def test_it_tells_how_far_it_is(server: OpenAIStandIn) -> None:
    """Each piece that streams in counts."""
    told: list[Progress] = []
    answer = Models(settings(server)).ask(WISH, told.append)
    assert (answer.text, answer.done_reason, answer.output_tokens) == ('{"label": "order"}', "stop", 6)
    assert [one.tokens for one in told] == [1, 2, 3, 4, 5, 6]


def test_a_limit_of_requests_is_kept_to(server: OpenAIStandIn) -> None:
    """429 with Retry-After: no attempt is lost, and nobody asks before that time; another server is asked instead."""
    server.replies = [replied(429, "Rate limit reached", Retry_After="70")]
    models = Models(settings(server))
    with pytest.raises(Busy, match="Rate limit reached") as told:
        models.ask(WISH)
    assert told.value.retry_after == 70
    with pytest.raises(Busy, match="left alone for 70 s more") as again:
        models.ask(WISH)
    assert not again.value.asked
    assert len(server.heard) == 1
    with standing_in_for_openai() as other:
        both = Models(settings(server, other))
        server.replies = [replied(429, "Rate limit reached")]
        for number in range(24):
            assert both.ask(replace(WISH, messages=[{"role": "user", "content": f"Question {number}?"}])).text
    assert len(server.heard) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (replied(500, "internal"), Transient, "answered 500: internal"),
        (replied(503, "loading model"), Busy, "is busy: loading model"),
        (replied(401, "bad key"), Unavailable, r"refuses us \(HTTP 401\): bad key"),
        (replied(404, "The model does not exist"), Unavailable, "has no model org/big: The model does not exist"),
        (replied(400, "maximum context length is 2048 tokens"), TooLong, "the server refuses the prompt"),
        (replied(302, ""), Transient, "answered 302"),
        (events({}, ["Half"], end=""), Transient, "broke off before its end"),
        ((200, {**EVENTS, "Content-Length": "999"}, b'data: {"choices": []}\n\n'), Transient, "broke the connection"),
        (
            (200, EVENTS, b'data: {"error": {"message": "out of memory"}}\n\n'),
            Transient,
            "in mid-answer: out of memory",
        ),
        ((200, EVENTS, b"data: {not json}\n\n"), Transient, "does not answer as OpenAI's API does"),
        ((200, EVENTS, b"data: [1]\n\n"), Transient, "does not answer as OpenAI's API does"),
        ((200, {}, b"<html>It works!</html>"), Transient, "does not answer as OpenAI's API does"),
        (events({"stream_options": {}}, ["Yes"], read=2), TooLong, "read 2 tokens of a prompt"),
        (events({"stream_options": {}}, ["Yes"], read=2040), TooLong, "do not fit into 2048"),
    ],
)
def test_what_goes_wrong_is_told(server: OpenAIStandIn, reply: Reply, kind: type[Exception], words: str) -> None:
    """Only what says that the server is away or busy costs no attempt; a cut prompt makes its answer void."""
    server.replies = [reply] * 2
    with pytest.raises(kind, match=words) as told:
        Models(settings(server)).ask(replace(WISH, messages=[{"role": "user", "content": "Well? " * 20}]))
    assert isinstance(told.value, Unavailable) is issubclass(kind, Unavailable)


def test_an_answer_in_one_piece_is_an_answer(server: OpenAIStandIn) -> None:
    """A server that does not stream is understood."""
    whole = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
    server.replies = [(200, {}, json.dumps(whole).encode())]
    assert Models(settings(server)).ask(WISH).text == "Yes."


def test_where_it_may_be(server: OpenAIStandIn) -> None:
    """A key is not sent in clear, nor anything to a private address where that is not meant."""
    with pytest.raises(ValueError, match="would send the key in clear"):
        ModelServer(urls=("http://model.example/v1",), key=SecretStr("k"))
    with pytest.raises(ValueError, match="is no base of an API"):
        ModelServer(urls=("https://user:pass@model.example/v1",))
    public = ModelServer(urls=(server.url,), allow_private=False)
    with pytest.raises(Unavailable, match=r"is not public; set allow_private in \[model.server.big\]"):
        Models(ModelSettings(server={"big": public})).ask(WISH)
    assert not server.heard


def test_the_check_asks_it_for_its_list(server: OpenAIStandIn) -> None:
    """And only those servers that a model is asked of."""
    [(one, wanted)] = Models(settings(server)).wanted(())
    assert (one.names(), wanted) == ({"org/big"}, {"org/big"})
    both = Models(settings(server, fallback="small:1b")).wanted(())
    assert {(one.kind, *wanted) for one, wanted in both} == {("openai", "org/big"), ("ollama", "small:1b")}
