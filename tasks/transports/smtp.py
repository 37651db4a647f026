"""Hands one mail to the smarthost: the exact bytes, to one recipient.

| what happens | raised | because |
|---|---|---|
| no connection, no answer, a TLS or login fault, up to DATA | Unavailable | the server or set-up is at fault |
| 4yz to MAIL, RCPT, DATA or the final dot | Transient | RFC 5321 section 4.2.1 |
| 5yz to the same | Permanent | the same |
| connection lost while the bytes travel | Transient | without the final dot nothing was accepted |
| connection lost after the final dot | Transient, "in doubt" | it may have been taken; the same bytes go again |
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
from collections.abc import Iterator

from config.outbound import SmtpOut
from config.settings import Settings
from tasks.errors import Permanent, Transient, Unavailable
from tasks.guard import guard
from tasks.models import Delivery, Outcome

QUIT_TIMEOUT = 5.0
"""Seconds to wait for the answer to QUIT; what it says changes nothing."""
SETUP_CODES = frozenset({421, 454, 530, 534, 535, 538})
"""Replies to MAIL or RCPT that speak of the session or the login, not of this mail (RFC 4954, RFC 3207)."""
RESPONSE_LIMIT = 65_536
_TARGET = re.compile(r'(?:[^\s"<>,;\\\x00-\x1f]+|"[^"\\\x00-\x1f]*")@[^\s"<>,;@\\\x00-\x1f]+')

Reply = tuple[int, bytes]


def send(delivery: Delivery, settings: Settings) -> Outcome:
    """Deliver `delivery.body` to `delivery.target`.

    Raises Unavailable, Transient or Permanent, with the server's words.
    """
    options = settings.smtp_out
    if not _TARGET.fullmatch(delivery.target):
        raise Permanent(f"the recipient {delivery.target[:100]!r} is no single mail address")
    if not delivery.body.count(b"\n") == delivery.body.count(b"\r") == delivery.body.count(b"\r\n"):
        raise Permanent("the message has a bare CR or LF and would be refused (RFC 5321 section 2.3.8)")
    with guard(_dependency(options)).call(), _session(options) as client:
        code, text = _transfer(client, delivery, options)
    return Outcome(detail=_line(code, text), response=_full(code, text), code=code)


@contextlib.contextmanager
def _session(options: SmtpOut) -> Iterator[smtplib.SMTP]:
    """A greeted, encrypted and logged-in connection."""
    with _outages(options, "connecting"):
        client = _connected(options)
    try:
        with _outages(options, "greeting"):
            _greet(client)
        if options.security == "starttls":
            with _outages(options, "STARTTLS"):
                _encrypt(client, options)
        if options.user:
            with _outages(options, "login"):
                client.login(options.user, options.password.get_secret_value())
        yield client
        with contextlib.suppress(OSError, smtplib.SMTPException):
            _patience(client, QUIT_TIMEOUT)
            client.quit()
    finally:
        client.close()


def _connected(options: SmtpOut) -> smtplib.SMTP:
    timeout = options.connect_timeout
    if options.protocol == "lmtp":
        return smtplib.LMTP(options.host, options.port, local_hostname=options.helo, timeout=timeout)
    if options.security == "tls":
        return smtplib.SMTP_SSL(
            options.host, options.port, local_hostname=options.helo, timeout=timeout, context=_trusted(options)
        )
    return smtplib.SMTP(options.host, options.port, local_hostname=options.helo, timeout=timeout)


def _trusted(options: SmtpOut) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)


def _greet(client: smtplib.SMTP) -> None:
    code, text = client.ehlo()
    if code != 250 and not isinstance(client, smtplib.LMTP):
        code, text = client.helo()
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)


def _encrypt(client: smtplib.SMTP, options: SmtpOut) -> None:
    if not client.has_extn("starttls"):
        raise smtplib.SMTPNotSupportedError("the server offers no STARTTLS; check port and security in [smtp_out]")
    code, text = client.starttls(context=_trusted(options))
    if code != 220:
        raise smtplib.SMTPResponseException(code, text)
    _greet(client)


def _transfer(client: smtplib.SMTP, delivery: Delivery, options: SmtpOut) -> Reply:
    """MAIL, RCPT, DATA, the bytes and the final dot; returns the reply to the last."""
    with _outages(options, "handing over the message"):
        _patience(client, options.command_timeout)
        sender = options.envelope_sender
        _judge("MAIL FROM", client.mail(sender, _mail_options(client, delivery, sender)), 250, options)
        _judge("RCPT TO", client.rcpt(delivery.target), 250, options)
        _judge("DATA", client.docmd("DATA"), 354, options)
    try:
        client.send(stuffed(delivery.body))
    except (OSError, smtplib.SMTPException) as error:
        raise Transient(f"while the message was sent {_words(error)}; nothing was accepted") from error
    try:
        _patience(client, options.data_timeout)
        client.send(b".\r\n")
        reply = client.getreply()
    except (OSError, smtplib.SMTPException) as error:
        raise Transient(f"in doubt: after the final dot {_words(error)}; the same message is sent again") from error
    _judge("the message", reply, 250, options, is_final=True)
    return reply


def stuffed(body: bytes) -> bytes:
    """Bytes as they travel after DATA: leading dots doubled, CRLF at the end (RFC 5321 section 4.5.2)."""
    ended = body if body.endswith(b"\r\n") else body + b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", ended)


def _mail_options(client: smtplib.SMTP, delivery: Delivery, sender: str) -> list[str]:
    """Parameters of MAIL that the message needs. Raises Permanent when the server cannot carry it."""
    body = delivery.body
    chosen = []
    if client.has_extn("size"):
        limit = client.esmtp_features["size"].strip()
        if limit.isdigit() and 0 < int(limit) < len(body):
            raise Permanent(f"the message has {len(body)} bytes, the server takes {limit} (RFC 1870)")
        chosen.append(f"SIZE={len(body)}")
    head = body.partition(b"\r\n\r\n")[0]
    if not (head.isascii() and delivery.target.isascii() and sender.isascii()):
        if not client.has_extn("smtputf8"):
            raise Permanent("an address has letters beyond ASCII, and the server offers no SMTPUTF8 (RFC 6531)")
        chosen.append("SMTPUTF8")
    if not body.isascii():
        if not client.has_extn("8bitmime"):
            raise Permanent("the message has 8-bit bytes, and the server offers no 8BITMIME (RFC 6152)")
        chosen.append("BODY=8BITMIME")
    return chosen


def _judge(step: str, reply: Reply, wanted: int, options: SmtpOut, *, is_final: bool = False) -> None:
    """Raise what a reply means when it is not the wanted one."""
    code, text = reply
    if code == wanted or (wanted == 250 and code == 251):
        return
    line = f"{step} was answered {_line(code, text)}"
    if code in SETUP_CODES and not is_final:
        raise Unavailable(_dependency(options), line)
    if code == -1:
        raise Unavailable(_dependency(options), f"{step} was answered with no SMTP reply")
    raise Permanent(line) if 500 <= code <= 599 else Transient(line)


@contextlib.contextmanager
def _outages(options: SmtpOut, doing: str) -> Iterator[None]:
    """Turn what goes wrong outside a mail's own replies into Unavailable with words for the admin."""
    try:
        yield
    except (OSError, smtplib.SMTPException) as error:
        where = f"{options.host}:{options.port}"
        raise Unavailable(_dependency(options), f"{where}, {doing}: {_words(error)}") from error


def _dependency(options: SmtpOut) -> str:
    return f"smtp:{options.host}:{options.port}"


def _patience(client: smtplib.SMTP, seconds: float) -> None:
    if client.sock:
        client.sock.settimeout(seconds)


def _words(error: Exception) -> str:
    """An error as an admin reads it."""
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        return f"the server answered {_line(error.smtp_code, text)}"
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "the server did not answer in time"
    if isinstance(error, smtplib.SMTPServerDisconnected | ConnectionError) and not isinstance(
        error, ConnectionRefusedError
    ):
        return "the server closed the connection"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error))[:300]


def _line(code: int, text: bytes) -> str:
    """A reply on one line, at most 500 characters."""
    flat = " ".join(text.decode("utf-8", "replace").split())
    return f"{code} {''.join(filter(str.isprintable, flat))}"[:500].rstrip()


def _full(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"[:RESPONSE_LIMIT]
