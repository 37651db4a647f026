"""How the ways out do, and sending many again, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from config.settings import Settings
from daemon.web.app import make_app
from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Scope
from tasks.models import State
from tasks.transports import webhook
from tests.integration.api_parts import bearer
from tests.integration.endpoint_parts import Post
from tests.integration.webhook_parts import Sink, problem, replies, served, sink


class House:
    """The web application, a worker by hand, and a receiver that refuses until it is mended."""

    def __init__(self, post: Post, receiver: Sink, http: httpx.Client) -> None:
        self.post = post
        self.receiver = receiver
        self.http = http

    def redeliver(self, **asked: Any) -> httpx.Response:
        return self.http.post("/deliveries/redeliver", json=asked)


@pytest.fixture
def house(settings: Settings, intake: Intake) -> Iterator[House]:
    webhook.forget()
    with sink(replies("404 Not Found")) as receiver:
        post = Post(settings, intake, {"books": receiver.url})
        with (
            served(make_app(post.settings, intake)) as url,
            httpx.Client(base_url=url, trust_env=False, timeout=20) as http,
        ):
            yield House(post, receiver, http)
        post.close()
    webhook.forget()


def test_many_are_sent_again(house: House) -> None:
    """As the command line does: dry first, then in earnest, and once more what was sent."""
    jobs = [house.post.event("books") for _ in range(3)]
    house.post.work()
    told = house.redeliver(endpoint="books", since="1h", limit=2, dry_run=True).json()
    expected = [{"job": job_id, "deliveries": [0]} for job_id in jobs]
    assert told == {"dry_run": True, "deliveries": 2, "jobs": expected[:2], "left": []}
    assert {house.post.job(job_id).state for job_id in jobs} == {State.FAILED}
    house.receiver.answer = replies("200 OK")
    assert house.redeliver(endpoint="books").json()["jobs"] == expected
    house.post.work()
    assert {house.post.job(job_id).state for job_id in jobs} == {State.DONE}
    assert house.redeliver(endpoint="books").json()["deliveries"] == 0
    assert house.redeliver(endpoint="books", resend=True, dry_run=True).json()["deliveries"] == 3


def test_endpoints_tell_how_they_do(house: House) -> None:
    """The same as `postroom endpoints --json`."""
    house.receiver.answer = replies("503 Later")
    house.post.event("books")
    house.post.work()
    [told] = house.http.get("/endpoints").json()["endpoints"]
    assert (told["name"], told["state"], told["waiting"], told["last_failure"]) == (
        "books",
        "failing",
        1,
        "HTTP 503: ok",
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "name one of"),
        ({"endpoint": "books", "to": "a@b.example"}, "name one of"),
        ({"endpoint": "books", "state": "sent"}, "resend"),
        ({"endpoint": "books", "since": "soon"}, "no time"),
        ({"endpoint": "books", "limit": 0}, "limit"),
        ({"endpoint": "books", "state": "pending"}, "state"),
        ({"endpoint": "boo\x00ks"}, "endpoint"),
        ({"endpont": "books"}, "endpont"),
    ],
)
def test_what_makes_no_sense_is_refused(house: House, asked: dict[str, Any], said: str) -> None:
    """422 that says what; nothing is sent."""
    assert said in problem(house.redeliver(**asked), 422, "bad-parameter")["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"endpoint": 1}'])
def test_what_is_no_such_json_is_refused(house: House, body: bytes) -> None:
    """422 whatever the bytes are."""
    problem(house.http.post("/deliveries/redeliver", content=body), 422, "bad-parameter")


def test_a_body_has_a_limit(house: House) -> None:
    """Nobody fills the memory with what is a few words."""
    problem(house.http.post("/deliveries/redeliver", content=b" " * 20_000), 413, "too-large")


def test_an_endpoint_that_gets_nothing_is_told(house: House) -> None:
    """409 for one that is disabled or unknown: all of it would fail again."""
    assert "no endpoint" in problem(house.redeliver(endpoint="boks"), 409, "no-open-endpoint")["detail"]
    house.post.ledger.endpoints.disable("books", "test", now_ms())
    assert "enable books" in problem(house.redeliver(endpoint="books"), 409, "no-open-endpoint")["detail"]


def test_sending_again_needs_an_admins_token(settings: Settings, intake: Intake) -> None:
    """Reading is not enough for it; handing in is enough for neither."""
    strict = Settings.model_validate({"state_dir": settings.state_dir, "web": {"require_token": True}})
    tokens = {scope: intake.ledger.tokens.create(scope.value, [scope])[1] for scope in Scope}
    with (
        served(make_app(strict, intake)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=20) as http,
    ):
        problem(http.get("/endpoints"), 401, "no-token")
        problem(http.get("/endpoints", headers=bearer(tokens[Scope.SUBMIT])), 403, "scope")
        assert http.get("/endpoints", headers=bearer(tokens[Scope.READ])).json() == {"endpoints": []}
        for scope in (Scope.READ, Scope.SUBMIT):
            refused = http.post("/deliveries/redeliver", json={"to": "a@b.example"}, headers=bearer(tokens[scope]))
            problem(refused, 403, "scope")
        done = http.post("/deliveries/redeliver", json={"to": "a@b.example"}, headers=bearer(tokens[Scope.ADMIN]))
        assert done.json() == {"dry_run": False, "deliveries": 0, "jobs": [], "left": []}
