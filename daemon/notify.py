"""sd_notify(3) without a dependency: to systemd, or to `postroom up`, which listens on a socket of the same kind."""

from __future__ import annotations

import os
import socket

_FIRST_SOCKET = 3


def notify(*lines: str) -> bool:
    """Send `READY=1`, `STATUS=...` and the like; False when nobody asked for it.

    Each is one line, whatever other people's servers said: what follows a line break would be an order to systemd.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall("\n".join(" ".join(line.split()) for line in lines).encode())
        except OSError:
            return False
    return True


def tell_part(line: str) -> None:
    """One of several parts is at work: `imap support: ...`. The process itself says READY when all of them are."""
    notify(f"X_POSTROOM={line}")


def tell_ready(line: str) -> None:
    """A process is truly at work, and where: `smtp on 127.0.0.1:8025`. `postroom up` reads the address from the line."""
    notify("READY=1", f"STATUS={line}", f"X_POSTROOM={line}")


def watchdog_every(longest: float) -> float:
    """Seconds between signs of life: `longest`, or half of what the unit's WatchdogSec= allows when that is less."""
    told = os.environ.get("WATCHDOG_USEC", "")
    return min(longest, int(told) / 2e6) if told.isdigit() and int(told) else longest


def inherited_sockets() -> list[tuple[str, socket.socket]]:
    """The listening sockets that systemd opened for us (sd_listen_fds(3)) with their names; none without it.

    They are taken once: a process started from here does not find them again.
    """
    number, names = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_FDNAMES", "").split(":")
    mine = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    if not mine or not number.isdigit():
        return []
    found = [socket.socket(fileno=_FIRST_SOCKET + index) for index in range(int(number))]
    for sock in found:
        sock.set_inheritable(False)
    names += ["unknown"] * (len(found) - len(names))
    return list(zip(names, found, strict=False))
