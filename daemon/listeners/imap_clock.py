"""Time as the IMAP listener sees it, in one place, so that a test can let two weeks pass in a minute."""

from __future__ import annotations

import select
import socket
import threading
import time


class Clock:
    """The system's clocks and waits."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards, for lengths of time."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait until `stop` is set or the time is over."""
        stop.wait(seconds)

    def readable(self, sock: socket.socket, seconds: float) -> bool:
        """Wait until the other side has said something, or the time is over; whether it has."""
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def now_ms(self) -> int:
        """Milliseconds since the epoch, the ledger's unit."""
        return int(self.now() * 1000)
