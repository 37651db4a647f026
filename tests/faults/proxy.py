"""A TCP proxy on loopback that can drop its connections, be cut off, or let all hang without a word as a NAT box does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Proxy:
    """Hands connections on to a port."""

    def __init__(self, target: int, now: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._now = now
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._hanging: set[socket.socket] = set()
        self._open = threading.Event()
        self._open.set()
        self._cut = False
        self.opened_at = 0.0
        """When the newest connection was opened, by `now`."""
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """End every connection."""
        pairs, self._pairs = self._pairs, []
        for sock in (sock for pair in pairs for sock in pair):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def hang(self) -> None:
        """Forget every connection without telling anybody: nothing goes through any more."""
        self._hanging.update(sock for pair in self._pairs for sock in pair)

    def cut(self) -> None:
        """End every connection, and each new one at once, until `mend`."""
        self._cut = True
        self.drop()

    def part(self) -> None:
        """Let nothing through, on new connections neither, until `mend`: then what was sent meanwhile arrives."""
        self._open.clear()

    def mend(self) -> None:
        """Everything goes through again, but what was forgotten."""
        self._cut = False
        self._open.set()

    def close(self) -> None:
        """Stop."""
        self._server.close()
        self.mend()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                if self._server.fileno() < 0:
                    return
                continue
            if self._cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.opened_at = self._now()
            self._pairs = [pair for pair in self._pairs if pair[0].fileno() >= 0]
            self._pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
        back.start()
        self._pass_on(client, server)
        back.join()
        if client not in self._hanging:
            client.close()
            server.close()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                self._open.wait()
                if one not in self._hanging:
                    other.sendall(data)
            self._open.wait()
            if one not in self._hanging:
                other.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(target: int, now: Callable[[], float] = time.monotonic) -> Iterator[Proxy]:
    """A proxy to a port for the block."""
    proxy = Proxy(target, now)
    try:
        yield proxy
    finally:
        proxy.close()
