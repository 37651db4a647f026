"""Logging in to the SMTP door (RFC 4954): PLAIN and LOGIN, over TLS or loopback only, and not as often as one likes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Mapping

from pydantic import SecretStr

from config.passwords import hashed, matches

MOST_FAILURES = 5
"""Failed logins of one address within WINDOW; after them no password is looked at."""
WINDOW = 600.0
DELAY = 1.0
"""Seconds before a failed login is answered."""
AT_ONCE = 2
"""Passwords compared at the same time: each takes memory and a processor's time."""
MOST_REMEMBERED = 10_000
"""Addresses whose failures are remembered."""


class Logins:
    """The users of a listener, and who failed to be one. One event loop only."""

    def __init__(self, users: Mapping[str, SecretStr]) -> None:
        self._users = users
        self._stranger = hashed("a user that is not there takes as long")
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._users)

    def throttled(self, address: str) -> bool:
        """Whether `address` has failed so often that it has to wait."""
        failures = self._failures.get(address)
        while failures and failures[0] < time.monotonic() - WINDOW:
            failures.popleft()
        return failures is not None and len(failures) >= MOST_FAILURES

    async def admits(self, user: bytes, password: bytes, address: str) -> bool:
        """Whether user and password are right. A wrong one is counted against `address` and answered late."""
        stored = self._users.get(user.decode("utf-8", "replace"))
        secret = stored.get_secret_value() if stored else self._stranger
        async with self._slots:
            right = await asyncio.to_thread(matches, secret, password)
        if right and stored:
            self._failures.pop(address, None)
            return True
        self._failures.setdefault(address, deque(maxlen=MOST_FAILURES)).append(time.monotonic())
        self._failures.move_to_end(address)
        while len(self._failures) > MOST_REMEMBERED:
            self._failures.popitem(last=False)
        await asyncio.sleep(DELAY)
        return False
