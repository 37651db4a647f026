"""Which model is asked for what, and where: models by task and route, a second model, several servers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from config.engine import ModelSettings
from config.models import TaskModel
from config.routes import FieldSpec, Label, Route, RouteModel
from tasks import guard as guards
from tasks.errors import Transient, Unavailable
from tasks.judging.calls import Ask
from tasks.model import Judge, Models
from tasks.models import Classification, Document
from tests.standin_model import StandIn, standing_in

ROUTE = Route(
    name="test",
    labels={
        "order": Label(says="Somebody orders.", fields={"number": FieldSpec(description="order number")}),
        "other": Label(says="Anything else."),
    },
)
MAIL = [
    Document(
        ordinal=0, name="body", content_type="text/plain", size=28, sha256="0" * 64, text="We order ten boxes of paper."
    )
]
WISH = Ask("small:1b", [{"role": "user", "content": "Well, how are you today?"}], "label", predict=16, num_ctx=2048)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    guards.forget()
    yield
    guards.forget()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standing_in(label="order") as one:
        yield one


@pytest.fixture
def others() -> Iterator[Callable[[int], list[StandIn]]]:
    with contextlib.ExitStack() as stack:
        yield lambda number: [stack.enter_context(standing_in(label="order")) for _ in range(number)]


def judged(settings: ModelSettings, route: Route = ROUTE) -> Classification:
    return Judge(settings).classify(MAIL, None, route)


def nowhere() -> str:
    """The address of a server that has gone."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def asked_of(server: StandIn, *keys: str) -> list[tuple[object, ...]]:
    return [tuple(one.get(key) or one["options"].get(key) for key in keys) for one in server.heard]


def test_tasks_and_routes_have_models_of_their_own(server: StandIn) -> None:
    """What a route says for a task counts most, then the route, then the task in [model], then [model]; options add up."""
    settings = ModelSettings(
        host=server.url,
        name="plain",
        options={"top_k": 5, "seed": 1},
        keep_alive="10m",
        fields=TaskModel(name="large:32b", options={"seed": 2}, keep_alive="1m"),
        reply=TaskModel(name="talker"),
    )
    found = judged(settings)
    assert found.model == "plain, large:32b"
    assert asked_of(server, "model", "keep_alive", "seed", "top_k") == [
        ("plain", "10m", 1, 5),
        ("plain", "10m", 1, 5),  # what it leans to
        ("large:32b", "1m", 2, 5),
    ]
    server.heard.clear()
    own = RouteModel(name="routes", options={"seed": 3}, reply=TaskModel(name="poet", options={"seed": 4}))
    route = ROUTE.model_copy(update={"model": own})
    found = judged(settings, route)
    Judge(settings).free_text(MAIL, None, found, route)
    assert asked_of(server, "model", "seed") == [("routes", 3), ("routes", 3), ("routes", 3), ("poet", 4)]


def test_a_model_that_is_not_there_has_a_second(server: StandIn) -> None:
    """The notes tell which one was asked and why; without a second the job waits for the first."""
    server.lacks = {"large:32b"}
    settings = ModelSettings(host=server.url, name="large:32b", fallback="small:1b")
    found = judged(settings)
    assert (found.label, found.model) == ("order", "small:1b")
    [note] = [note for note in found.notes if "instead" in note]
    assert note.startswith("small:1b was asked instead of large:32b: ")
    assert "has no model large:32b; run `ollama pull large:32b` there" in note
    written = Judge(settings).free_text(MAIL, None, found, ROUTE)
    assert written.text
    assert written.notes == (note,)
    with pytest.raises(Unavailable, match="has no model large:32b"):
        judged(ModelSettings(host=server.url, name="large:32b"))
    server.lacks.add("small:1b")
    with pytest.raises(Unavailable, match="has no model large:32b"):
        judged(settings)


def test_a_model_that_follows_no_form_has_a_second(server: StandIn) -> None:
    """For the label as for the fields; without a second a person looks, or the stage is tried again."""
    server.rambles = {"rambler"}
    found = judged(
        ModelSettings(host=server.url, name="small:1b", fields=TaskModel(name="rambler", fallback="small:1b"))
    )
    assert not found.review
    assert found.summary
    assert "small:1b was asked instead of rambler: its answers did not follow the form" in found.notes
    alone = judged(ModelSettings(host=server.url, name="small:1b", fields=TaskModel(name="rambler")))
    assert "does not follow the form" in alone.review
    server.lacks = {"gone"}
    alone = judged(ModelSettings(host=server.url, name="small:1b", fields=TaskModel(name="rambler", fallback="gone")))
    assert "does not follow the form" in alone.review
    found = judged(ModelSettings(host=server.url, name="rambler", fallback="small:1b"))
    assert (found.label, found.review) == ("order", "")
    assert "small:1b was asked instead of rambler: it named no label" in found.notes
    with pytest.raises(Transient, match="named no label"):
        judged(ModelSettings(host=server.url, name="rambler"))


def test_a_busy_server_is_waited_for(server: StandIn) -> None:
    """No second model is asked because of it: it would have to be loaded, too."""
    server.mode = "busy"
    with pytest.raises(Unavailable, match="is busy"):
        judged(ModelSettings(host=server.url, name="large:32b", fallback="small:1b"))
    assert {model for (model,) in asked_of(server, "model")} == {"large:32b"}


def test_one_server_of_several_may_be_away(server: StandIn) -> None:
    """Each call is answered by the other; three failures in, nobody asks for the one that is gone any more."""
    gone = nowhere()
    models = Models(ModelSettings(hosts=(gone, server.url)))
    for number in range(12):
        prompt = [{"role": "user", "content": f"Question {number}: how are you today?"}]
        wish = Ask("small:1b", prompt, "label", predict=16, num_ctx=2048)
        assert models.ask(wish).text
    assert server.asked == 12
    assert guards.guard(f"ollama:{gone}").seen().state == "open"
    assert guards.guard(f"ollama:{server.url}").seen().state == "closed"


@pytest.mark.parametrize("mode", ["dies", "out of memory", "busy"])
def test_what_one_server_cannot_another_can(others: Callable[[int], list[StandIn]], mode: str) -> None:
    """An answer that breaks off, an error within, a full queue: the same question goes to another server at once."""
    servers = others(2)
    models = Models(ModelSettings(hosts=tuple(one.url for one in servers)))
    models.ask(WISH)
    [home] = [one for one in servers if one.asked]
    [other] = [one for one in servers if not one.asked]
    home.mode = mode  # type: ignore[assignment]
    assert models.ask(WISH).text
    assert (home.asked, other.asked) == (2, 1)
    other.mode = mode  # type: ignore[assignment]
    with pytest.raises(Transient) as told:
        models.ask(WISH)
    assert isinstance(told.value, Unavailable) is (mode == "busy")


def test_no_server_at_all_costs_no_attempt(server: StandIn) -> None:
    """One that lacks the model and one that is away make the job wait, as one alone would."""
    server.lacks = {"small:1b"}
    with pytest.raises(Unavailable):
        Models(ModelSettings(hosts=(nowhere(), server.url))).ask(WISH)
    server.lacks = set()
    assert Models(ModelSettings(hosts=(nowhere(), server.url))).ask(WISH).text


def test_a_prompt_has_a_home(others: Callable[[int], list[StandIn]]) -> None:
    """Prompts that begin alike go to one server, in every process; different ones are spread over all."""
    servers = others(2)
    settings = ModelSettings(hosts=tuple(one.url for one in servers))
    for process in [Models(settings) for _ in range(2)]:
        for number in range(16):
            prompt = [{"role": "system", "content": f"Route {number}"}, *WISH.messages]
            process.ask(Ask("small:1b", prompt, "label", predict=16, num_ctx=2048))
    begun = [{one["messages"][0]["content"] for one in server.heard} for server in servers]
    assert begun[0] & begun[1] == set()
    assert all(begun)
    assert sum(one.asked for one in servers) == 32


def test_a_busy_home_is_left(others: Callable[[int], list[StandIn]]) -> None:
    """While one server is at work, the next question goes to the other."""
    servers = others(2)
    for one in servers:
        one.mode = "hangs"
    models = Models(ModelSettings(hosts=tuple(one.url for one in servers)))
    threads = [threading.Thread(target=models.ask, args=(WISH,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while sum(one.asked for one in servers) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert [one.asked for one in servers] == [1, 1]
    for one in servers:
        one.mode = "well"
        one.woken.set()
    for thread in threads:
        thread.join(30)


def test_the_check_names_what_is_missing(server: StandIn) -> None:
    """Of every server, for every task and route."""
    settings = ModelSettings(hosts=(server.url,), name="small:1b", fallback="large:32b", reply=TaskModel(name="poet"))
    [(one, wanted)] = Models(settings).wanted(())
    assert wanted == {"small:1b", "large:32b", "poet"}
    assert one.names() == {"small:1b", "large:32b"}
    assert one.to_get("poet") == "run `ollama pull poet` there"
    with pytest.raises(ValueError, match="write one of them"):
        ModelSettings(host=server.url, hosts=(server.url,))
    with pytest.raises(ValueError, match="is no address of a server"):
        ModelSettings(hosts=("ftp://there",))
    assert json.loads(ModelSettings(hosts=("there:80", "[::1]")).model_dump_json())["hosts"] == ["there:80", "[::1]"]
