"""Webhooks out: one attempt to post a delivery's bytes to an [endpoint.NAME], signed as Standard Webhooks 1.0.0."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator

import httpcore

from config.outbound import WebhookEndpoint
from config.settings import Settings
from tasks import egress, meters
from tasks.breaker import Breaker, Paused
from tasks.errors import Permanent, TargetGone, Unavailable
from tasks.exchange import AGENT, errors_told, try_later, wire_url
from tasks.models import Delivery, Outcome
from tasks.signatures import sign_standard

MAX_RESPONSE = 65_536
"""Bytes of an answer that are read; the rest is of no use to anybody."""

_EXCERPT = 200


class _Endpoint:
    """Connections and breaker of one endpoint as it is configured; made anew in a forked child."""

    def __init__(self, name: str, config: WebhookEndpoint) -> None:
        self.config = config
        self.breaker = Breaker()
        self._tls = _tls(name, config)
        self._idle: list[httpcore.ConnectionPool] = []
        self._slots = threading.BoundedSemaphore(config.max_connections)

    @contextlib.contextmanager
    def line(self) -> Iterator[httpcore.ConnectionPool]:
        """A kept connection, or a new one, for the caller alone. Raises Deadline when none gets free in time."""
        if not self._slots.acquire(timeout=egress.left()):
            raise egress.Deadline("all connections to the endpoint are in use")
        try:
            line = self._idle.pop()
        except IndexError:
            line = egress.line(allow_private=self.config.allow_private, tls=self._tls)
        try:
            yield line
        finally:
            self._idle.append(line)
            self._slots.release()


_lock = threading.Lock()
_endpoints: dict[tuple[int, str], _Endpoint] = {}


def send(delivery: Delivery, settings: Settings) -> Outcome:
    """Post `delivery.body` once.

    Returns the answer when it was 2xx. Raises Permanent (most 4xx, redirects, refused addresses, no such endpoint; 410:
    TargetGone),
    Unavailable (nobody answers there: refused connection, no such name, or paused after many failures), Transient
    otherwise.
    """
    name = delivery.target
    config = settings.endpoint.get(name)
    if config is None:
        raise Permanent(f"endpoint {name!r} is not configured; add [endpoint.{name}] and run the job again")
    endpoint = _endpoint(name, config)
    try:
        endpoint.breaker.enter()
    except Paused as pause:
        reason = f"the endpoint keeps failing and is left alone for {pause.seconds:.0f} s"
        raise Unavailable(f"webhook:{name}", reason, retry_after=pause.seconds, asked=False) from None
    alive = False
    try:
        outcome = _attempt(delivery, name, endpoint)
        alive = True
    except Permanent:
        alive = True
        raise
    finally:
        endpoint.breaker.leave(alive=alive)
        meters.breaker(f"webhook:{name}", is_open=endpoint.breaker.is_open)
    return outcome


def forget() -> None:
    """Drop what is known about all endpoints: their connections and their failures."""
    with _lock:
        _endpoints.clear()


def _endpoint(name: str, config: WebhookEndpoint) -> _Endpoint:
    key = (os.getpid(), name)
    with _lock:
        known = _endpoints.get(key)
        if known is None or known.config != config:
            known = _endpoints[key] = _Endpoint(name, config)
        return known


def _attempt(delivery: Delivery, name: str, endpoint: _Endpoint) -> Outcome:
    """One exchange, with the network's errors told in ours."""
    try:
        with errors_told(f"webhook:{name}"), egress.within(endpoint.config.timeout):
            status, headers, body = _exchange(delivery, endpoint)
    except egress.AddressRefused as error:
        raise Permanent(f"{error.reason}; set allow_private in [endpoint.{name}] if it is meant") from None
    return _judge(status, headers, body)


def request_headers(delivery: Delivery, endpoint: WebhookEndpoint, now: int) -> dict[str, str]:
    """What an attempt at `now` (seconds) sends beside the body. Id and key never change, the timestamp always does."""
    headers = {**delivery.headers, **{name: value.get_secret_value() for name, value in endpoint.headers.items()}}
    if token := endpoint.bearer.get_secret_value():
        headers["Authorization"] = f"Bearer {token}"
    if pair := endpoint.basic.get_secret_value():
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    secrets = [secret.get_secret_value() for secret in endpoint.secrets]
    return {
        **headers,
        "Content-Type": delivery.content_type,
        "Content-Length": str(len(delivery.body)),
        "User-Agent": AGENT,
        "Accept": "*/*",
        "Idempotency-Key": delivery.key,
        **sign_standard(delivery.body, secrets, delivery.key, now),
    }


def _exchange(delivery: Delivery, endpoint: _Endpoint) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and the first bytes of the body."""
    config = endpoint.config
    timeouts = {
        "connect": config.connect_timeout,
        "read": config.read_timeout,
        "write": config.read_timeout,
    }
    url, host = wire_url(config.url)
    headers = [("Host", host), *request_headers(delivery, config, int(time.time())).items()]
    with (
        endpoint.line() as line,
        line.stream("POST", url, headers=headers, content=delivery.body, extensions={"timeout": timeouts}) as response,
    ):
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return response.status, fields, _read(response)


def _read(response: httpcore.Response) -> bytes:
    """Up to MAX_RESPONSE bytes. The status line has decided already, so a body that breaks off or never ends is cut."""
    body = bytearray()
    try:
        for part in response.iter_stream():
            body += part
            if len(body) >= MAX_RESPONSE:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, egress.Deadline):
        pass
    return bytes(body[:MAX_RESPONSE])


def _judge(status: int, headers: dict[str, str], body: bytes) -> Outcome:
    text = body.decode("utf-8", "replace")
    if 200 <= status < 300:
        return Outcome(detail=f"HTTP {status}", response=text, code=status)
    excerpt = re.sub(r"[^\x20-\x7e\u00a1-\uffff]+", " ", text[: 4 * _EXCERPT]).strip()[:_EXCERPT]
    said = f"HTTP {status}" + (f": {excerpt}" if excerpt else "")
    if later := try_later(status, headers, said):
        raise later
    if 300 <= status < 400:
        raise Permanent(f"HTTP {status}: redirects are not followed; write the address it moved to into the endpoint")
    if status == 410:
        raise TargetGone("HTTP 410: the receiver wants nothing more; take the endpoint out of the routes")
    raise Permanent(said)


def _tls(name: str, endpoint: WebhookEndpoint) -> ssl.SSLContext:
    try:
        return egress.tls_context(
            *(str(path) if path else None for path in (endpoint.ca_file, endpoint.client_cert, endpoint.client_key))
        )
    except OSError as error:
        raise Permanent(f"a certificate file of [endpoint.{name}] cannot be used: {error}") from None
