"""Every way in, seen as its senders see it: they hand a message in and learn what became of it.

    with way.opened(home) as door:
        way.hand_in(door, 1)
        way.told(door, 1)        # TAKEN, LATER, TOO_LARGE or nothing yet

A sender over the network reads an answer; who puts a mail into a mailbox or a file into a folder sees where it lies.
"""

from __future__ import annotations

import contextlib
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from daemon.listeners import folder, imap, smtp
from daemon.process import Process
from daemon.web import server as web
from tests.integration.doors import Door, opened
from tests.integration.dovecot import Dovecot
from tests.integration.mailboxes import account, mail, subjects

TAKEN, LATER, TOO_LARGE = "taken", "later", "too large"
LIMIT = 20_000
"""Bytes of the largest message that is taken."""


class Way:
    """One way in; `told` and `hand_in` are its senders'."""

    modules: tuple[str, ...] = ()
    """Of daemon/listeners, those that it begins with."""

    def opened(self, home: Path) -> AbstractContextManager[Door]:
        """Run it on the ledger in `home` until the block ends."""
        raise NotImplementedError

    def hand_in(self, door: Door, number: int, size: int = 0) -> None:
        """Send message `number`, at least `size` bytes long; returns at once, or with its answer."""
        raise NotImplementedError

    def told(self, door: Door, number: int) -> str:
        """What its sender knows of a message."""
        raise NotImplementedError

    def again(self, door: Door, number: int) -> None:
        """Send it once more, as a sender does that was not told TAKEN: nothing where the message still lies there."""


class Answering(Way):
    """A way in that answers on the connection."""

    def __init__(self) -> None:
        self._answers: dict[int, str] = {}

    def hand_in(self, door: Door, number: int, size: int = 0) -> None:
        self._answers[number] = ""
        with contextlib.suppress(OSError, smtplib.SMTPException, httpx.HTTPError):  # no answer is told
            self._answers[number] = self.answer(door, number, size)

    def told(self, door: Door, number: int) -> str:
        return self._answers.get(number, "")

    def again(self, door: Door, number: int) -> None:
        self.hand_in(door, number)

    def answer(self, door: Door, number: int, size: int) -> str:
        """Send it and read the answer."""
        raise NotImplementedError


class Smtp(Answering):
    """SMTP, or LMTP."""

    modules = ("smtp",)

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self._protocol = protocol

    def opened(self, home: Path) -> AbstractContextManager[Door]:
        ports: dict[str, Any] = {"port": False, "lmtp_port": False}
        ports["port" if self._protocol == "smtp" else "lmtp_port"] = 0
        return opened(smtp.run, home, lines=1, smtp={**ports, "max_size": LIMIT})

    def answer(self, door: Door, number: int, size: int) -> str:
        kind = smtplib.SMTP if self._protocol == "smtp" else smtplib.LMTP
        with kind(*door.address(self._protocol), timeout=40) as client:
            try:
                client.sendmail("a@x.test", ["r@y.test"], mail(number, size))
            except smtplib.SMTPResponseException as error:
                code = error.smtp_code
            except smtplib.SMTPRecipientsRefused as error:
                ((code, _),) = error.recipients.values()
            else:
                code = 250
        return {250: TAKEN, 451: LATER, 552: TOO_LARGE}.get(code, str(code))


class Http(Answering):
    """Webhooks, or the API."""

    def __init__(self, path: str, *modules: str) -> None:
        super().__init__()
        self._path = path
        self.modules = modules

    def opened(self, home: Path) -> AbstractContextManager[Door]:
        hooks = {"open": {"scheme": "none", "max_body": LIMIT}}
        return opened(_web, home, lines=1, web={"port": 0, "max_body": LIMIT}, webhook=hooks)

    def answer(self, door: Door, number: int, size: int) -> str:
        url = door.lines[0].removeprefix("web on ") + self._path
        headers = {"Content-Type": "text/plain", "Idempotency-Key": f"key-{number}"}
        answer = httpx.post(url, content=b"x" * max(size, 10), headers=headers, timeout=40, trust_env=False)
        return {202: TAKEN, 503: LATER, 413: TOO_LARGE}.get(answer.status_code, str(answer.status_code))


def _web(settings: Any, intake: Any, stop: threading.Event, *, ready: Callable[[str], None]) -> None:
    process = Process(settings, lambda: settings)
    process.ready = ready  # type: ignore[method-assign]
    web.serve(process, intake, stop)


class Mailbox(Way):
    """A mailbox that is watched."""

    modules = ("imap",)

    def __init__(self, server: Dovecot) -> None:
        self._server = server
        server.empty()

    def opened(self, home: Path) -> AbstractContextManager[Door]:
        section = account(self._server, idle=False, poll=0.1, max_size=LIMIT)
        return opened(imap.run, home, lines=1, imap={"support": section})

    def hand_in(self, door: Door, number: int, size: int = 0) -> None:
        self._server.deliver(mail(number, size))

    def told(self, door: Door, number: int) -> str:
        subject = f"mail {number}"
        for where, what in (("Postroom", TAKEN), ("Postroom-Failed", TOO_LARGE)):
            if subject in subjects(self._server, where):
                return what
        return LATER if door.intake.refused else ""


class Drop(Way):
    """A drop folder."""

    modules = ("folder",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def opened(self, home: Path) -> AbstractContextManager[Door]:
        options = {"path": self._path, "poll": 0.05, "settle": 0, "max_size": LIMIT}
        return opened(folder.run, home, lines=1, folder={"scans": options})

    def hand_in(self, door: Door, number: int, size: int = 0) -> None:
        hidden = self._path / f".{number}"
        hidden.write_bytes(f"file {number} ".encode() + b"x" * size)
        hidden.rename(self._path / f"{number}.txt")

    def told(self, door: Door, number: int) -> str:
        for where, what in ((".done", TAKEN), (".failed", TOO_LARGE)):
            if (self._path / where / f"{number}.txt").exists():
                return what
        return LATER if door.intake.refused else ""


@contextlib.contextmanager
def in_background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Do something in a thread, which has ended when the block has."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()
