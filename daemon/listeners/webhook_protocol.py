"""uvicorn's HTTP protocol with the two limits it lacks: how long a header may take, and how large it may be.

Give it to uvicorn as `http=GuardedProtocol`. A client that opens a connection and drips or never ends its header would
otherwise hold a connection, or fill memory, for as long as it likes.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from itertools import chain
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from daemon.listeners.webhook_problems import MEDIA_TYPE, Refused

MAX_HEADER = 65_536
"""Bytes of request line and header together."""

BODY_IS_HERE = "postroom.body_is_here"
"""In a request's scope when its body had come with its header."""

_SAID = {
    HTTPStatus.BAD_REQUEST: ("bad-http", "this is no HTTP request"),
    HTTPStatus.REQUEST_TIMEOUT: ("too-slow", "the header was not complete in time"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("header-too-large", f"the header is larger than {MAX_HEADER} bytes"),
}


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Between requests uvicorn's own keep-alive time-out holds; within a body the endpoint's."""

    header_timeout: ClassVar[float] = 15.0
    """Seconds from the connection, or from a request's first byte, to the end of its header."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_header = False
        self._read = 0
        self._fields = 0
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the clock: a client has to say something."""
        super().connection_made(_OneWrite(transport, self.loop))  # type: ignore[arg-type]  # a transport in all that is used
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a header that is not whole yet, then let uvicorn read it."""
        if self._in_header:
            self._read += len(data)
            if self._read > MAX_HEADER:
                self._cut(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
        super().data_received(data)
        if self._in_header and self._header_timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._in_header = True
        self._read = self._fields = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header is whole: from here the endpoint watches the clock.

        Fields are counted too, because one read may bring more of them than are allowed. Raises ValueError then, which
        the parser turns into its own error and uvicorn into `send_400_response`.
        """
        self._in_header = False
        if self._header_timer is not None:
            self._stop_timer()
        self._fields = 4 * len(self.headers) + sum(map(len, chain.from_iterable(self.headers)))
        if self._fields > MAX_HEADER:
            raise ValueError("header too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self.scope[BODY_IS_HERE] = True  # type: ignore[literal-required]  # servers may add keys of their own
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say 431 where it was the size, 400 where it was no HTTP."""
        large = self._fields > MAX_HEADER
        self._cut(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if large else HTTPStatus.BAD_REQUEST)

    def _start_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_timeout, self._too_slow)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        if self._in_header:
            self._cut(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _cut(self, status: HTTPStatus) -> None:
        """Answer with a problem, as everybody else here does, and close."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = bytes(Refused(status, *_SAID[status]).response().body)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
        head += f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


class _OneWrite:
    """A transport that writes once in a turn of the event loop: uvicorn writes head and body apart, a system call each."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write it at the end of this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Write what is left, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
