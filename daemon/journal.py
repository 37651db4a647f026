"""What the journal holds of one job, over all units: `journalctl POSTROOM_JOB=...`."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass

from tasks.timeline import Line

SECONDS = 20
MOST = 2000
"""Lines that are read, the newest ones."""


@dataclass(frozen=True)
class Found:
    """The journal's lines, or why there are none."""

    lines: list[Line]
    why_none: str = ""


def lines_of(job_id: str, program: str = "journalctl") -> Found:
    """Every line with the field POSTROOM_JOB=`job_id` that the asker may read, oldest first. Raises nothing."""
    if not (path := shutil.which(program)):
        return Found([], "journalctl is not on this machine")
    command = [path, f"POSTROOM_JOB={job_id}", "--output=json", "--no-pager", "--quiet", f"--lines={MOST}"]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Found([], f"journalctl did not answer within {SECONDS} s")
    except OSError as error:
        return Found([], f"journalctl cannot be run: {error.strerror}")
    lines = [line for one in ended.stdout.splitlines() if (line := _line(one))]
    said = " ".join(ended.stderr.decode("utf-8", "replace").split())
    if not lines:
        return Found([], said or "the journal has nothing of this job (or you may not read it: group systemd-journal)")
    return Found(lines)


def _line(text: bytes) -> Line | None:
    try:
        entry = json.loads(text)
        at = int(entry["__REALTIME_TIMESTAMP"]) // 1000
    except (ValueError, KeyError, TypeError):
        return None
    unit = _text(entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER") or "journal")
    return Line(at, unit.removesuffix(".service"), *_told(_text(entry.get("MESSAGE"))))


def _told(message: str) -> tuple[str, str]:
    """Event and details: of a line that is JSON, as Postroom writes it, its fields; of another one, itself."""
    try:
        fields = json.loads(message)
    except ValueError:
        return message, ""
    if not isinstance(fields, dict):
        return message, ""
    event = str(fields.pop("event", ""))
    known = ("job", "timestamp", "process", "level")
    return event, "  ".join(f"{name}={value}" for name, value in fields.items() if name not in known)


def _text(value: object) -> str:
    """journalctl writes text as text, and what is not printable as a list of bytes."""
    if isinstance(value, list):
        return bytes(one for one in value if isinstance(one, int) and 0 <= one < 256).decode("utf-8", "replace")
    return "" if value is None else str(value)
