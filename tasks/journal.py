"""Log lines as journal entries with fields of their own, over systemd's native protocol.

`journalctl POSTROOM_JOB=01k9...` tells a job's story over all units. The protocol is a datagram of NAME=value lines
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import struct
from collections.abc import Mapping
from typing import Any, TextIO

SOCKET = "/run/systemd/journal/socket"
LONGEST = 32_768
"""Bytes of one field; the rest is cut, for a datagram must fit into the socket's buffer."""
PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3) levels of ours."""
MESSAGE_IDS = {
    "job failed": "eac80d348c044240b3b03c3d205ac665",
    "job rests in review": "e1d1d823be05405eb03280f177553183",
    "dependency unavailable": "379d8000fbec4ccb84fbb669d9ed90a2",
    "broker unavailable": "6c982bf3a678422ea33bbfea40ed7732",
    "ledger unavailable": "8705d9baab2047bcb8e486955b345964",
    "rescue waits for the ledger": "8705d9baab2047bcb8e486955b345964",
    "unexpected error": "251dbe91613b41ce97b413cf9c3d9ff0",
    "lease taken back": "b99d88feebff45e4b5a0739478041d3a",
    "worker deaf": "1fab583910fc4ddeb2e8e62c7c45f86a",
    "alert": "0a6caff17e94411784b08f027739ef87",
    "configuration refused": "3923cd4163ef48ef9d775f0b6ff862fc",
    "reload refused": "9ee16157561b49469c05837c496d487f",
    "imap.down": "6cdeba6f06644db6bf5c3e5b666b7fbb",
    "imap.quarantined": "f2425c0c46534a1a9434016e1099c3c8",
}
"""Events that an admin has to understand: systemd/postroom.catalog explains each (`journalctl -x`)."""
_ASIDE = frozenset({"event", "level", "process", "timestamp", "exception", "text"})
"""Keys that are no part of the message: the journal has fields for them, or they are longer than a line."""
_PLAIN = re.compile(r"[^\s\"=,]+")
_NOT_A_NAME = re.compile(r"[^A-Z0-9_]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def attached(stream: TextIO) -> bool:
    """Whether `stream` goes to the journal: systemd names its device and inode in JOURNAL_STREAM (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    with contextlib.suppress(OSError, ValueError):
        found = os.fstat(stream.fileno())
        return (device, inode) == (str(found.st_dev), str(found.st_ino))
    return False


class Journal:
    """Sends entries. One that cannot be sent never stops what it tells of."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._address = SOCKET

    def send(self, event: Mapping[str, Any]) -> None:
        """Send what structlog collected: `event`, `level`, `process` and the keys of this event."""
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram(event), self._address)

    debug = info = warning = error = critical = msg = send


def datagram(event: Mapping[str, Any]) -> bytes:
    """One entry: a message of one line, and each key as a field of its own."""
    name = str(event.get("event", ""))
    fields = {
        "MESSAGE": message(event),
        "PRIORITY": str(PRIORITY.get(str(event.get("level")), 5)),
        "SYSLOG_IDENTIFIER": f"postroom-{event.get('process', 'cli')}",
        "POSTROOM_EVENT": name,
    }
    if number := MESSAGE_IDS.get(name):
        fields["MESSAGE_ID"] = number
    for key, value in event.items():
        if key not in {"event", "level", "process", "timestamp"} and value not in {"", None}:
            fields[f"POSTROOM_{_NOT_A_NAME.sub('_', key.upper())}"] = _text(value)
    return b"".join(_field(key, value) for key, value in fields.items())


def message(event: Mapping[str, Any]) -> str:
    """`stage done job=01k9... stage=extract seconds=0.2`, and the last line of a traceback."""
    told = [str(event.get("event", ""))]
    for key, value in event.items():
        if key not in _ASIDE and value not in {"", None}:
            text = _text(value)
            told.append(f"{key}={text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)}")
    if trace := str(event.get("exception", "")).strip():
        told.append(trace.rpartition("\n")[2])
    return _UNPRINTABLE.sub(" ", " ".join(told))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int | float)
        else json.dumps(value, default=repr)
    )


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")[:LONGEST]
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)


class Handler(logging.Handler):
    """The standard library's records, those of Celery and uvicorn for instance."""

    def __init__(self, journal: Journal, process: str) -> None:
        super().__init__()
        self._journal = journal
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        level = logging.getLevelName(record.levelno).lower()
        event = {"event": record.getMessage(), "level": level, "process": self._process, "logger": record.name}
        if record.exc_info:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        self._journal.send(event)
