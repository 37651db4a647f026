"""The server that the tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import ollama
import pytest

from tests.integration.model_server.parts import ELSEWHERE, Server, ended, started


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    """One server for all tests of this folder: one request at once, two may wait."""
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
