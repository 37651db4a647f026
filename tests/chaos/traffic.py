"""Steady traffic by SMTP, mailbox and webhook: each sender sends the same again until somebody has taken it over."""

from __future__ import annotations

import contextlib
import json
import smtplib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from tests.chaos.place import OURS, Place
from tests.integration.dovecot import USER
from tests.street import signed

WAYS = ("smtp", "imap", "webhook")
PATIENCE = 30.0
"""Seconds that a sender waits for an answer before it tries again."""
AGAIN = 0.5
"""Seconds until it does."""
LARGE, LARGE_EVERY = 20_000, 5
"""Every so many messages one is of this size, so that it is stored as a blob."""


@dataclass
class Sent:
    """What was sent by one way."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Key (Message-ID or webhook-id) of each message that was taken over, and how often it was sent."""
    refused: int = 0
    """Tries that were answered with a refusal, or not at all."""
    due: int = 0
    """Messages whose time had come."""
    slowest: float = 0.0
    """Seconds between the first try and the acknowledgement, at the most."""


class Traffic:
    """One thread a way that begins a message each `1 / rate` seconds, and threads that see them through."""

    def __init__(self, place: Place, rate: float, name: str) -> None:
        """`rate` is messages a second and way; `name` makes the keys of this run its own."""
        self._place, self._rate, self._name = place, rate, name
        self.sent = {way: Sent() for way in WAYS}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pools = {way: ThreadPoolExecutor(24) for way in WAYS}
        self._beginners = [threading.Thread(target=self._begin, args=(way,), daemon=True) for way in WAYS]
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{place.web}",
            trust_env=False,
            timeout=PATIENCE,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def start(self) -> None:
        """Begin."""
        for thread in self._beginners:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Begin nothing more, and see through what was begun; False when that takes longer than `seconds`."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(len(sent.accepted) == sent.due for sent in self.sent.values()):
                break
            time.sleep(0.2)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        return all(len(sent.accepted) == sent.due for sent in self.sent.values())

    def _begin(self, way: str) -> None:
        number, due = 0, time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            number += 1
            due += 1 / self._rate
            self.sent[way].due += 1
            self._pools[way].submit(self._see_through, way, number)

    def _see_through(self, way: str, number: int) -> None:
        key = f"<{way}-{number}-{self._name}@sender.example>" if way != "webhook" else f"msg_{number}_{self._name}"
        text = f"The lamp number {number} came broken.\r\n" + "x" * 70 * (LARGE // 70 * (number % LARGE_EVERY == 0))
        give = {"smtp": self._by_smtp, "imap": self._by_mailbox, "webhook": self._by_webhook}[way]
        begun, tries = time.monotonic(), 1
        while not _taken(give, key, number, text):
            with self._lock:
                self.sent[way].refused += 1
            tries += 1
            time.sleep(AGAIN)
        with self._lock:
            self.sent[way].accepted[key] = tries
            self.sent[way].slowest = max(self.sent[way].slowest, time.monotonic() - begun)

    def _by_smtp(self, key: str, number: int, text: str) -> bool:
        with smtplib.SMTP("127.0.0.1", self._place.smtp, timeout=PATIENCE) as client:
            return not client.sendmail(f"ada{number}@sender.example", [OURS], _mail(key, number, OURS, text))

    def _by_mailbox(self, key: str, number: int, text: str) -> bool:
        self._place.dovecot.deliver(_mail(key, number, USER, text), sender=f"ada{number}@sender.example")
        return True

    def _by_webhook(self, key: str, number: int, text: str) -> bool:
        body = json.dumps({"order": number, "text": text}).encode()
        return signed(self._client, body, key).status_code == 202


def _taken(give: object, key: str, number: int, text: str) -> bool:
    assert callable(give)
    with contextlib.suppress(OSError, smtplib.SMTPException, httpx.HTTPError):
        return bool(give(key, number, text))
    return False


def _mail(key: str, number: int, to: str, text: str) -> bytes:
    head = f"From: Ada <ada{number}@sender.example>\r\nTo: {to}\r\nSubject: Lamp {number}\r\nMessage-ID: {key}\r\n"
    return f"{head}Date: Fri, 02 Jan 2026 10:00:00 +0000\r\n\r\n{text}\r\n".encode()
