"""A whole Postroom for fault tests: `postroom up` with its real parts, a mail sink, and a look into its ledger."""

from __future__ import annotations

import asyncio
import email
import json
import os
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tasks.ledger import Ledger
from tasks.models import Job
from tests.ports import free_port

REPO = Path(__file__).resolve().parents[2]


class Sink:
    """Takes mail; `delay` seconds pass between the final dot and the 250."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.delay = 0.0
        self.in_data = threading.Event()
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=60)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep the bytes, then answer."""
        self.mails.append(bytes(envelope.content or b""))
        self.in_data.set()
        await asyncio.sleep(self.delay)
        return "250 2.0.0 kept"

    def start(self) -> int:
        """Listen on a free port."""
        self._controller.start()
        assert isinstance(self._controller.server, asyncio.Server)
        return int(self._controller.server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening."""
        self._controller.stop()

    def replies_to(self, message_id: str) -> list[str]:
        """Message-IDs of the replies to a mail, one for each time that one came."""
        parsed = [email.message_from_bytes(raw) for raw in list(self.mails)]
        return [mail["Message-ID"] for mail in parsed if mail["In-Reply-To"] == message_id]


ROUTE = """
[reply]
template = "default"

[labels.complaint]
says = "Somebody is unhappy with what we delivered or did."

[labels.other]
says = "Anything else."
"""
"""Short prompts: what these tests kill is the same with long ones."""


class Town:
    """`postroom up` in a folder of its own."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder
        self.sink = Sink()
        self.config = folder / "postroom.toml"
        self.state = folder / "state"
        self.log = folder / "log"
        self._extra = extra
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start everything and wait until it is up."""
        port = self.sink.start()
        routes = self.folder / "routes"
        routes.mkdir()
        (routes / "10-all.toml").write_text(ROUTE)
        self.config.write_text(
            f'state_dir = "{self.state}"\nroutes_dir = "{routes}"\nlog_format = "json"\n'
            "[worker]\nlease = 6\noutage_wait = 1\nbackoff_base = 0.5\n[rescue]\nlost_after = 3\ntick = 0.5\n"
            "[smtp]\nport = 0\nlmtp_port = 0\n[web]\nport = 0\n"
            f'[smtp_out]\nhost = "127.0.0.1"\nport = {port}\nmax_replies_per_hour = 1000\n'
            '[endpoint.accounting]\nurl = "http://127.0.0.1:9/none"\nallow_private = true\n' + self._extra
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon.cli", "--config", str(self.config), "up"],
                cwd=REPO,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until((self.state / "addresses.json").is_file, 600, "postroom up")
        self.addresses: dict[str, str] = json.loads((self.state / "addresses.json").read_text())
        self.ledger = Ledger(f"sqlite:///{self.state / 'ledger.db'}")

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        assert self.process
        self.process.terminate()
        status = self.process.wait(60)
        self.sink.stop()
        self.ledger.close()
        return status

    def until(self, holds: Callable[[], Any], seconds: float, what: str) -> Any:
        """Wait for something that is true; fails with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process
            assert self.process.poll() is None, f"postroom up ended\n{self.tail()}"
            if found := holds():
                return found
            time.sleep(0.01)
        raise AssertionError(f"{what} did not happen in {seconds} s\n{self.tail()}")

    def tail(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-40:])

    def mail(self, number: int, text: str, attachment: bytes | None = None) -> str:
        """Send a mail by SMTP; its Message-ID."""
        message = EmailMessage()
        message["From"], message["To"] = f"ada{number}@sender.example", "in@post.example"
        message["Subject"], message["Message-ID"] = f"Message {number}", f"<m{number}-{time.time_ns()}@sender.example>"
        message.set_content(text)
        if attachment:
            message.add_attachment(attachment, maintype="image", subtype="png", filename="scan.png")
        host, _, port = self.addresses["smtp"].rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.send_message(message)
        return str(message["Message-ID"])

    def newest(self) -> Job | None:
        """The job that came last."""
        return next(iter(self.ledger.jobs.page(limit=1)), None)

    def ended(self, message_id: str) -> bool:
        """Whether the mail's trip is over."""
        job = next((job for job in self.ledger.jobs.page(limit=200) if job.message_id == message_id), None)
        return job is not None and job.state.value in {"done", "failed", "review", "cancelled"}
