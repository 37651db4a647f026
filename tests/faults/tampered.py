"""`postroom` with one fault built in, exactly where it is meant to strike. Started by a test as a program.

    python -m tests.faults.tampered FAULT --config postroom.toml worker

`FAULT` is a key of FAULTS, `NAME=VALUE` where it takes a value.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kombu.transport import redis
from kombu.transport.virtual import base as kombu

from daemon.cli import main
from daemon.web import server as web
from tasks import nudger, pipeline, sending, worker
from tasks.app import QUEUES
from tasks.ledger.arrivals import Arrivals


def die(*_: Any, **__: Any) -> Any:
    """kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def before_commit(_: str) -> None:
    """Dies when a message would be committed."""
    Arrivals._commit = die  # type: ignore[method-assign]


def before_202(_: str) -> None:
    """Dies where it would start a 202: the message is on disk, and nobody was told."""
    make_app = web.make_app

    def made(*arguments: Any, **options: Any) -> Any:
        inner = make_app(*arguments, **options)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def telling(message: Any) -> None:
                if message.get("status") == 202:
                    die()
                await send(message)

            await inner(scope, receive, telling)

        return application

    web.make_app = made


def before_publish(_: str) -> None:
    """Dies with the message committed and not published."""
    nudger.publish = die


def before_mark(_: str) -> None:
    """Dies with the message published and not marked as such."""
    publish = nudger.publish

    def published(*arguments: Any) -> None:
        publish(*arguments)
        die()

    nudger.publish = published


def at_pop(_: str) -> None:
    """Dies when a job has left the broker's queue and nobody has noted it: what Redis has of it is gone."""
    deliver = kombu.Transport._deliver

    def popped(self: Any, message: Any, queue: str) -> None:
        if queue in QUEUES:
            die()
        deliver(self, message, queue)

    kombu.Transport._deliver = popped


def after_effect(_: str) -> None:
    """Dies when the other side has taken a delivery and the ledger has not heard of it."""
    deliver = sending.deliver

    def delivered(*arguments: Any) -> None:
        deliver(*arguments)
        die()

    sending.deliver = delivered  # type: ignore[assignment]


def poison(_: str) -> None:
    """Dies of a message that says so, as of one that takes all memory."""
    extract = pipeline.extract

    def read(job: Any, raw: bytes, *rest: Any) -> Any:
        return die() if b"poison" in raw else extract(job, raw, *rest)

    pipeline.extract = read


def visibility(seconds: str) -> None:
    """Has a broker that gives out again what nobody acknowledged for so many seconds, and looks for it each second."""
    make_app, restore = worker.make_app, redis.QoS.restore_by_tag

    def restored(*arguments: Any, **options: Any) -> None:
        restore(*arguments, **options)
        print("given out again", flush=True)

    def made(settings: Any) -> Any:
        app = make_app(settings)
        app.conf.broker_transport_options |= {
            "visibility_timeout": float(seconds),
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
        return app

    redis.QoS.restore_by_tag = restored
    worker.make_app = made


def clock(file: str) -> None:
    """Has a wall clock that is ahead by the seconds that stand in a file."""
    real, real_ns = time.time, time.time_ns

    def ahead() -> int:
        return int(float(Path(file).read_text() or 0))

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + ahead() * 10**9


FAULTS: dict[str, Callable[[str], None]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        before_commit,
        before_202,
        before_publish,
        before_mark,
        at_pop,
        after_effect,
        poison,
        visibility,
        clock,
    )
}

if __name__ == "__main__":
    name, _, value = sys.argv.pop(1).partition("=")
    FAULTS[name](value)
    main()
