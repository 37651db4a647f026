"""sd_notify(3) without a dependency: to systemd, or to `postroom up`, which listens on a socket of the same kind."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> bool:
    """Send `READY=1`, `STATUS=...` and the like; False when nobody asked for it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall("\n".join(lines).encode())
        except OSError:
            return False
    return True


def tell_ready(line: str) -> None:
    """A part is truly at work, and where: `smtp on 127.0.0.1:8025`. `postroom up` reads the address from the line."""
    notify("READY=1", f"STATUS={line}", f"X_POSTROOM={line}")
