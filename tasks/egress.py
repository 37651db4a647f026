"""HTTP to addresses that somebody else may have a hand in, without being led into our own network (SSRF).

The guard sits where the connection is made: the name is looked up, every address it has is checked, and the connection
goes to one that was checked, so a name that changes between check and use (DNS rebinding) gains nothing. TLS and Host
still use the name. httpcore is used without httpx on top, because it has a public hook for exactly this place and
none of what would have to be switched off: it reads no proxy variables, follows no redirects and unpacks no bodies.
"""

from __future__ import annotations

import contextvars
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from tasks.errors import Permanent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10", "::1/128", "fc00::/7"),
    )
)
"""RFC 1918, loopback, RFC 6598 and RFC 4193: reachable for endpoints that are allowed to be private."""

_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this host (RFC 1122)
            "169.254.0.0/16",  # link-local: cloud metadata
            "100.100.100.200/32",  # cloud metadata inside the shared range
            "192.0.0.0/24",  # protocol assignments, cloud metadata (RFC 6890)
            "192.0.2.0/24",  # documentation (RFC 5737)
            "192.88.99.0/24",  # 6to4 relays (RFC 7526)
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
            "::/96",  # unspecified and IPv4-compatible (RFC 4291)
            "64:ff9b::/96",  # NAT64 (RFC 6052)
            "64:ff9b:1::/48",  # local NAT64 (RFC 8215)
            "100::/64",  # discard (RFC 6666)
            "2001::/23",  # Teredo, ORCHID, benchmarks (RFC 2928)
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4 (RFC 3056)
            "3fff::/20",  # documentation (RFC 9637)
            "fd00:ec2::254/128",  # cloud metadata inside the private range
            "fe80::/10",  # link-local
            "fec0::/10",  # site-local
            "ff00::/8",  # multicast
        ),
    )
)
"""Reachable for nobody."""

_PIECE = 65_536

_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("egress_deadline")


class AddressRefused(Permanent):
    """The address may not be connected to."""


class Deadline(Exception):
    """The exchange took longer than it may in all."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound everything that is done on the network inside the block, name lookup included, to `seconds` in all."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def left(timeout: float | None = None) -> float | None:
    """Seconds that one step may take: `timeout` or what is left in all. Raises Deadline when nothing is."""
    end = _deadline.get(None)
    if end is None:
        return timeout
    remaining = end - time.monotonic()
    if remaining <= 0:
        raise Deadline("the exchange took too long")
    return remaining if timeout is None else min(timeout, remaining)


def check_address(address: Address, *, allow_private: bool) -> None:
    """Raise AddressRefused unless it may be connected to: a public address, or a private one where that is allowed."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address == ipaddress.ip_address("::1"):
        allowed = allow_private
    elif any(address in network for network in _NEVER):
        allowed = False
    else:
        allowed = allow_private or not any(address in network for network in _PRIVATE)
    if not allowed:
        raise AddressRefused(f"address {address} is not public")


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of `host`, all of them checked. Raises AddressRefused, Deadline, or OSError when there is none.

    One bad address among good ones refuses the name: an honest one does not have it.
    """
    found = list(dict.fromkeys(str(entry[4][0]) for entry in _lookup(host, port)))
    for text in found:
        check_address(ipaddress.ip_address(text), allow_private=allow_private)
    return found


def _lookup(host: str, port: int) -> list[Any]:
    """getaddrinfo in a thread of its own, because it knows no timeout. Raises Deadline or OSError."""
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            answers.put(error)
        except UnicodeError:
            answers.put(socket.gaierror(socket.EAI_NONAME, "the name is not a valid host name"))

    threading.Thread(target=ask, name="egress-lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=left())
    except queue.Empty:
        raise Deadline(f"looking up {host} took too long") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


class GuardedStream(httpcore.NetworkStream):
    """A connection whose every step counts against the deadline of the exchange it serves."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read, for `timeout` or what is left at most."""
        return self._stream.read(max_bytes, left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, for `timeout` or what is left at most; in pieces, because each of them starts the clock anew."""
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], left(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands; the certificate has to be the name's, not the address's."""
        return GuardedStream(self._stream.start_tls(ssl_context, server_hostname, left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        """What the stream below knows."""
        return self._stream.get_extra_info(info)


class GuardedBackend(httpcore.NetworkBackend):
    """Makes connections to checked addresses only."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._below = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers.

        Raises AddressRefused, Deadline, OSError (no such name) or httpcore's errors.
        """
        error: Exception | None = None
        for address in resolve(host, port, allow_private=self._allow_private):
            try:
                stream = self._below.connect_tcp(address, port, left(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
            else:
                return GuardedStream(stream)
        raise error or OSError(f"{host} has no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Never: no URL may lead to a local socket."""
        raise AddressRefused("Unix sockets are not reachable from here")


def tls_context(ca_file: str | None = None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Certificates are verified against the system's authorities, or those of `ca_file`; `cert` is shown (mTLS).

    Raises OSError (ssl.SSLError is one) when a file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if cert:
        context.load_cert_chain(cert, key)
    return context


def line(*, allow_private: bool, tls: ssl.SSLContext) -> httpcore.ConnectionPool:
    """One connection behind the guard, kept for the next request and made anew when it is gone.

    For one thread at a time: httpcore's pools can close a connection under the hands of another thread (the look at an
    idle socket and its use are two steps), so several are kept side by side instead.
    """
    return httpcore.ConnectionPool(
        ssl_context=tls,
        max_connections=1,
        max_keepalive_connections=1,
        keepalive_expiry=20,
        network_backend=GuardedBackend(allow_private=allow_private),
    )
