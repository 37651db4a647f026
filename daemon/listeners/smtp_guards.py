"""aiosmtpd with the guards it lacks, so that a stranger on the port can exhaust neither memory nor connections.

| threat | guard |
|---|---|
| endless data without CRLF | message bytes are counted as they come; what is over the limit is read and dropped |
| many large messages at once | one budget for all connections (`max_memory`), 452 beyond it |
| endless lines | `max_line`, checked once the message is complete |
| SMTP smuggling | only CRLF.CRLF ends a message; a bare CR or LF in it is refused (RFC 5321 section 2.3.8) |
| connections without end | `max_connections`, 421 beyond it; each has a clock that silence and dripping do not stop |
| one reply for N recipients over LMTP | N replies, as RFC 2033 section 4.2 demands |
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP

PROGRESS = 65_536
"""Bytes that must arrive within one timeout during DATA."""
PATIENCE = 5.0
"""Seconds a connection that is being closed may take to read our last reply."""
COMMANDS = {"*": 100, "MAIL": 10**6, "RCPT": 10**8, "DATA": 10**6, "RSET": 10**6}
"""How often each command may come on one connection; a relay may send all its mail over one."""

_PATH = re.compile(r'\s*<(?:@[^:<>]*:)?((?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>\s*(.*)')
_BARE_PATH = re.compile(r"\s*([^<>\s]+)\s*(.*)")


@dataclass
class Gate:
    """What all connections of a listener share: who is in, and how many bytes they hold. One event loop only."""

    max_connections: int
    max_memory: int
    max_size: int
    max_line: int
    timeout: float
    inside: set[Guarded] = field(default_factory=set)
    held: int = 0
    accepting: set[Guarded] = field(default_factory=set)
    """Who waits between the final dot and our reply."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nobody does."""

    def __post_init__(self) -> None:
        self.idle.set()

    @contextlib.contextmanager
    def storing(self, connection: Guarded) -> Iterator[None]:
        """While a message is being stored, a stop waits."""
        self.accepting.add(connection)
        self.idle.clear()
        try:
            yield
        finally:
            self.accepting.discard(connection)
            if not self.accepting:
                self.idle.set()


class Guarded(SMTP):
    """One SMTP connection."""

    line_length_limit = PROGRESS  # of the stream's buffer and of commands; messages have `max_line`
    one_reply_each = False

    def __init__(self, handler: Any, gate: Gate, **options: Any) -> None:
        super().__init__(
            handler,
            data_size_limit=gate.max_size,
            timeout=gate.timeout,
            enable_SMTPUTF8=True,
            ident="Postroom",
            command_call_limit=COMMANDS,
            **options,
        )
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; called a second time when STARTTLS replaces its transport."""
        if len(self._gate.inside) < self._gate.max_connections:
            self._gate.inside.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Make room for the next one."""
        self._gate.inside.discard(self)
        super().connection_lost(error)

    def bid_farewell(self, reply: bytes) -> None:
        """Send a last reply and close, even if the client does not read it."""
        if self.transport is None:
            return
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(reply + b"\r\n")
        self.transport.close()
        self.loop.call_later(PATIENCE, self.transport.abort)

    def _timeout_cb(self) -> None:
        self.bid_farewell(b"421 4.4.2 waited too long, closing")

    async def _handle_client(self) -> None:
        if self not in self._gate.inside:
            self.bid_farewell(b"421 4.7.0 too many connections, try again later")
            return
        try:
            await super()._handle_client()
        except ConnectionError:
            return  # the client has gone; connection_lost has cleaned up

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """The address and what follows it. (None, None) when it is malformed; `<>` for the null path.

        Own, since the standard library's address parser raises all sorts of errors on hostile input.
        """
        found = _PATH.fullmatch(arg) or _BARE_PATH.fullmatch(arg)
        if found is None or not found[1].isprintable():
            return None, None
        return found[1] or "<>", found[2]

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receive a message and hand it to the handler (RFC 5321 section 4.1.1.4)."""
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        replies = len(self.envelope.rcpt_tos) if self.one_reply_each else 1
        status = await self._take()
        self.envelope = self._create_envelope()
        for _ in range(replies):
            await self.push(status)

    async def _take(self) -> str:
        """Receive, check and hand over; the status line for the client."""
        mine = _Share(self._gate)
        try:
            content = await self._receive(mine)
            if isinstance(content, str):
                return content
            assert self.envelope is not None
            self.envelope.content = self.envelope.original_content = content
            with self._gate.storing(self):
                return str(await self._call_handler_hook("DATA"))
        except Exception as error:  # any fault of ours keeps the mail with its sender
            if isinstance(error, ConnectionError):
                raise
            return await self.handle_exception(error)
        finally:
            mine.release()

    async def _receive(self, mine: _Share) -> bytes | str:
        """The message without dot stuffing, or the reply that refuses it. Reads up to the final dot either way."""
        data = bytearray()
        size = marked = 0
        tail = b""
        refused = ""
        while not (tail == b"\r\n.\r\n" or (size == 3 and tail == b".\r\n")):
            try:
                piece = await self._reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as error:
                piece = await self._reader.read(error.consumed)
            size += len(piece)
            tail = (tail + piece)[-5:]
            if size - marked >= PROGRESS:
                marked = size
                self._reset_timeout()
            if not refused:
                refused = self._refusal(size, mine, len(piece))
                data += piece
            if refused:
                data.clear()
                mine.release()
        self._reset_timeout()
        return refused or self._checked(data)

    def _refusal(self, size: int, mine: _Share, more: int) -> str:
        if size > self._gate.max_size + 3:
            return f"552 5.3.4 message is larger than {self._gate.max_size} bytes"
        if not mine.take(more):
            return "452 4.3.1 too much mail at once, try again later"
        return ""

    def _checked(self, data: bytearray) -> bytes | str:
        if not data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n"):
            return "554 5.6.0 message has a bare CR or LF; end lines with CRLF (RFC 5321 section 2.3.8)"
        if has_longer_line(data, self._gate.max_line):
            return f"554 5.6.0 message has a line of more than {self._gate.max_line} bytes"
        if data.startswith(b"."):
            del data[0]
        return bytes(data.replace(b"\r\n.", b"\r\n"))[: -len(b"\r\n")] if len(data) > 2 else b""


class GuardedLmtp(Guarded, LMTP):
    """One LMTP connection: as many replies to the final dot as there are recipients."""

    one_reply_each = True


class _Share:
    """The bytes one message holds of the gate's budget."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._bytes = 0

    def take(self, more: int) -> bool:
        """Hold `more` bytes; False when the budget is spent."""
        if self._gate.held + more > self._gate.max_memory:
            return False
        self._gate.held += more
        self._bytes += more
        return True

    def release(self) -> None:
        """Give all of it back."""
        self._gate.held -= self._bytes
        self._bytes = 0


def has_longer_line(data: bytes | bytearray, limit: int) -> bool:
    """Whether a line has more than `limit` bytes before its CRLF. Looks from line end to line end in long steps."""
    position = 0
    while len(data) - position > limit:
        end = data.rfind(b"\r\n", position, position + limit + 2)
        if end < 0:
            return True
        position = end + 2
    return False
