"""One function per event worth a log line; one wide line an event. No bodies, no secrets, no addresses unless set.

Lines go to stderr as JSON, to a terminal in columns, and to the journal as entries with fields (tasks/journal.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog

from config.settings import Settings
from tasks import journal
from tasks.models import Envelope, Job, Receipt, Stage

if TYPE_CHECKING:
    from tasks.ledger import Look  # which takes a tenth of a second to load, and logs nothing

_log = structlog.get_logger("postroom")
_ADDRESSES = ("sender", "recipient", "target")


class _Stderr:
    """Standard error; a line that cannot be written (a full disk, a reader that is gone) never stops what it tells of."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


_STDERR = _Stderr()
_state: dict[str, Any] = {"addresses": False, "direct": "", "journal": None}
_quoted = json.encoder.encode_basestring_ascii
_ENCODER = json.JSONEncoder(default=repr)
"""One for all lines: making one costs as much as a line."""


def configure(settings: Settings, process: str) -> None:
    """Send structlog and the standard library's records to the journal, or to stderr: JSON, or columns on a terminal."""
    _state["addresses"], _state["journal"] = settings.log_addresses, None
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    if settings.log_format == "auto" and journal.attached(sys.stderr):
        _to_journal(journal.Journal(), process, level)
        return
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [_common(process)]
    renderer: Any = _console() if console else _as_json
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer] if not console else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(_STDERR),  # type: ignore[arg-type]  # write and flush are all it uses
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    _state["direct"] = "" if console or level > logging.INFO else _end_of_line(process)
    _hear_others(handler, level)


def _hear_others(handler: logging.Handler, level: int) -> None:
    """The standard library's records."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def _to_journal(to: journal.Journal, process: str, level: int) -> None:
    def entry(_logger: object, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (event,), {}

    structlog.configure(
        processors=[_common(process), structlog.processors.format_exc_info, entry],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: to,
        cache_logger_on_first_use=True,
    )
    _state["direct"] = ""
    _state["journal"] = (to, process) if level <= logging.INFO else None
    _hear_others(journal.Handler(to, process), level)


def cannot_start(problems: Sequence[str], *, refused: bool) -> None:
    """A command ends before it has begun; said in plain words, or to the journal.

    `refused`: configuration or schema are wrong, and systemd does not try again.
    """
    to = journal.Journal() if journal.attached(sys.stderr) else None
    event = "configuration refused" if refused else "cannot go on"
    for problem in problems:
        if to:
            to.send({"event": event, "level": "error", "process": "start", "reason": problem})
        else:
            print(problem, file=sys.stderr)


def _common(process: str) -> Any:
    """What every line has. One step for all of it: a step for each would be half of what a line costs."""

    def add(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        event["level"] = method
        event["timestamp"] = _now()
        return _hide_addresses(event)

    return add


def _as_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return _ENCODER.encode(event)


def _console() -> Any:
    """Columns for a terminal; a traceback without its variables, for they hold people's mail."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _hide_addresses(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _ADDRESSES:
        if isinstance(value := event.get(name), str):
            event[name] = _hidden(value)
    return event


def _hidden(address: str) -> str:
    return address if _state["addresses"] or "@" not in address else "..." + address[address.rindex("@") :]


def _now() -> str:
    """RFC 3339 in UTC, to the microsecond."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def accepted(stored: Sequence[tuple[Envelope, Receipt]]) -> None:
    """Messages are on disk, or were there already: a line each."""
    if end := _state["direct"]:
        _STDERR.write("".join([_accepted_line(envelope, receipt, end) for envelope, receipt in stored]))
        _STDERR.flush()
        return
    if _state["journal"]:
        to, process = _state["journal"]
        for envelope, receipt in stored:
            to.send({"event": "accepted", "level": "info", "process": process, **_of_accepted(envelope, receipt)})
        return
    for envelope, receipt in stored:
        _log.info("accepted", **_of_accepted(envelope, receipt))


def _of_accepted(envelope: Envelope, receipt: Receipt) -> dict[str, Any]:
    more = {"conflict": True} if receipt.conflict else {}
    return {
        "job": receipt.job_id,
        "source": envelope.source,
        "kind": envelope.kind.value,
        "sender": _hidden(envelope.sender),
        "duplicate": receipt.duplicate,
        **more,
    }


def _accepted_line(envelope: Envelope, receipt: Receipt, end: str) -> str:
    """The same line, by hand: it is written for each message, and structlog's way was a sixth of what accepting costs."""
    sender = _hidden(envelope.sender)
    more = ', "conflict": true' if receipt.conflict else ""
    return (
        f'{{"job": "{receipt.job_id}", "source": {_quoted(envelope.source)}, "kind": "{envelope.kind.value}", '
        f'"sender": {_quoted(sender)}, "duplicate": {"true" if receipt.duplicate else "false"}{more}, '
        f'"event": "accepted", {end}"{_now()}"}}\n'
    )


def _end_of_line(process: str) -> str:
    return f'"process": {_quoted(process)}, "level": "info", "timestamp": '


def _of(job: Job, stage: Stage) -> dict[str, str]:
    """What every line about a job has."""
    route = {"route": job.route} if job.route else {}
    return {"job": job.id, "stage": stage.value, "source": job.source, **route}


def stage_done(job: Job, stage: Stage, seconds: float, **facts: Any) -> None:
    """A stage wrote its value."""
    told = {**_of(job, stage), "seconds": round(seconds, 3), "attempt": job.attempts, **facts}
    _log.info("stage done", **told)


def stage_waits(job: Job, stage: Stage, reason: str, wait: float, *, outage: bool) -> None:
    """A stage is tried again later."""
    event = "dependency unavailable" if outage else "stage waits"
    _log.warning(event, **_of(job, stage), reason=reason, seconds=round(wait, 1), attempt=job.attempts)


def stage_failed(job: Job, stage: Stage, reason: str, **facts: Any) -> None:
    """The job is a dead letter now."""
    _log.error("job failed", **_of(job, stage), reason=reason, attempt=job.attempts, **facts)


def needs_review(job: Job, stage: Stage, reason: str) -> None:
    """A person has to decide."""
    _log.warning("job rests in review", **_of(job, stage), reason=reason)


def bug(job: Job, stage: Stage, error: BaseException) -> None:
    """Something that Postroom did not expect; it is tried again, and the traceback tells why."""
    _log.error("unexpected error", **_of(job, stage), exc_info=error)


def lease_lost(job_id: str, stage: Stage) -> None:
    """A worker that was too late; what it did is not written."""
    _log.warning("lease lost", job=job_id, stage=stage.value)


def lease_taken_back(job_id: str, owner: str, reason: str) -> None:
    """The rescue freed the lease of a dead or frozen worker."""
    _log.warning("lease taken back", job=job_id, owner=owner, reason=reason)


def delivery(job: Job, transport: str, target: str, outcome: str, detail: str, number: int, key: str) -> None:
    """One attempt to deliver, whole."""
    line = _log.info if outcome == "sent" else _log.warning
    line(
        "delivery",
        **_of(job, Stage.DELIVER),
        transport=transport,
        target=target,
        outcome=outcome,
        detail=detail,
        attempt=number,
        key=key,
    )


def alert(job_id: str, key: str, subject: str, text: str, told: int) -> None:
    """A person has to look at something; `told` ways tell it, and when that is none this line is all there is."""
    _log.error("alert", job=job_id, key=key, subject=subject, text=text, told=told)


def alert_not_told(key: str, transport: str, reason: str) -> None:
    """An alert cannot be written for one of those who should hear it; the others hear it."""
    _log.error("alert not told", key=key, transport=transport, reason=reason)


def enqueued(number: int, why: str) -> None:
    """Jobs were published to the broker again."""
    _log.info("enqueued", jobs=number, why=why)


def backlog(look: Look) -> None:
    """What waits, as a rescue sees it; once a minute while something does."""
    age = round((look.at - look.oldest_at) / 1000) if look.oldest_at else 0
    _log.info(
        "backlog",
        open=look.open_jobs,
        oldest_seconds=age,
        unpublished=look.unpublished,
        queued=look.queued,
        tick_ms=look.tick_ms,
        slowest_tick_ms=look.slowest_ms,
    )


def broker_down(reason: str) -> None:
    """The broker does not answer; jobs wait in the ledger."""
    _log.warning("broker unavailable", reason=reason)


def broker_up() -> None:
    """The broker answers again."""
    _log.info("broker available")


def worker_deaf(queues: str, seconds: float) -> None:
    """A worker was connected and consumed nothing; it ends, to be started again."""
    _log.error("worker deaf", queues=queues, seconds=seconds)


def reloaded(after_restart: Sequence[str]) -> None:
    """Settings, routes and templates were read again and are in force; what is named waits for a restart."""
    more = {"after_restart": ", ".join(after_restart)} if after_restart else {}
    _log.info("reloaded", **more)


def reload_refused(problem: str) -> None:
    """A reload found something wrong; everything stays as it was."""
    _log.error("reload refused", reason=problem)


def handed_back(stages: int) -> None:
    """A worker was told to stop and does not wait longer for what it runs; the rescue gives it to another."""
    _log.warning("handed back", stages=stages)


def ready(what: str) -> None:
    """A listener or worker is at work."""
    _log.info("ready", what=what)


def stopped(what: str) -> None:
    """A process ends because it was told to."""
    _log.info("stopped", what=what)


def ledger_down(job_id: str, stage: Stage, reason: str) -> None:
    """A stage could not reach the ledger; its job is found again by the rescue."""
    _log.error("ledger unavailable", job=job_id, stage=stage.value, reason=reason)


def rescue_waits(reason: str) -> None:
    """The rescue cannot reach the ledger; it looks again at the next tick."""
    _log.error("rescue waits for the ledger", reason=reason)


def process_ended(name: str, status: int, wait: float) -> None:
    """A process of `postroom up` ended by itself and is started again."""
    _log.error("process ended", name=name, status=status, again_in_seconds=wait)


def up_waits(reason: str, wait: float) -> None:
    """`postroom up` cannot begin: the ledger is away or has no room."""
    _log.error("up waits for the ledger", reason=reason, again_in_seconds=wait)


def process_refused(name: str) -> None:
    """A process refused its configuration; everything stops."""
    _log.error("bad configuration", name=name)
