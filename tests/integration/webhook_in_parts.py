"""What the tests of webhooks in share: a source of each scheme, and the listener under uvicorn on the real intake."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from config.settings import Settings
from daemon.listeners import webhook
from daemon.listeners.webhook_protocol import GuardedProtocol
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.models import Envelope, Receipt
from tasks.signatures import Verifier
from tests.integration.webhook_parts import served

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LIMIT = 300_000
SOURCES: dict[str, dict[str, Any]] = {
    "shop": {"secrets": [SECRET], "max_wait": 2},
    "code": {"scheme": "github", "secrets": ["It's a Secret to Everybody"]},
    "chat": {"scheme": "slack", "secrets": ["8f742231b10e8888abcd99yyyzzz85a5"]},
    "pay": {"scheme": "stripe", "secrets": ["whsec_stripe_has_its_own"]},
    "till": {"scheme": "shopify", "secrets": ["hush hush hush hush"]},
    "lab": {"scheme": "gitlab", "secrets": ["a long shared secret"]},
    "push": {"scheme": "bearer", "secrets": ["a long shared secret"]},
    "user": {"scheme": "basic", "secrets": ["shop:a long shared secret"]},
    "sealed": {"scheme": "mtls", "secrets": ["CN=shop"], "proxies": ["127.0.0.1"]},
    "open": {"scheme": "none", "body_timeout": 0.5, "max_body": LIMIT},
    "keyed": {"scheme": "none", "key": "header:X-Event"},
    "inside": {"scheme": "none", "allow": ["192.0.2.0/24"], "proxies": ["127.0.0.1"]},
    "slow": {"scheme": "bearer", "secrets": ["a long shared secret"], "rate": 3, "rate_window": 60},
}


class Breakable:
    """The real intake, with a switch for the one fault a healthy ledger cannot show."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.broken = False

    async def accept_async(self, envelope: Envelope, raw: bytes) -> Receipt:
        if self.broken:
            raise Unavailable("ledger", "disk full", retry_after=7)
        return await self.intake.accept_async(envelope, raw)


@dataclass
class House:
    """A running listener and what stands behind it."""

    url: str
    settings: Settings
    door: Breakable
    results: dict[str, dict[str, Any]]
    _number: Iterator[int]

    @property
    def intake(self) -> Intake:
        return self.door.intake

    def post(self, source: str, body: bytes = b'{"id": "e1"}', key: str = "", **headers: str) -> httpx.Response:
        """Post as the source's real sender would; keywords are further headers (`_` for `-`)."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}/hooks/{source}", content=body, headers=self.signed(source, body, key, **more))

    def signed(self, source: str, body: bytes, key: str = "", **more: str) -> dict[str, str]:
        key = key or f"msg_{next(self._number)}"
        extra = {"code": {"x-github-delivery": key}, "till": {"x-shopify-webhook-id": key}}.get(source, {})
        config = self.settings.webhook[source]
        return {**Verifier(config).sign(body, key, int(time.time())), **extra, **more}

    def jobs(self) -> int:
        return sum(self.intake.ledger.jobs.counts().values())

    def raw(self, job_id: str) -> bytes | None:
        return self.intake.ledger.jobs.raw(job_id)


@contextlib.contextmanager
def listening(settings: Settings, sources: dict[str, dict[str, Any]] = SOURCES) -> Iterator[House]:
    """The listener alone under uvicorn, over a ledger in the test's folder."""
    configured = Settings.model_validate({"state_dir": settings.state_dir, "webhook": sources})
    intake = Intake.open(configured)
    door, results = Breakable(intake), dict[str, dict[str, Any]]()
    app = FastAPI()
    webhook.install(app, configured, door, results.get)
    with served(app, http=GuardedProtocol) as url:
        yield House(url, configured, door, results, itertools.count(1))
    intake.close()


def connect(house: House) -> socket.socket:
    address = httpx.URL(house.url)
    return socket.create_connection((address.host, address.port or 80), timeout=20)
