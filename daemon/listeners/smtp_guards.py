"""aiosmtpd with the guards it lacks, so that a stranger on the port can exhaust neither memory nor connections.

| threat | guard |
|---|---|
| endless data without CRLF | message bytes are counted as they come; what is over the limit is read and dropped |
| many large messages at once | one budget for all connections (`max_memory`), 452 beyond it |
| endless lines | `max_line`, checked once the message is complete |
| SMTP smuggling | only CRLF.CRLF ends a message; a bare CR or LF in it is refused (RFC 5321 section 2.3.8) |
| a message without end | a connection that has sent FLOOD bytes for one message is closed |
| connections without end | `max_connections` in all and per address, 421 beyond; silence and dripping do not stop a clock |
| passwords tried out | over TLS or loopback only, five failures in ten minutes an address (smtp_auth.py) |
| one reply for N recipients over LMTP | N replies, as RFC 2033 section 4.2 demands |
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from config.inbound import SmtpListener, is_loopback
from daemon.listeners.smtp_auth import Logins

FLOOD = 2**30
"""Bytes of one refused message that are read to its end for the sake of a proper reply."""
HANDSHAKE = 30.0
"""Seconds that a TLS handshake may take."""
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
    max_per_address: int
    max_memory: int
    max_size: int
    max_line: int
    timeout: float
    logins: Logins
    auth_required: bool
    inside: set[Guarded] = field(default_factory=set)
    held: int = 0
    accepting: set[Guarded] = field(default_factory=set)
    """Who waits between the final dot and our reply."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nobody does."""
    _crowd: Counter[str] = field(default_factory=Counter)
    """Connections by address."""

    def __post_init__(self) -> None:
        self.idle.set()

    @classmethod
    def of(cls, options: SmtpListener) -> Gate:
        """The gate that the settings describe."""
        return cls(
            max_connections=options.max_connections,
            max_per_address=options.max_connections_per_address,
            max_memory=options.max_memory,
            max_size=options.max_size,
            max_line=options.max_line,
            timeout=options.timeout,
            logins=Logins(options.users),
            auth_required=options.auth_required,
        )

    def change(self, options: SmtpListener) -> None:
        """Take over new limits and users; who is in stays in."""
        fresh = Gate.of(options)
        self.max_connections, self.max_per_address = fresh.max_connections, fresh.max_per_address
        self.max_memory, self.max_size, self.max_line = fresh.max_memory, fresh.max_size, fresh.max_line
        self.timeout, self.logins, self.auth_required = fresh.timeout, fresh.logins, fresh.auth_required

    def admit(self, connection: Guarded) -> str:
        """Let a connection in; otherwise why not, as a reply. A Unix socket has no address to be counted by."""
        place = connection.place
        if len(self.inside) >= self.max_connections:
            return "421 4.7.0 too many connections, try again later"
        if place and self.max_per_address and self._crowd[place] >= self.max_per_address:
            return "421 4.7.0 too many connections from your address, try again later"
        self.inside.add(connection)
        self._crowd[place] += 1
        return ""

    def leave(self, connection: Guarded) -> None:
        """Make room for the next one."""
        if connection in self.inside:
            self.inside.discard(connection)
            self._crowd[connection.place] -= 1
            if not self._crowd[connection.place]:
                del self._crowd[connection.place]

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

    def __init__(
        self, handler: Any, gate: Gate, *, tls: ssl.SSLContext | None = None, implicit: bool = False, **options: Any
    ) -> None:
        super().__init__(
            handler,
            data_size_limit=gate.max_size,
            timeout=gate.timeout,
            enable_SMTPUTF8=True,
            ident="Postroom",
            command_call_limit=COMMANDS,
            tls_context=None if implicit else tls,
            auth_require_tls=False,  # `may_log_in` decides: TLS or loopback
            **options,
        )
        self._gate = gate
        self._implicit = tls if implicit else None
        self._refusal_at_door = ""
        self.address = ""
        self.place = ""
        """What connections are counted by: the IPv4 address or the IPv6 /64; empty for a Unix socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; called a second time when STARTTLS replaces its transport."""
        if self.transport is None:
            peer = transport.get_extra_info("peername")
            self.address = str(peer[0]) if isinstance(peer, tuple) else ""
            self.place = place_of(self.address)
            self._refusal_at_door = self._gate.admit(self)
        super().connection_made(transport)
        self._auth_required = self._gate.auth_required and bool(self.address)  # a Unix socket has its access rights

    def connection_lost(self, error: Exception | None) -> None:
        """Make room for the next one."""
        self._gate.leave(self)
        super().connection_lost(error)

    @property
    def may_log_in(self) -> bool:
        """Whether a password may be sent here: there are users, and nobody else can read along."""
        encrypted = self.session is not None and self.session.ssl is not None
        return bool(self._gate.logins and self.address) and (encrypted or is_loopback(self.address))

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
        if self._refusal_at_door:
            self.bid_farewell(self._refusal_at_door.encode())
            return
        try:
            if self._implicit:
                await self._encrypt(self._implicit)
            await super()._handle_client()
        except ConnectionError:
            return  # the client has gone; connection_lost has cleaned up

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        """The handshake of implicit TLS (RFC 8314 section 3), made here so that the gate counts who only begins it."""
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=HANDSHAKE)
        except (OSError, ssl.SSLError) as error:
            if self.transport is not None:
                self.transport.close()
            raise ConnectionAbortedError("no TLS") from error
        self.transport = self._writer.transport
        assert self.session is not None
        self.session.ssl = self._writer.get_extra_info("ssl_object")

    async def smtp_AUTH(self, arg: str | None) -> None:
        """Log in (RFC 4954), where a password may be sent and none was tried too often."""
        logins = self._gate.logins
        if not logins or not self.address:
            await self.push("502 5.5.1 there is nothing to log in to")
        elif not self.may_log_in:
            await self.push("538 5.7.11 encryption is needed for this; say STARTTLS first")
        elif logins.throttled(self.place):
            await self.push("454 4.7.0 too many failed logins from your address, try again later")
        else:
            mechanism, _, initial = (arg or "").partition(" ")
            await super().smtp_AUTH(f"{mechanism.upper()} {initial}".strip())

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """Hand on what was sent; `_decided` looks at it, since comparing takes too long for the event loop."""
        return AuthResult(success=False, handled=False, auth_data=auth_data)

    async def auth_PLAIN(self, server: SMTP, args: list[str]) -> AuthResult:
        """RFC 4616."""
        return await self._decided(await super().auth_PLAIN(server, args))

    async def auth_LOGIN(self, server: SMTP, args: list[str]) -> AuthResult:
        """The older way, which many devices still speak."""
        return await self._decided(await super().auth_LOGIN(server, args))

    async def _decided(self, asked: AuthResult) -> AuthResult:
        if not isinstance(asked.auth_data, LoginPassword):
            return asked  # a fault in the exchange, answered already
        login, password = asked.auth_data
        if await self._gate.logins.admits(login, password, self.place):
            return AuthResult(success=True, auth_data=LoginPassword(login, b""))
        return AuthResult(success=False, handled=False)

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
            if size > FLOOD:
                self.bid_farewell(b"552 5.3.4 this does not end, closing")
                raise ConnectionAbortedError("a message without end")
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


def place_of(address: str) -> str:
    """What one client can easily have many of counts as one: an IPv6 host has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def has_longer_line(data: bytes | bytearray, limit: int) -> bool:
    """Whether a line has more than `limit` bytes before its CRLF. Looks from line end to line end in long steps."""
    position = 0
    while len(data) - position > limit:
        end = data.rfind(b"\r\n", position, position + limit + 2)
        if end < 0:
            return True
        position = end + 2
    return False
