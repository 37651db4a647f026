"""The SMTP and LMTP door: a message is answered `250` only after it is in the ledger.

Both protocols run on one event loop. Put Postfix or chasquid in front of it for mail from the internet, and let that
deliver by LMTP on loopback; docs/mail.md has the lines to write.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from daemon.listeners.smtp_sockets import Listening, on_path, on_port, on_socket
from daemon.notify import inherited_sockets, watchdog_every
from tasks.addresses import plain
from tasks.authres import trusted
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.mailkey import mail_key
from tasks.models import Envelope, Kind

log = structlog.get_logger("postroom.smtp")

BEAT = 10.0
DRAIN = 10.0
"""Seconds that messages being stored may take when we are told to stop."""


def run(
    settings: Settings,
    intake: Intake,
    stop: threading.Event,
    *,
    ready: Callable[[str], None] | None = None,
    on_reload: Callable[[Callable[[Settings], None]], object] = lambda apply: None,
    alive: Callable[[], object] = lambda: None,
) -> None:
    """Listen until `stop` is set. Calls `ready` once for each address. Raises ConfigError when it cannot listen.

    `on_reload` is given what takes over new settings, `alive` is called by the event loop every few seconds.
    """
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # at info aiosmtpd writes every command and address
    asyncio.run(_serve(settings.smtp, intake, stop, ready or (lambda line: None), on_reload, alive))


async def _serve(
    options: SmtpListener,
    intake: Intake,
    stop: threading.Event,
    ready: Callable[[str], None],
    on_reload: Callable[[Callable[[Settings], None]], object],
    alive: Callable[[], object],
) -> None:
    house = House(options, intake)
    doors = await _inherited(house) or await _own(options, house)
    on_reload(lambda settings: house.change(settings.smtp))
    for name, door in doors:
        for place in door.places:
            ready(f"{name} on {place}")
    beating = asyncio.create_task(_beat(alive))
    await asyncio.to_thread(stop.wait)
    await _drain([door for _, door in doors], house.gate)
    beating.cancel()


async def _inherited(house: House) -> list[tuple[str, Listening]]:
    """The sockets that systemd opened: those called `lmtp` speak LMTP, all others SMTP."""
    doors = []
    for called, sock in inherited_sockets():
        name = "lmtp" if called == "lmtp" else "smtp"
        doors.append((name, await on_socket(sock, house.factory(name))))
    return doors


async def _own(options: SmtpListener, house: House) -> list[tuple[str, Listening]]:
    doors: list[tuple[str, Listening]] = []
    if options.port is not None:
        doors.append(("smtp", await on_port("smtp", options.host, options.port, house.factory("smtp"))))
    if options.lmtp_port is not None:
        doors.append(("lmtp", await on_port("lmtp", options.host, options.lmtp_port, house.factory("lmtp"))))
    if options.lmtp_socket is not None:
        doors.append(("lmtp", await on_path(options, options.lmtp_socket, house.factory("lmtp"))))
    return doors


async def _beat(alive: Callable[[], object]) -> None:
    every = watchdog_every(BEAT)
    while True:
        alive()
        await asyncio.sleep(every)


class House:
    """What all doors share. Connections keep the options that they began with; new ones have those of the last reload."""

    def __init__(self, options: SmtpListener, intake: Intake) -> None:
        self.gate = Gate.of(options)
        self._options = options
        self._intake = intake
        self._tls = _tls(options)
        self._loop = asyncio.get_running_loop()

    def change(self, options: SmtpListener) -> None:
        """Take over new options, from any thread. Raises ConfigError for a certificate that cannot be used."""
        self._tls = _tls(options)
        self._options = options
        self._loop.call_soon_threadsafe(self.gate.change, options)

    def factory(self, name: str) -> Callable[[], Guarded]:
        """What makes the protocol object of each connection to the door `name`."""
        protocol = GuardedLmtp if name == "lmtp" else Guarded

        def make() -> Guarded:
            options = self._options
            implicit = options.tls == "implicit" and name == "smtp"
            door = Door(name, self._intake, options)
            return protocol(
                door, self.gate, tls=self._tls, implicit=implicit, hostname=socket.gethostname(), loop=self._loop
            )

        return make


async def _drain(doors: list[Listening], gate: Gate) -> None:
    """Take no more connections, let messages that are being stored get their reply, then close."""
    for door in doors:
        door.close()
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
        """Say what we can do. AUTH is offered where it may be used."""
        session.host_name = hostname
        kept = [line for line in replies if server.may_log_in or not line.startswith("250-AUTH")]
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
        """Whether `address`, with its detail or without, is on the list; an empty list takes all but the null path."""
        if address == "<>":
            return False
        if not self._wanted:
            return True
        local, _, domain = address.lower().rpartition("@")
        return bool(local) and not self._wanted.isdisjoint({address.lower(), plain(address), f"@{domain}"})

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
