"""Ports for servers that have to be told theirs before they start, and ports at which nobody is."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

LOWEST = 12_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A loopback port that was free a moment ago, and of those that the kernel gives to nobody by itself.

    So neither a client's connection nor a test beside this one that listens on port 0 can take it before its server
    has started, or while that is away.
    """
    highest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    for _ in range(1000):
        port = LOWEST + secrets.randbelow(
            max(highest - LOWEST, 1)
        )  # not `random`: Hypothesis seeds that alike everywhere
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError(f"no free port between {LOWEST} and {highest}")
