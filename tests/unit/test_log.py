"""Log lines: one JSON object each, without addresses unless they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SENDERS = ["ada@sender.example", "", '"quo\\"ted\n\u2028"@x.example']
WRITE = """
import json, sys
from config.settings import Settings
from tasks import log
from tasks.models import Envelope, Kind, Receipt
told = json.loads(sys.argv[1])
log.configure(Settings(log_format="json", log_level=told["level"], log_addresses=told["addresses"]), 'we"b')
for sender in told["senders"]:
    for duplicate, conflict in ((False, False), (True, False), (True, True)):
        receipt = Receipt(job_id="0" * 26, duplicate=duplicate, conflict=conflict, received_at=1)
        envelope = Envelope(source='webhook:"shop"', kind=Kind.EVENT, key="k", sender=sender)
        log.accepted([(envelope, receipt)])
        by_hand, log._state["direct"] = log._state["direct"], ""
        log.accepted([(envelope, receipt)])
        log._state["direct"] = by_hand
"""


def written(level: str = "info", *, addresses: bool = False) -> list[dict[str, object]]:
    """What a process writes about accepted messages: each line by hand, then by structlog."""
    told = json.dumps({"level": level, "addresses": addresses, "senders": SENDERS})
    command = [sys.executable, "-c", WRITE, told]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ended.stderr.splitlines()]


@pytest.mark.parametrize("addresses", [False, True])
def test_the_line_of_an_accepted_message_is_the_one_that_structlog_would_write(*, addresses: bool) -> None:
    """It is written by hand for its speed; both ways say the same in the same order."""
    lines = written(addresses=addresses)
    assert len(lines) == 2 * 3 * len(SENDERS)
    for by_hand, by_structlog in zip(lines[::2], lines[1::2], strict=True):
        assert list(by_hand) == list(by_structlog)
        assert by_hand | {"timestamp": ""} == by_structlog | {"timestamp": ""}
    assert lines[0]["sender"] == ("ada@sender.example" if addresses else "...@sender.example")


def test_a_higher_level_leaves_it_out() -> None:
    """`log_level = "warning"` holds for it as for every line."""
    assert written("warning") == []
