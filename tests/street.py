"""Single processes of Postroom: started as an admin starts them, on one folder, without a model.

The route has no labels, so nothing asks a model: what comes in is read and its result posted to a sink.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tasks.ledger import Ledger
from tasks.signatures import sign_standard

REPO = Path(__file__).resolve().parents[1]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOBODY = "redis://127.0.0.1:9/0"
"""A broker that is not there."""

_ROUTE = '[[deliver]]\nwebhook = "books"\n'
_CONFIG = """
state_dir = "{state}"
routes_dir = "{routes}"
log_format = "json"
broker_url = "{broker}"
[web]
port = 0
{web}
[webhook.shop]
secrets = ["{secret}"]
[endpoint.books]
url = "{sink}"
allow_private = true
[worker]
outage_wait = 1
{worker}
[rescue]
tick = 0.3
lost_after = 2
{more}"""


class Street:
    """A folder with a configuration, and the processes that were started on it."""

    def __init__(
        self,
        folder: Path,
        *,
        broker: str = NOBODY,
        sink: str = "http://127.0.0.1:9/none",
        web: str = "",
        worker: str = "",
        more: str = "",
        route: str = _ROUTE,
    ) -> None:
        """`web` and `worker` are lines of these sections, `more` further sections."""
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "postroom.toml"
        self.processes: list[subprocess.Popen[bytes]] = []
        routes = folder / "routes"
        routes.mkdir()
        Ledger.open(
            f"sqlite:///{self.state / 'ledger.db'}"
        ).close()  # cheaper here than in the process that comes first
        (routes / "10-all.toml").write_text(route)
        self.config.write_text(
            _CONFIG.format(
                state=self.state,
                routes=routes,
                broker=broker,
                secret=SECRET,
                sink=sink,
                web=web,
                worker=worker,
                more=more,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(
        self, name: str, program: Sequence[str] = ("-m", "daemon.cli"), before: Sequence[str] = (), ready: str = ""
    ) -> str:
        """Start `postroom NAME` and wait until it says that it is ready: `web on http://...`. Returns what it said.

        `ready` is a pattern for what else it says then.
        """
        log = self.folder / f"{name}-{len(self.processes)}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("POSTROOM_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*before, sys.executable, *program, "--config", str(self.config), name],
                cwd=REPO,
                env=environment,
                stdout=out,
                stderr=out,
            )
        self.processes.append(process)

        def said() -> str:
            assert process.poll() is None, log.read_text()
            found = re.search(ready or rf"({name} (on|for|every) [^\"]+)\"", log.read_text())
            return found[1] if found else ""

        return str(until(said, 60, f"{name} being ready"))

    def web(self, **options: Any) -> httpx.Client:
        """Start `postroom web`; a client of it."""
        return httpx.Client(base_url=self.start("web", **options).partition(" on ")[2], trust_env=False, timeout=60)

    def log(self, number: int) -> str:
        """What the process that was started as this one, from 0, has said."""
        return next(self.folder.glob(f"*-{number}.log")).read_text()

    def ledger(self) -> Ledger:
        """A look into the ledger."""
        return Ledger(f"sqlite:///{self.state / 'ledger.db'}")


def signed(client: httpx.Client, body: bytes, key: str, **headers: str) -> httpx.Response:
    """Post a webhook as its sender does."""
    headers |= sign_standard(body, [SECRET], key, int(time.time()))
    return client.post("/hooks/shop", content=body, headers=headers)


def until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for something that is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.05)
    return found
