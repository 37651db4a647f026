"""One file from a URL that stood in a message, within what [webhook.NAME.fetch] allows.

The URL is somebody else's, so reasons name its host only: path and query of a signed link are a key to the file, and the
address behind a name is nobody's business outside.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import httpcore
import httpx

from config.fetching import FetchPolicy
from tasks import egress
from tasks.errors import Permanent, Transient, Unavailable
from tasks.exchange import AGENT, errors_told, try_later, wire_url

LONGEST_URL = 8192
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_HOST_SHOWN = 100


@dataclass(frozen=True)
class Download:
    """What a server gave."""

    data: bytes
    claimed: str
    """Its Content-Type."""


def host_of(url: str, policy: FetchPolicy) -> str:
    """The host of `url`, as reasons name it. Raises Permanent when `policy` does not let it be fetched, and says why."""
    parts = _parsed(url)
    host = parts.host[:_HOST_SHOWN]
    if parts.userinfo:
        raise Permanent(f"{host}: its URL holds a user or password")
    if not _is_named(parts, policy):
        port = f" with port {parts.port}" if parts.port else ""
        raise Permanent(f"{host}: the host{port} is not among the `hosts` that may be fetched from")
    if policy.headers and parts.scheme != "https" and not policy.allow_private:
        raise Permanent(f"{host}: http would show the request headers to everybody; only https is fetched with them")
    return host


def download(url: str, policy: FetchPolicy, most: int) -> Download:
    """Fetch `url` once, `most` bytes of it at most.

    Raises Permanent for what stays so (refused by `policy`, most 4xx, redirects, too large), Unavailable when a host that
    `policy` names cannot be reached, Transient otherwise.
    """
    host = host_of(url, policy)
    wire, field = wire_url(url)
    headers = {"host": field, "user-agent": AGENT, "accept": "*/*", "accept-encoding": "identity"}
    headers |= {name.lower(): value.get_secret_value() for name, value in policy.headers.items()}
    timeouts = {"connect": _CONNECT_SECONDS, "read": _SILENCE_SECONDS, "write": _SILENCE_SECONDS}
    with (
        _told(host, is_ours=bool(policy.hosts)),
        errors_told(f"fetch:{host}"),
        egress.within(policy.timeout),
        egress.line(allow_private=policy.allow_private, tls=_tls(policy.ca_file)) as line,
        line.stream("GET", wire, headers=list(headers.items()), extensions={"timeout": timeouts}) as response,
    ):
        return _read(response, most)


def _parsed(url: str) -> httpx.URL:
    """`url` by the parser that also makes what goes on the wire: two parsers could be told two hosts."""
    if len(url) > LONGEST_URL:
        raise Permanent(f"its URL is longer than {LONGEST_URL} characters")
    try:
        parts = httpx.URL(url)
        host = parts.raw_host
    except (httpx.InvalidURL, ValueError):
        raise Permanent("its URL cannot be understood") from None
    if not 0 < (parts.port or 80) < 65536:
        raise Permanent("its URL cannot be understood")
    if parts.scheme not in {"http", "https"} or not host:
        raise Permanent("its URL is no http:// or https:// address")
    return parts


def _is_named(parts: httpx.URL, policy: FetchPolicy) -> bool:
    """Whether a pattern of `hosts` fits. A port other than the scheme's own has to be in the pattern."""
    if not policy.hosts:
        return parts.port is None
    port = "" if parts.port is None else f":{parts.port}"
    names = {f"{name.lower().rstrip('.')}{port}" for name in (parts.host, parts.raw_host.decode("ascii"))}
    patterns = [pattern.lower() for pattern in policy.hosts if not port or ":" in pattern]
    return any(name == pattern or fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _read(response: httpcore.Response, most: int) -> Download:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    said = f"HTTP {response.status}"
    if later := try_later(response.status, headers, said):
        raise later
    if 300 <= response.status < 400:
        raise Permanent(f"{said}: redirects are not followed")
    if response.status != 200:
        raise Permanent(said)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise Permanent(f"it is larger than {most} bytes")
    body = bytearray()
    for part in response.iter_stream():
        body += part
        if len(body) > most:
            raise Permanent(f"it is larger than {most} bytes")
    return Download(bytes(body), headers.get("content-type", "")[:200])


@contextmanager
def _told(host: str, *, is_ours: bool) -> Iterator[None]:
    """Errors with the host in front. Only a host that an admin has named is a dependency whose outage is waited out."""
    try:
        yield
    except egress.AddressRefused:
        raise Permanent(f"{host}: its address is not public") from None
    except Permanent as error:
        raise Permanent(f"{host}: {error.reason}") from error
    except Unavailable as error:
        if is_ours:
            raise Unavailable(error.dependency, f"{host}: {error.reason}") from error
        raise Transient(f"{host}: {error.reason}") from error
    except Transient as error:
        raise Transient(f"{host}: {error.reason}", retry_after=error.retry_after) from error


@lru_cache(maxsize=64)
def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return egress.tls_context(str(ca_file) if ca_file else None)
    except OSError as error:  # a person has to mend it, and then the job goes on
        raise Transient(f"ca_file {ca_file} of the source's [fetch] cannot be used: {error}") from None
