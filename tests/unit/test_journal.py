"""Journal entries: fields, priorities, one line a message, and a catalog that explains what has to be understood."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.journal import LONGEST, MESSAGE_IDS, datagram, message
from tests.unit.test_log import REPOSITORY

CATALOG = REPOSITORY / "systemd" / "postroom.catalog"
WRITE = """
import logging, os, sys
from tasks import journal, log
journal.SOCKET = sys.argv[1]
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
from config.settings import Settings
from tasks.models import Envelope, Job, Kind, Receipt, Stage
log.configure(Settings(), "web")
job = Job.model_construct(id="0" * 26, source="webhook:shop", route="post", attempts=3)
receipt = Receipt(job_id=job.id, duplicate=False, conflict=False, received_at=1)
log.accepted([(Envelope(source="smtp", kind=Kind.MAIL, key="k", sender="ada@sender.example"), receipt)])
log.stage_failed(job, Stage.CLASSIFY, "two\\nlines")
try:
    raise ValueError("secret of\\nmine")
except ValueError as error:
    log.bug(job, Stage.CLASSIFY, error)
logging.getLogger("celery").warning("a record")
log.cannot_start(["postroom.toml:3: wrong"], refused=True)
"""


def fields_of(data: bytes) -> dict[str, str]:
    """What journald reads from a datagram."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, sign, value = line.partition(b"=")
        if not sign:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[9 + size :]
        found[name.decode()] = value.decode()
    return found


def test_a_process_under_systemd_writes_entries(tmp_path: Path) -> None:
    """Job, stage, route and source are fields over which the journal can be asked; priorities are syslog's."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        command = [sys.executable, "-c", WRITE, str(path)]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
        journald.setblocking(False)
        accepted, failed, bug, record, refused = (fields_of(journald.recv(1 << 20)) for _ in range(5))
    assert ended.stderr == ""
    assert accepted["PRIORITY"] == "6"
    assert accepted["POSTROOM_JOB"] == failed["POSTROOM_JOB"] == "0" * 26
    assert (accepted["POSTROOM_SOURCE"], accepted["POSTROOM_SENDER"]) == ("smtp", "...@sender.example")
    assert accepted["SYSLOG_IDENTIFIER"] == "postroom-web"
    assert (failed["PRIORITY"], failed["MESSAGE_ID"]) == ("3", MESSAGE_IDS["job failed"])
    assert (failed["POSTROOM_STAGE"], failed["POSTROOM_ROUTE"]) == ("classify", "post")
    assert failed["POSTROOM_REASON"] == "two\nlines"
    assert '"two lines"' in failed["MESSAGE"] or '"two\\nlines"' in failed["MESSAGE"]
    assert bug["MESSAGE"].endswith("mine")
    assert "Traceback" in bug["POSTROOM_EXCEPTION"]
    assert "\n" not in "".join(one["MESSAGE"] for one in (accepted, failed, bug, record, refused))
    assert (record["PRIORITY"], record["MESSAGE"]) == ("4", "a record logger=celery")
    assert (refused["MESSAGE_ID"], refused["POSTROOM_REASON"]) == (
        MESSAGE_IDS["configuration refused"],
        "postroom.toml:3: wrong",
    )


def test_nobody_forges_a_field() -> None:
    """A subject with line breaks stays within its own field, however it looks."""
    event = {"event": "alert", "level": "info", "subject": "x\nPRIORITY=0\nMESSAGE=forged", "bad key=\n": "y"}
    found = fields_of(datagram(event))
    assert found["PRIORITY"] == "6"
    assert found["POSTROOM_SUBJECT"] == event["subject"]
    assert found["POSTROOM_BAD_KEY__"] == "y"
    assert len(message({"event": "x", "reason": "\x1b[31m\u2028"}).splitlines()) == 1
    assert len(fields_of(datagram({"event": "x", "reason": "y" * 10**6}))["POSTROOM_REASON"]) == LONGEST


def test_the_catalog_explains_each_number() -> None:
    """No event without words, no words without an event; each field that a text names is one of the event's keys."""
    found = re.findall(r"(?m)^-- ([0-9a-f]{32})$", CATALOG.read_text())
    assert sorted(found) == sorted(set(MESSAGE_IDS.values()))
    source = (REPOSITORY / "tasks/log.py").read_text()
    for event in MESSAGE_IDS:
        assert f'"{event}"' in source or event.startswith("imap.")


@pytest.mark.skipif(not shutil.which("journalctl"), reason="no journalctl here")
def test_journalctl_reads_the_catalog(tmp_path: Path) -> None:
    """It compiles without a complaint, and has each entry."""
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(CATALOG, place)
    ended = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == ""
    dumped = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--dump-catalog"], capture_output=True, text=True, timeout=60, check=True
    )
    assert dumped.stdout.count("Defined-By: Postroom") == len(set(MESSAGE_IDS.values()))
