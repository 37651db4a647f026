"""What all our HTTP exchanges through the guard have in common: the URL's form, errors, and when to try again."""

from __future__ import annotations

import contextlib
import email.utils
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

import httpcore
import httpx

from tasks import egress
from tasks.errors import Permanent, Transient, Unavailable
from tasks.schedules import MAX_RETRY_AFTER

BUSY_WAIT = 60.0
"""Seconds before a server that says 429 without Retry-After is asked again."""

_TRY_AGAIN = frozenset({408, 409, 425, 429})

try:
    AGENT = f"Postroom/{version('postroom')}"
except PackageNotFoundError:  # run from a source tree that is not installed
    AGENT = "Postroom"


def wire_url(text: str) -> tuple[httpcore.URL, str]:
    """The URL as it goes on the wire (host names in IDNA, the rest percent-encoded), and the Host field for it.

    Raises Permanent.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise Permanent(f"{text!r} is no URL: {error}") from None
    wire = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    return wire, url.netloc.decode()


@contextlib.contextmanager
def errors_told(dependency: str) -> Iterator[None]:
    """The network's errors inside the block, told in ours.

    Raises Unavailable for `dependency` when there is no connection, Permanent for a request that cannot be written,
    Transient otherwise. AddressRefused passes: who may allow the address depends on whose it is.
    """
    try:
        yield
    except (httpcore.LocalProtocolError, UnicodeError):  # their words hold the value, which may be a credential
        raise Permanent("the request cannot be written: a configured header holds what HTTP forbids") from None
    except (httpcore.TimeoutException, egress.Deadline) as error:
        raise Transient(f"no answer in time: {str(error) or type(error).__name__}") from error
    except (httpcore.ConnectError, OSError) as error:
        raise _not_connected(dependency, error) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Transient(f"the connection broke: {str(error) or type(error).__name__}") from error


def try_later(status: int, headers: Mapping[str, str], said: str) -> Transient | None:
    """What to raise for an answer that may be another one later; None for one that stays. Header names in lower case."""
    if status not in _TRY_AGAIN and status < 500:
        return None
    wish = retry_after(headers.get("retry-after", ""), time.time())
    return Transient(said, retry_after=BUSY_WAIT if wish is None and status == 429 else wish)


def retry_after(value: str, now: float) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110 section 10.2.3), within [0, 2 h]; None when it says nothing."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,18}", value):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(then - now, 0.0), MAX_RETRY_AFTER)


def _not_connected(dependency: str, error: Exception) -> Transient:
    """Tell a wrong certificate, which a person has to mend, from a server that is away."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return Transient(f"TLS failed: {cause}")
        cause = cause.__cause__ or cause.__context__
    return Unavailable(dependency, f"cannot connect: {error}")
