"""The SMTP and LMTP door: a message is answered `250` only after it is in the ledger.

Both protocols run on one event loop. Put Postfix or chasquid in front of it for mail from the internet, and let that
deliver by LMTP on loopback; docs/mail.md has the lines to write.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import threading
from collections.abc import Callable

import structlog
from aiosmtpd.smtp import Envelope as Transaction
from aiosmtpd.smtp import Session

from config.errors import ConfigError, Problem
from config.inbound import SmtpListener
from config.settings import Settings
from daemon.listeners.smtp_guards import Gate, Guarded, GuardedLmtp
from tasks.authres import trusted
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.mailkey import mail_key
from tasks.models import Envelope, Kind

log = structlog.get_logger("postroom.smtp")

DRAIN = 10.0
"""Seconds that messages being stored may take when we are told to stop."""


def run(
    settings: Settings,
    intake: Intake,
    stop: threading.Event,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Listen until `stop` is set. Calls `ready` once for each address. Raises ConfigError when it cannot listen."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # at info aiosmtpd writes every command and address
    asyncio.run(_serve(settings.smtp, intake, stop, ready or (lambda line: None)))


async def _serve(options: SmtpListener, intake: Intake, stop: threading.Event, ready: Callable[[str], None]) -> None:
    gate = Gate(options.max_connections, options.max_memory, options.max_size, options.max_line, options.timeout)
    tls = _tls(options)
    servers = [await _listen("smtp", options, options.port, Guarded, intake, gate, tls)]
    if options.lmtp_port is not None:
        servers.append(await _listen("lmtp", options, options.lmtp_port, GuardedLmtp, intake, gate, tls))
    for name, server in zip(("smtp", "lmtp"), servers, strict=False):
        for listening in server.sockets:
            host, port = listening.getsockname()[:2]
            ready(f"{name} on {f'[{host}]' if ':' in host else host}:{port}")
    await asyncio.to_thread(stop.wait)
    await _drain(servers, gate)


async def _listen(
    name: str,
    options: SmtpListener,
    port: int,
    protocol: type[Guarded],
    intake: Intake,
    gate: Gate,
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    door = Door(name, intake, options)
    factory = functools.partial(protocol, door, gate, hostname=socket.gethostname(), tls_context=tls, loop=loop)
    try:
        return await loop.create_server(factory, options.host, port)
    except OSError as error:
        key = "smtp.port" if name == "smtp" else "smtp.lmtp_port"
        what = f"cannot listen for {name.upper()} on {options.host}:{port}: {error.strerror}"
        raise ConfigError([Problem("settings", None, key, what, "stop what holds it or set another port")]) from error


async def _drain(servers: list[asyncio.Server], gate: Gate) -> None:
    """Take no more connections, let messages that are being stored get their reply, then close."""
    for server in servers:
        server.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gate.idle.wait(), DRAIN)
    for connection in list(gate.inside):
        connection.bid_farewell(b"421 4.3.2 shutting down, try again later")
    await asyncio.sleep(0)


def _tls(options: SmtpListener) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        what = f"cannot be used as certificate: {error}"
        instead = "name a readable PEM file with the chain, and its key in tls_key"
        raise ConfigError([Problem(str(options.tls_cert), None, "smtp.tls_cert", what, instead)]) from error
    return context


class Door:
    """Answers the commands of one protocol; aiosmtpd calls the `handle_` methods."""

    def __init__(self, source: str, intake: Intake, options: SmtpListener) -> None:
        self._source = source
        self._intake = intake
        self._options = options
        self._wanted = frozenset(entry.lower() for entry in options.recipients)

    async def handle_EHLO(
        self, server: Guarded, session: Session, transaction: Transaction, hostname: str, replies: list[str]
    ) -> list[str]:
        """Say what we can do; no AUTH, since there are no accounts."""
        session.host_name = hostname
        kept = [line for line in replies if not line.startswith("250-AUTH")]
        return [*kept[:-1], "250-PIPELINING", kept[-1]]

    async def handle_RCPT(
        self, server: Guarded, session: Session, transaction: Transaction, address: str, options: list[str]
    ) -> str:
        """Take a recipient that is ours (RFC 5321 section 4.1.1.3)."""
        if len(transaction.rcpt_tos) >= self._options.max_recipients:
            return "452 4.5.3 too many recipients, send the rest in another transaction"
        if not self.wants(address):
            return "550 5.1.1 no such recipient here"
        transaction.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Guarded, session: Session, transaction: Transaction) -> str:
        """Store the message, then answer for it."""
        raw = transaction.original_content or b""
        if not raw:
            return "554 5.6.0 the message is empty"
        try:
            receipt = await self._intake.accept_async(self._envelope(transaction, raw), raw)
        except Unavailable as error:
            log.warning("smtp.deferred", source=self._source, size=len(raw), reason=error.reason)
            return "451 4.3.0 cannot store the message now, try again later"
        except Permanent as error:
            log.warning("smtp.refused", source=self._source, size=len(raw), reason=error.reason)
            return "554 5.6.0 the message cannot be taken"
        return f"250 2.0.0 accepted as {receipt.job_id}"

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours: tell the log all, the client nothing, and leave the mail with its sender."""
        log.error("smtp.fault", source=self._source, exc_info=error)
        return "451 4.3.0 internal error, try again later"

    def wants(self, address: str) -> bool:
        """Whether `address` is on the list; with an empty list everything but the null path is."""
        if address == "<>":
            return False
        lower = address.lower()
        return not self._wanted or lower in self._wanted or f"@{lower.rpartition('@')[2]}" in self._wanted

    def _envelope(self, transaction: Transaction, raw: bytes) -> Envelope:
        sender = transaction.mail_from or ""
        return Envelope(
            source=self._source,
            kind=Kind.MAIL,
            key=mail_key(raw),
            sender="" if sender == "<>" else sender,
            recipients=tuple(dict.fromkeys(transaction.rcpt_tos)),
            content_type="message/rfc822",
            headers=trusted(raw, self._options.authserv_id),
        )
