"""One configured webhook sender: whom it lets in, and what is known about a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from config.inbound import WebhookSource
from daemon.listeners.webhook_keys import KeyFinder, NoKey
from daemon.listeners.webhook_limits import Bucket, is_in, peer_of, sender_of
from daemon.listeners.webhook_problems import Refused
from tasks.models import Envelope, Kind
from tasks.signatures import BadSignature, Presented, Verifier

_KEPT = ("user-agent", "x-request-id")
_MAX_KEPT = 200
_MAX_CHALLENGE = 1000
_AUTHENTICATE = {"basic": 'Basic realm="hooks"', "bearer": "Bearer"}


class Source:
    """Everything that is made once for a [webhook.NAME] section. Its methods raise Refused for what may not pass."""

    def __init__(self, name: str, config: WebhookSource, default_limit: int) -> None:
        self.name = name
        self.config = config
        self.limit = config.max_body or default_limit
        self._verifier = Verifier(config)
        scheme = self._verifier.scheme
        self._keys = KeyFinder((config.key,) if config.key else scheme.keys)
        self._kept = (*_KEPT, *scheme.kept)
        self._challenged = scheme.challenge
        self._bucket = Bucket(config.rate, config.rate_window) if config.rate else None
        authenticate = _AUTHENTICATE.get(config.scheme, f'Webhook scheme="{config.scheme}"')
        self._unauthorized = {"WWW-Authenticate": authenticate}

    def admit(self, client: Sequence[object] | None, headers: Mapping[str, str]) -> bool:
        """Refuse what needs no look at the body; tells whether the connection comes from a trusted proxy."""
        from_proxy = False
        if self.config.allow or self.config.proxies:
            peer = peer_of(client)
            from_proxy = is_in(peer, self.config.proxies)
            sender = sender_of(peer, headers.get("x-forwarded-for", ""), self.config.proxies)
            if self.config.allow and not is_in(sender, self.config.allow):
                raise Refused(HTTPStatus.FORBIDDEN, "not-allowed", "this address may not post here")
        if self._bucket:
            self._bucket.check()
        return from_proxy

    def verify(self, request: Presented) -> None:
        """Refuse a request that does not prove who sent it."""
        try:
            self._verifier.check(request)
        except BadSignature as error:
            raise Refused(HTTPStatus.UNAUTHORIZED, "bad-signature", error.reason, self._unauthorized) from None

    def challenge(self, body: bytes) -> str:
        """Slack proves an address once by a challenge that has to be sent back; empty when this is none."""
        if not self._challenged or b"url_verification" not in body:
            return ""
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        if not isinstance(event, dict) or event.get("type") != "url_verification":
            return ""
        challenge = event.get("challenge")
        return challenge[:_MAX_CHALLENGE] if isinstance(challenge, str) else ""

    def count(self) -> dict[str, str]:
        """Count a verified request against the source's rate; returns the RateLimit fields to answer with."""
        return self._bucket.take() if self._bucket else {}

    def envelope(self, headers: Mapping[str, str], body: bytes) -> Envelope:
        """What is known about the request beside its body."""
        try:
            key = self._keys.find(headers, body)
        except NoKey as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "no-key", str(error)) from None
        return Envelope(
            source=f"webhook:{self.name}",
            kind=Kind.EVENT,
            key=key,
            key_days=self.config.keep_days,
            content_type=_text(headers, "content-type") or "application/octet-stream",
            headers={name: text for name in self._kept if (text := _text(headers, name))},
        )


def _text(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")[:_MAX_KEPT]
    return value if value.isprintable() else ""
