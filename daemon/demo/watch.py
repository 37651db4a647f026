"""Follows the jobs of the sent inputs until all rest, with a line for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daemon.demo.inputs import Mail
from daemon.demo.send import Sending
from daemon.demo.service import Json, Service
from tasks.models import RESTING

RESTING_NAMES = frozenset(state.value for state in RESTING)
NARROW = 70
POLL = 0.5


@dataclass
class Followed:
    """One sent input and the job it became."""

    sending: Sending
    sent_at: float
    job: Json = field(default_factory=dict)
    """The whole story; empty until the job is seen."""
    row: Json = field(default_factory=dict)
    """What the list of jobs said of it last."""
    rested_at: float | None = None

    @property
    def name(self) -> str:
        """The input's folder."""
        return self.sending.input.name

    @property
    def state(self) -> str:
        """Where the job stands, in one word."""
        return str(self.job.get("state", "sent"))

    @property
    def tokens(self) -> int:
        """Tokens that the model wrote so far."""
        done = sum(int((self.job.get(part) or {}).get("output_tokens", 0)) for part in ("classification", "reply"))
        return done + (0 if self.rested_at else int((self.job.get("progress") or {}).get("tokens", 0)))

    @property
    def elapsed(self) -> float:
        """Seconds since it was sent, until it rested."""
        return (self.rested_at or time.monotonic()) - self.sent_at


def is_of(sending: Sending, job: Json) -> bool:
    """Whether `job` is what `sending` became."""
    if sending.job_id:
        return bool(job["id"] == sending.job_id)
    delivery = sending.input.delivery
    if isinstance(delivery, Mail):
        return bool(job["message_id"] == delivery.message_id)
    return bool(job["name"] == sending.input.title)


def follow(followed: Sequence[Followed], service: Service, console: Console, timeout: float) -> None:
    """Poll until every job rests or `timeout` seconds are over. Raises ServiceError when Postroom ends."""
    deadline = time.monotonic() + timeout
    live = console.is_terminal and console.width >= NARROW
    shown: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=True) if live else _Plain() as screen:
        while time.monotonic() < deadline:
            service.check_alive()
            _look(followed, service)
            if live and isinstance(screen, Live):
                screen.update(_table(followed), refresh=True)
            else:
                _say_changes(followed, shown, console)
            if all(one.rested_at for one in followed):
                return
            time.sleep(POLL)


class _Plain:
    """Stands for Live where lines are printed instead."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _look(followed: Sequence[Followed], service: Service) -> None:
    """Bring what is known up to date; a server that is too busy to answer is asked again at the next look."""
    try:
        jobs = service.jobs()
        for one in followed:
            if one.rested_at:
                continue
            found = next((job for job in jobs if is_of(one.sending, job)), None)
            if found is None or found == one.row:
                continue
            one.row, one.job = found, service.job(str(found["id"]))
            if one.state in RESTING_NAMES:
                one.rested_at = time.monotonic()
    except httpx.HTTPError as error:
        service.trouble = str(error) or type(error).__name__
    else:
        service.trouble = ""


def _phase(one: Followed) -> str:
    progress = one.job.get("progress") or {}
    phase = "" if one.rested_at else str(progress.get("phase") or "")
    return f"{one.state} ({phase})" if phase else one.state


def _table(followed: Sequence[Followed]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("input", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("label", no_wrap=True)
    table.add_column("tokens", justify="right")
    table.add_column("elapsed", justify="right")
    for one in followed:
        style = "green" if one.state == "done" else "red" if one.rested_at else "bold" if one.job else "dim"
        label = str((one.job.get("classification") or {}).get("label", ""))
        tokens = str(one.tokens) if one.tokens else ""
        table.add_row(one.name, Text(_phase(one), style), label, tokens, f"{one.elapsed:.0f} s")
    return table


def _say_changes(followed: Sequence[Followed], shown: dict[str, str], console: Console) -> None:
    for one in followed:
        if one.job and shown.get(one.name) != one.state:
            shown[one.name] = one.state
            tokens = f", {one.tokens} tokens" if one.tokens else ""
            console.print(f"  {one.name}: {one.state}, {one.elapsed:.0f} s{tokens}", markup=False, highlight=False)
