"""SIGHUP: settings, routes, templates and credentials are read again while the process goes on.

What is wrong is told and refused as a whole; the old stays in force. `postroom systemd before-reload` finds the same in
each unit's ExecReload=, so that `systemctl reload` fails.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from config.errors import ConfigError
from config.settings import Settings
from tasks import log
from tasks.configured import routes_of
from tasks.errors import PostroomError

AT_START = (
    "state_dir",
    "ledger_url",
    "broker_url",
    "log_level",
    "log_format",
    "log_addresses",
    "web.host",
    "web.port",
    "smtp.host",
    "smtp.port",
    "smtp.lmtp_port",
    "smtp.lmtp_socket",
    "worker.fetch_concurrency",
    "worker.extract_concurrency",
    "worker.model_concurrency",
    "worker.deliver_concurrency",
    "model.embed",
    "model.embed_every",
)
"""Settings that a process reads once. A reload names those that changed; a restart takes them over."""


class Reloads:
    """Reads the configuration again whenever SIGHUP asks for it, in a thread of its own."""

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        """`read` gives the settings as they are now and raises ConfigError."""
        self.settings = settings
        self._read = read
        self._asked = threading.Event()
        self._apply: list[Callable[[Settings], None]] = []

    def on(self, apply: Callable[[Settings], None]) -> None:
        """Call `apply` with new settings that are known to be right; ConfigError from it refuses them as well."""
        self._apply.append(apply)

    def listen(self) -> None:
        """Take SIGHUP from now on. Call it in the main thread."""
        signal.signal(signal.SIGHUP, self._ask)
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def reload(self) -> bool:
        """Read and apply; whether it was accepted."""
        try:
            settings = self._read()
            routes_of(settings)
            for apply in self._apply:
                apply(settings)
        except ConfigError as error:
            for problem in error.problems:
                log.reload_refused(str(problem))
            return False
        except (PostroomError, OSError) as error:
            log.reload_refused(str(error))
            return False
        later = [name for name in AT_START if _at(settings, name) != _at(self.settings, name)]
        self.settings = settings
        log.reloaded(later)
        return True

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.set()

    def _run(self) -> None:
        while self._asked.wait():
            self._asked.clear()
            self.reload()


def _at(settings: Settings, dotted: str) -> object:
    found: object = settings
    for name in dotted.split("."):
        found = getattr(found, name)
    return found
