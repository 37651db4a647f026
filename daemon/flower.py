"""`postroom flower`: Flower on our Celery app. It shows what the broker carries; what a message is, only the ledger knows."""

from __future__ import annotations

import importlib.util

from config.settings import Settings
from daemon.notify import tell_ready
from tasks import log
from tasks.app import BROKER_ERRORS, make_app, ping
from tasks.errors import Permanent, Unavailable

HOST = "127.0.0.1"


def run(settings: Settings, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises Permanent when Flower is not installed, Unavailable when the broker does not answer: without it Flower would
    show nothing and say nothing.
    """
    if importlib.util.find_spec("flower") is None:
        raise Permanent("Flower is not installed; install it with: pip install 'postroom[flower]'")
    app = make_app(settings)
    try:
        ping(app)
    except BROKER_ERRORS as error:
        where = settings.broker.rpartition("@")[2]
        raise Unavailable(
            "redis", f"the broker {where} does not answer: {error}; start it, or mend broker_url"
        ) from None
    line = f"flower on http://{HOST}:{port}"
    log.ready(line)
    tell_ready(line)
    app.start(["--quiet", "flower", f"--address={HOST}", f"--port={port}", "--inspect_timeout=1"])
