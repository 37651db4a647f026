"""The place of a campaign: `postroom up` with every way in and out, and the parts around it that can be made to fail.

Real are Postroom's processes, Valkey, Dovecot, the disk, SMTP and HTTP. The model is a stand-in that answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from daemon.embedded.broker import EmbeddedBroker
from tests.faults.proxy import Proxy
from tests.faults.town import Sink
from tests.integration.dovecot import PASSWORD, USER, Dovecot
from tests.integration.webhook_parts import Seen, replies
from tests.integration.webhook_parts import Sink as HookSink
from tests.ports import free_port
from tests.street import SECRET

REPO = Path(__file__).resolve().parents[2]
OURS = "in@post.example"
SLOWEST = 1.0
"""Seconds: sinks answer after a moment of up to this length, so that some senders are killed while they wait."""
_ROUTES = {
    "10-events": '[match]\nsource = "webhook:*"\n[[deliver]]\nwebhook = "books"\n',
    "90-mail": '[reply]\ntemplate = "default"\n[labels.complaint]\nsays = "Somebody is unhappy with us."\n'
    '[labels.other]\nsays = "Anything else."\n[[deliver]]\nsmtp = "sender"\n[[deliver]]\nwebhook = "books"\n',
}
_CONFIG = """
state_dir = "{state}"
routes_dir = "{routes}"
log_format = "json"
broker_url = "{broker}"
inline_limit = 4096
[model]
host = "{model}"
read_timeout = 5
[worker]
lease = 6
outage_wait = 1
backoff_base = 0.5
canary = 5
model_concurrency = 4
deliver_concurrency = 8
[rescue]
tick = 0.5
lost_after = 3
[smtp]
port = {smtp}
lmtp_port = false
[web]
port = {web}
[webhook.shop]
secrets = ["{secret}"]
[imap.support]
host = "127.0.0.1"
port = {imap}
security = "none"
user = "{user}"
password = {password}
after = "seen"
poll = 1
timeout = 10
[smtp_out]
host = "127.0.0.1"
port = {mail_sink}
own_addresses = ["in@post.example"]
max_replies_per_hour = 1000
[endpoint.books]
url = "{hook_sink}"
allow_private = true
secrets = ["{secret}"]
"""


class Place:
    """Everything that runs, and how to start and end it."""

    def __init__(self, folder: Path, dovecot: Dovecot, dice: random.Random) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log = folder / "log"
        self.config = folder / "postroom.toml"
        self.dovecot = dovecot
        self.smtp, self.web, self.model_port = free_port(), free_port(), free_port()
        self.broker = EmbeddedBroker(folder / "broker", free_port())
        self.broker.start()
        self.network = Proxy(int(self.broker.url.rpartition(":")[2].partition("/")[0]))
        self.mails = Sink()
        self.hooks = HookSink(self._slowly)
        self._dice = dice
        self.busy = threading.Event()
        """Set while a webhook has arrived and is not answered."""
        self.up: subprocess.Popen[bytes] | None = None
        self.model: subprocess.Popen[bytes] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._restarting = threading.Lock()

    def start(self) -> None:
        """Start sinks, model and `postroom up`, and wait until it is up."""
        threading.Thread(target=self.hooks.serve, args=(self._listener,), daemon=True).start()
        self._write_config(self.mails.start())
        self.start_model()
        self.start_up()
        deadline = time.monotonic() + 120
        while not (self.state / "addresses.json").is_file():
            assert self.up
            if self.up.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postroom up did not come up; see {self.log}")
            time.sleep(0.1)

    def _write_config(self, mail_sink: int) -> None:
        routes = self.folder / "routes"
        routes.mkdir()
        for name, text in _ROUTES.items():
            (routes / f"{name}.toml").write_text(text)
        broker = self.broker.url.rpartition(":")[0]
        self.config.write_text(
            _CONFIG.format(
                state=self.state,
                routes=routes,
                broker=f"{broker}:{self.network.port}/0",
                model=f"http://127.0.0.1:{self.model_port}",
                smtp=self.smtp,
                web=self.web,
                secret=SECRET,
                imap=self.dovecot.imap,
                user=USER,
                password=json.dumps(PASSWORD),
                mail_sink=mail_sink,
                hook_sink=f"http://127.0.0.1:{self._listener.getsockname()[1]}/in",
            )
        )

    def start_up(self) -> None:
        """Start `postroom up` (again)."""
        with self._restarting:
            self.up = self._started("-m", "daemon.cli", "--config", str(self.config), "up")

    def start_model(self) -> None:
        """Start the model's stand-in (again)."""
        self.model = self._started("-m", "tests.standin_model", "--port", str(self.model_port))

    def _started(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        environment["POSTROOM_CONFIG"] = str(self.config)  # by this `ours` knows them
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPO,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _slowly(self, connection: socket.socket, seen: Seen) -> None:
        """Answer 200 after a moment."""
        self.busy.set()
        time.sleep(self._dice.uniform(0, SLOWEST))
        self.busy.clear()
        replies("200 OK")(connection, seen)

    def close(self) -> None:
        """End everything that was started here, whatever state it is in."""
        for process in (self.up, self.model):
            if process:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.up:
                self.up.wait(40)
        for pid in ours(self.config):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.broker.pid:
            os.kill(self.broker.pid, signal.SIGCONT)
        self.network.close()
        self.broker.stop()
        self._listener.close()
        with contextlib.suppress(Exception):
            self.mails.stop()


def ours(config: Path) -> list[int]:
    """Process ids of all that runs with this configuration, orphans too."""
    mark = f"POSTROOM_CONFIG={config}".encode()
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and mark in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found
