"""A mail to ourselves every so often: how long it really takes from sent to accepted, spam filters and all.

It goes out by [smtp_out] like a reply, comes back through the mailbox like any mail, and ends where it is recognised:
no job is made of it. Its header carries the time of sending under an HMAC, so that nobody else's mail ends there.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

import structlog

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners.imap_clock import Clock
from tasks.configured import message_id_secret
from tasks.errors import PostroomError
from tasks.mailhead import first
from tasks.models import Delivery
from tasks.transports.smtp import send

HEADER = "X-Postroom-Canary"
_FORM = re.compile(rb"(\d{1,15})\.([0-9a-f]{32})")
log = structlog.get_logger("postroom.imap")


class Canary:
    """The mails of one account to itself."""

    def __init__(self, name: str, account: ImapAccount, settings: Settings, clock: Clock) -> None:
        self._name = name
        self._every = account.canary
        self._address = account.address or account.user
        self._settings = settings
        self._secret = message_id_secret(settings)
        self._clock = clock

    def run(self, stop: threading.Event, is_ours: Callable[[], bool]) -> None:
        """Send one every `canary` seconds until `stop` is set, while it is this process that reads the mailbox."""
        while not stop.is_set():
            try:
                if is_ours():
                    self.send()
            except PostroomError as error:
                log.warning("imap.canary_not_sent", account=self._name, reason=error.reason)
            self._clock.wait(stop, self._every)

    def send(self) -> None:
        """Send one now. Raises what a delivery by SMTP raises."""
        at = self._clock.now_ms()
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._settings.smtp_out.sender or self._address
        mail["To"] = self._address
        mail["Subject"] = "Postroom: is this mailbox read?"
        key = f"<postroom.canary.{at}@{self._address.rpartition('@')[2] or 'localhost'}>"
        mail["Message-ID"] = key
        mail["Auto-Submitted"] = "auto-generated"
        mail[HEADER] = f"{at}.{self._sign(at)}"
        mail.set_content("Postroom sent this to itself to time the way in, and removes it.\n")
        send(Delivery(ordinal=0, transport="smtp", target=self._address, key=key, body=mail.as_bytes()), self._settings)

    def sent_at(self, raw: bytes) -> int:
        """When a mail of ours was sent (milliseconds since the epoch); 0 for every other mail."""
        found = _FORM.fullmatch(first(raw, HEADER.lower().encode()) or b"")
        if not found or not hmac.compare_digest(found[2].decode(), self._sign(int(found[1]))):
            return 0
        return int(found[1])

    def _sign(self, at: int) -> str:
        text = f"canary {self._name} {at}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]  # short enough for one line
