"""`postroom web` as a process: uvicorn on systemd's socket or its own, with a drain, a watchdog and reload.

A restart refuses nobody: systemd keeps the socket listening, and what this process has accepted is answered first.
"""

from __future__ import annotations

import asyncio
import socket
import threading

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import Settings
from daemon.listeners.webhook_protocol import GuardedProtocol
from daemon.notify import inherited_sockets, watchdog_every
from daemon.process import Process
from daemon.web.app import make_app
from tasks.intake import Intake

DRAIN = 0.5
"""Seconds for connections that are accepted and have sent nothing yet: uvicorn would close them unread."""
BEAT = 10.0


class Server(uvicorn.Server):
    """uvicorn with signs of life from its event loop, and a drain before it shuts down."""

    def __init__(self, config: uvicorn.Config, process: Process) -> None:
        super().__init__(config)
        self._process = process
        self._beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to beat when requests are taken."""
        await super().startup(sockets=sockets)
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        every = watchdog_every(BEAT)
        while True:
            self._process.alive()
            await asyncio.sleep(every)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let keep-alive clients go with their next answer, then end as uvicorn does."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(DRAIN)
        await super().shutdown(sockets=sockets)


class Changing:
    """The application in force; a reload puts another in its place, and requests under way keep theirs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self.app(scope, receive, send)


def serve(process: Process, intake: Intake, stop: threading.Event) -> None:
    """Serve until `stop` is set. Raises OSError when the address cannot be bound."""
    settings = process.settings
    sockets = [sock for _, sock in inherited_sockets()] or [_bind(settings.web.host, settings.web.port)]
    line = ", ".join(f"web on {_place(sock)}" for sock in sockets)
    changing = Changing(make_app(settings, intake, lambda: process.ready(line), stop))

    def change(new: Settings) -> None:
        changing.app = make_app(new, intake, None, stop)

    process.reloads.on(change)
    config = uvicorn.Config(
        changing,
        http=GuardedProtocol,
        proxy_headers=False,  # whom a proxy may speak for is configured ([webhook.NAME] proxies), not assumed
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    server = Server(config, process)
    threading.Thread(target=_end_with, args=(server, stop), daemon=True).start()
    server.run(sockets=sockets)


def _end_with(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True


def _place(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return str(sock.getsockname())
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(2048)
    return sock
