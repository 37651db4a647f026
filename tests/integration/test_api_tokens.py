"""Who may use the API, over real HTTP and with the process that an admin starts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from tasks.ledger import Scope
from tests.commands import postroom
from tests.integration.api_parts import PDF, House, bearer, running
from tests.integration.webhook_parts import problem
from tests.street import Street


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture
def house(settings: Settings, options: dict[str, Any]) -> Iterator[House]:
    with running(settings, **options) as made:
        yield made


@pytest.mark.parametrize("options", [{"require_token": True}])
def test_a_token_opens_as_much_as_its_scopes_say(house: House) -> None:
    """401 without one, 403 beyond its scopes, each with what WWW-Authenticate has to say (RFC 6750 section 3)."""
    tokens = {scope: house.ledger.tokens.create(scope.value, [scope])[1] for scope in Scope}
    for path in ("/jobs", f"/jobs/{'0' * 26}", f"/jobs/{'0' * 26}/raw", f"/jobs/{'0' * 26}/result", "/jobs/x/events"):
        refused = house.http.get(path)
        problem(refused, 401, "no-token")
        assert refused.headers["www-authenticate"] == 'Bearer realm="postroom"'
        problem(house.http.get(path, headers=bearer(tokens[Scope.SUBMIT])), 403, "scope")
        assert house.http.get(path, headers=bearer(tokens[Scope.READ])).status_code in {200, 404}
        assert house.http.get(path, headers=bearer(tokens[Scope.ADMIN])).status_code in {200, 404}
    for path in ("/jobs", "/jobs/batch"):
        problem(house.post(path, files={"file": PDF}), 401, "no-token")
        refused = house.post(path, files={"file": PDF}, headers=bearer(tokens[Scope.READ]))
        problem(refused, 403, "scope")
        assert 'error="insufficient_scope", scope="submit"' in refused.headers["www-authenticate"]
        assert house.post(path, files={"file": PDF}, headers=bearer(tokens[Scope.SUBMIT])).status_code == 202
    assert house.http.get("/healthz").status_code == 200
    house.ledger.tokens.revoke(tokens[Scope.READ].split("_")[1])
    refused = house.http.get("/jobs", headers=bearer(tokens[Scope.READ]))
    problem(refused, 401, "bad-token")
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize("options", [{"require_token": True}])
def test_nothing_is_read_of_a_body_without_a_token(house: House) -> None:
    """The refusal comes at once, before the body that was announced."""
    host, port = house.url.removeprefix("http://").split(":")
    head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(head.encode())
        assert client.recv(65_536).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "127.0.0.1"},
        {"Host": "postroom.example"},
        {"Host": "rebound.example:8480"},
        {"Host": "["},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_loopback_alone_opens_nothing(house: House, headers: dict[str, str]) -> None:
    """A program on this machine needs no token; a proxy, a rebound name or somebody's page in a browser does."""
    assert house.http.get("/jobs").status_code == 200
    problem(house.http.get("/jobs", headers=headers), 401, "no-token")
    problem(house.post(content=b"x", headers=headers), 401, "no-token")
    token = house.ledger.tokens.create("page", [Scope.READ])[1]
    assert house.http.get("/jobs", headers={**headers, **bearer(token)}).status_code == 200


@pytest.mark.parametrize("options", [{"public_url": "https://postroom.example"}])
def test_a_public_address_needs_tokens(house: House) -> None:
    """Who set public_url has a proxy in front, and every proxy comes from loopback."""
    problem(house.http.get("/jobs"), 401, "no-token")


@pytest.mark.parametrize(
    "options", [{}, {"require_token": False}, {"require_token": True}, {"public_url": "https://p.example"}]
)
def test_the_document_tells_whether_a_token_may_be_left_out(house: House, options: dict[str, Any]) -> None:
    """`{}` beside the token's scheme where somebody needs none; nothing at all for health and webhooks."""
    paths = house.http.get("/openapi.json").json()["paths"]
    everybody = options.get("require_token") is True or "public_url" in options
    for path, method in (
        ("/jobs", "get"),
        ("/jobs", "post"),
        ("/jobs/batch", "post"),
        ("/jobs/{job_id}/events", "get"),
    ):
        assert paths[path][method]["security"] == [{"token": []}, *([] if everybody else [{}])]
    assert not any(
        "security" in paths[path][method] for path, method in (("/healthz", "get"), ("/hooks/{source}", "post"))
    )


@pytest.mark.parametrize("options", [{"require_token": False}])
def test_tokens_can_be_done_without(house: House) -> None:
    """false asks nobody; a token that is sent and wrong is refused all the same."""
    assert house.http.get("/jobs", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200
    problem(house.http.get("/jobs", headers=bearer("pr_nonsense")), 401, "bad-token")


def test_the_web_process_takes_a_token_made_on_the_command_line(tmp_path: Path) -> None:
    """From `postroom token create` to a job and to `revoke`, with the process that an admin starts; no broker is there."""
    with Street(tmp_path, web="require_token = true") as street:
        made = postroom("token", "create", "scanner", "--scope", "submit", state=street.state)
        assert (made.returncode, made.stdout.count("\n")) == (0, 1), made.stderr
        token = bearer(made.stdout.strip())
        with street.web() as http:
            assert http.post("/jobs", files={"file": PDF}, headers=token).status_code == 202
            problem(http.get("/jobs", headers=token), 403, "scope")
            listed = json.loads(postroom("token", "list", "--json", state=street.state).stdout)
            assert [(one["name"], one["scopes"], bool(one["last_used_at"])) for one in listed] == [
                ("scanner", ["submit"], True)
            ]
            assert postroom("token", "revoke", listed[0]["id"], state=street.state).returncode == 0
            problem(http.post("/jobs", files={"file": PDF}, headers=token), 401, "bad-token")
        assert made.stdout.strip() not in street.log(0)
        street.processes[0].terminate()
        assert street.processes[0].wait(timeout=30) == 0
