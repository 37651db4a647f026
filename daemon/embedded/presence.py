"""The client's side of a request: its body with a limit, whether it is still there, and a stream to it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.embedded.catalogue import MIB
from daemon.embedded.ollama_errors import ApiError

MAX_BODY = 32 * MIB
"""Largest request body (bytes)."""

T = TypeVar("T")
Line = dict[str, Any]


class ClientGone(Exception):
    """The client closed its connection: nobody waits for the answer."""


async def read_body(request: Request) -> bytes:
    """The request's body.

    Raises ApiError(413) beyond MAX_BODY, and ClientGone.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise ApiError(413, f"the request body is longer than {MAX_BODY // MIB} MiB")
    except ClientDisconnect as error:
        raise ClientGone from error
    return bytes(body)


class Presence:
    """Watches the connection of a request whose body was read; work held by it ends when the client goes."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._gone: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Presence:
        self._gone = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gone is not None:
            self._gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._gone

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def hold(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work while the client is there. Raises ClientGone when it goes first; the work is cancelled then."""
        if self._gone is None:
            raise RuntimeError("Presence is used as a context")
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientGone
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def each(self, items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """The items while the client is there. Raises ClientGone; closes what it iterates over in any case."""
        try:
            while True:
                try:
                    yield await self.hold(_next(items))
                except _End:
                    return
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()


class _End(Exception):
    """The end of an iteration; StopAsyncIteration cannot leave a task."""


async def _next(items: AsyncIterator[T]) -> T:
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise _End from None


def encode(line: Line) -> bytes:
    """One line of a stream: compact JSON and a line feed."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class NdjsonStream(Response):
    """Sends lines as they come; an error in mid-stream becomes a last line `{"error": ...}`."""

    media_type = "application/x-ndjson"

    def __init__(self, first: Line, rest: AsyncIterator[Line], stack: AsyncExitStack) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers()
        self._first = first
        self._rest = rest
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, then let go of what the stream held."""
        async with self._stack:
            headers = [item for item in self.raw_headers if item[0] != b"content-length"]
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            with contextlib.suppress(ClientGone):
                await _send_line(send, self._first)
                try:
                    async for line in self._rest:
                        await _send_line(send, line)
                except ApiError as error:
                    await _send_line(send, {"error": error.message})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_line(send: Send, line: Line) -> None:
    await send({"type": "http.response.body", "body": encode(line), "more_body": True})


class OnlyLocalHosts:
    """Refuses requests whose Host header names a foreign machine, so that no web page can reach this server by DNS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and not _is_local(_host(scope)):
            await PlainTextResponse("", status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    value = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    if value.startswith("["):
        return value[1:].split("]", maxsplit=1)[0]
    return value.rsplit(":", maxsplit=1)[0] if value.count(":") == 1 else value


def _is_local(host: str) -> bool:
    if host in ("", "localhost", socket.gethostname().lower()) or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified
