"""How much one sender may ask for: bytes, seconds, requests, and from where."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.types import Receive

from config.inbound import Network
from daemon.listeners.webhook_problems import Refused

_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0
_CLOSE = {"Connection": "close"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Gone(Exception):
    """The client closed the connection before its request was whole; nobody is there to answer."""


async def read_body(
    receive: Receive, headers: Mapping[str, str], limit: int, seconds: float, *, is_here: bool = False
) -> bytes:
    """The whole body, counted as it comes, so a chunked one is bounded too. One that `is_here` needs no clock.

    Raises Refused 413 beyond `limit` bytes, 408 when it is not there after `seconds`, Gone when the client left.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        await _linger(receive)
        raise _too_large(limit)
    parts: list[bytes] = []
    total = 0
    with _NO_DEADLINE if is_here else _Deadline(seconds):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            total += len(part)
            if total > limit:
                break
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
    parts.clear()
    await _linger(receive)
    raise _too_large(limit)


class _Deadline:
    """asyncio.timeout for the usual case, which is that nothing has to be waited for: at a fifth of its cost.

    Raises Refused 408 in the block when it takes longer than `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cut)

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: object) -> None:
        self._timer.cancel()
        if self._late and kind is asyncio.CancelledError and self._task and not self._task.uncancel():
            said = f"the body was not complete after {self._seconds:g} seconds"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "too-slow", said, _CLOSE) from None

    def _cut(self) -> None:
        self._late = True
        if self._task:
            self._task.cancel()


_NO_DEADLINE = contextlib.nullcontext()


async def _linger(receive: Receive) -> None:
    """Read on for a moment and throw it away: closing at once resets the connection, and the 413 would be lost."""
    dropped = 0
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while dropped < _LINGER_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(limit: int) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"the body is larger than {limit} bytes", _CLOSE, limit=limit
    )


def peer_of(client: Sequence[object] | None) -> Address | None:
    """Address of the other end of the connection; None on a Unix socket."""
    return _address(str(client[0])) if client else None


def sender_of(peer: Address | None, forwarded: str, proxies: Sequence[Network]) -> Address | None:
    """Who sent the request: the peer, or behind trusted proxies the last address they did not write themselves.

    X-Forwarded-For is read from the right, because everything left of a trusted proxy's entry is the client's claim.
    """
    address = peer
    for entry in reversed(forwarded.split(",")[-20:]) if forwarded else ():
        if not is_in(address, proxies):
            break
        address = _address(entry)
        if address is None:
            break
    return address


def is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `networks`; an unknown address lies in none."""
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Bucket:
    """A token bucket: `quota` requests per `window` seconds, refilled evenly. Only verified requests take from it,
    so that a forger cannot use up what belongs to the real sender."""

    def __init__(self, quota: int, window: float) -> None:
        self.quota = quota
        self.window = window
        self._left = float(quota)
        self._at = time.monotonic()

    def check(self) -> None:
        """Raise Refused 429 when nothing is left."""
        self._refill()
        if self._left < 1:
            wait = math.ceil((1 - self._left) * self.window / self.quota)
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many",
                f"more than {self.quota} requests in {self.window:g} seconds",
                {"Retry-After": str(wait), **self.headers()},
            )

    def take(self) -> dict[str, str]:
        """Count one request; returns the headers that tell what is left. Raises Refused 429 when nothing is."""
        self.check()
        self._left -= 1
        return self.headers()

    def headers(self) -> dict[str, str]:
        """RateLimit fields (draft-ietf-httpapi-ratelimit-headers-09)."""
        full_in = math.ceil((self.quota - self._left) * self.window / self.quota)
        return {
            "RateLimit-Policy": f'"default";q={self.quota};w={math.ceil(self.window)}',
            "RateLimit": f'"default";r={int(self._left)};t={full_in}',
        }

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(self.quota, self._left + (now - self._at) * self.quota / self.window)
        self._at = now
