"""A TCP proxy on loopback that can drop its connections, or let them hang without a word as a NAT box does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Proxy:
    """Hands connections on to a port."""

    def __init__(self, target: int, now: Callable[[], float]) -> None:
        self._target = target
        self._now = now
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._hanging: set[socket.socket] = set()
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

    def close(self) -> None:
        """Stop."""
        self._server.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                if self._server.fileno() < 0:
                    return
                continue
            server.settimeout(None)
            self.opened_at = self._now()
            self._pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if one not in self._hanging:
                    other.sendall(data)
            if one not in self._hanging:
                other.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(target: int, now: Callable[[], float]) -> Iterator[Proxy]:
    """A proxy to a port for the block."""
    proxy = Proxy(target, now)
    try:
        yield proxy
    finally:
        proxy.close()
