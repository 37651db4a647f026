"""The OpenAPI document and the application say the same: schemathesis looks for a request that shows otherwise."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from tasks.ledger import Scope
from tests.integration.api_parts import House, running, take_to_the_end
from tests.integration.webhook_in_parts import SECRET

CONFIG = Path(__file__).parent / "schemathesis.toml"
FULL = os.environ.get("POSTROOM_TEST_FULL") == "1"
REPO = Path(__file__).resolve().parents[2]


@contextmanager
def worked(house: House) -> Iterator[None]:
    """Every job is done at once, so that streams end, and who waits for a result gets one."""
    accepted = queue.SimpleQueue[str]()

    def work() -> None:
        while job_id := accepted.get():
            take_to_the_end(house.ledger, job_id)

    thread = threading.Thread(target=work)
    thread.start()
    house.intake.nudge = lambda job_id, _stage: accepted.put(job_id)
    try:
        yield
    finally:
        accepted.put("")
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "web",
    [
        pytest.param({}, id="on this machine", marks=pytest.mark.skipif(not FULL, reason="set POSTROOM_TEST_FULL=1")),
        pytest.param({"require_token": True}, id="with tokens"),
    ],
)
def test_no_request_shows_that_the_document_is_wrong(settings: Settings, tmp_path: Path, web: dict[str, Any]) -> None:
    """Valid and invalid requests to every operation, alone and one after the other, webhooks signed.

    No status, header, content type or body that is not described; nothing refused that is described as right or taken
    that is described as wrong; where tokens are asked for, nothing without one. Without POSTROOM_TEST_FULL only there,
    where the same requests are made as without tokens, and more.
    """
    with running(settings, webhook={"shop": {"secrets": [SECRET]}}, **web) as house, worked(house):
        token = house.ledger.tokens.create("schemathesis", list(Scope))[1]
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "--no-color", "run"]
        ended = subprocess.run(
            [*command, "--checks", "all", "--url", house.url, f"{house.url}/openapi.json"],
            cwd=tmp_path,  # where it keeps what it found
            env={**os.environ, "PYTHONPATH": str(REPO), "POSTROOM_TEST_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=360,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        sources = {job.source.partition(":")[0] for job in house.ledger.jobs.page(limit=500)}
        assert sources == {"api", "webhook"}
