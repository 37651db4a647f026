"""Reading the bodies of Ollama's requests: defaults, refusals, and no crash whatever comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.embedded import ollama_requests as requests
from daemon.embedded.ollama_errors import ApiError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_chat_has_ollamas_defaults() -> None:
    """A chat request without options streams, cuts what is too long, and samples as Ollama does."""
    chat = requests.read_chat(CHAT)
    assert (chat.stream, chat.truncate, chat.logprobs, chat.top_logprobs) == (True, True, False, 0)
    assert chat.keep_alive is None
    assert chat.options == requests.Options()
    assert chat.options.sampling() == {
        "seed": -1,
        "top_k": 40,
        "repeat_last_n": 64,
        "temperature": 0.8,
        "top_p": 0.9,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": (),
    }


def test_null_means_not_given() -> None:
    """null in any field has the meaning of leaving it out."""
    fields = ("stream", "format", "keep_alive", "options", "truncate", "logprobs", "top_logprobs", "tools", "think")
    assert requests.read_chat(CHAT | dict.fromkeys(fields)) == requests.read_chat(CHAT)
    assert requests.read_options({"temperature": None}) == requests.Options()


def test_options_are_read_by_type() -> None:
    """Whole numbers may be written with a point, unknown names are ignored, huge numbers are bounded."""
    options = requests.read_options(
        {"num_ctx": 2048.0, "temperature": 0, "stop": ["a", ""], "num_gpu": 1, "nonsense": [], "seed": 1e300}
    )
    assert options == requests.Options(num_ctx=2048, temperature=0.0, stop=("a",), seed=2**31 - 1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_ctx": "8k"}, 'option "num_ctx" must be of type integer'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
        ({"temperature": "0"}, 'option "temperature" must be of type float32'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"stop": ["x"] * 65}, 'option "stop" has 65 entries; at most 64'),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], reason: str) -> None:
    """An option of another type is refused with its name and the type it must have."""
    with pytest.raises(ApiError) as caught:
        requests.read_options(options)
    assert caught.value.message == reason


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        ("0", 0.0),
        (300, 300.0),
        (2.5, 2.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        (-1, requests.FOREVER),
        ("-1m", requests.FOREVER),
    ],
)
def test_keep_alive_is_seconds_or_a_duration(value: Any, seconds: float | None) -> None:
    """keep_alive takes a number of seconds or Go's durations; below zero is for ever."""
    assert requests.read_keep_alive(value) == seconds


@pytest.mark.parametrize("value", ["", "5", "5 m", "m", "five", "1d", "1m" * 100, True, [], {}])
def test_wrong_keep_alive_is_refused(value: Any) -> None:
    """What is no duration is a 400."""
    with pytest.raises(ApiError) as caught:
        requests.read_keep_alive(value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object, not an array"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b"[" * 200_000, "not valid JSON"),
    ],
)
def test_body_that_is_no_object_is_refused(body: bytes, reason: str) -> None:
    """Whatever is not one JSON object is a 400 with the reason."""
    with pytest.raises(ApiError, match=reason) as caught:
        requests.parse(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": "hi"}, "messages must be an array, not a string"),
        ({"messages": ["hi"]}, r"messages\[0\] must be an object, not a string"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            r"messages\[0\]\.content must be a string, not a whole number",
        ),
        ({"messages": [{"role": "user", "images": ["aGk="]}]}, "cannot read images"),
        ({"messages": [{}] * 5000}, "5000 messages; at most 4096"),
        ({"stream": "no"}, "stream must be a boolean, not a string"),
        ({"options": []}, "options must be an object, not an array"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"tools": [{"type": "function"}]}, "m does not support tools"),
        ({"think": True}, '"m" does not support thinking'),
        ({"model": 5}, "model must be a string"),
    ],
)
def test_wrong_chat_is_refused(change: dict[str, Any], reason: str) -> None:
    """Each wrong field is a 400 that says where and what it must be."""
    with pytest.raises(ApiError, match=reason) as caught:
        requests.read_chat(CHAT | change)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"raw": True, "system": "s"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"template": "{{ .Prompt }}"}, "no Go templates"),
        ({"suffix": "end"}, "m does not support insert"),
        ({"context": [1, "2"]}, "context must be an array of token numbers"),
        ({"context": [-1]}, "context must be an array of token numbers"),
        ({"images": ["aGk="]}, "cannot read images"),
    ],
)
def test_wrong_generate_is_refused(change: dict[str, Any], reason: str) -> None:
    """What generate cannot do here is a 400 with the reason."""
    with pytest.raises(ApiError, match=reason) as caught:
        requests.read_generate({"model": "m", "prompt": "p"} | change)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("given", "texts"), [("one", ("one",)), (["one", "two"], ("one", "two")), ("", ()), (None, ()), ([], ())]
)
def test_embed_takes_one_text_or_many(given: Any, texts: tuple[str, ...]) -> None:
    """input is a text or a list of texts; none of them is no text."""
    assert requests.read_embed({"model": "m", "input": given}).input == texts


@pytest.mark.parametrize("given", [5, {"a": 1}, [1], ["x", None]])
def test_embed_refuses_other_inputs(given: Any) -> None:
    """What is no text is a 400."""
    with pytest.raises(ApiError, match="invalid input type"):
        requests.read_embed({"model": "m", "input": given})


FIELDS = ["model", "messages", "prompt", "input", "options", "stream", "format", "keep_alive", "logprobs", "raw"]
FIELDS += ["top_logprobs", "tools", "think", "context", "template", "suffix", "system", "images", "dimensions"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "num_ctx", "stop", "temperature"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(FIELDS), ANY))
def test_hostile_bodies_are_refused_not_crashed_on(body: dict[str, Any]) -> None:
    """Whatever JSON comes, each reader gives a value or an ApiError with status 400."""
    statuses = set()
    for read in (requests.read_chat, requests.read_generate, requests.read_embed):
        try:
            read(requests.parse(json.dumps(body).encode()))
        except ApiError as error:
            statuses.add(error.status)
    assert statuses <= {400}
