"""Where the SMTP door listens: TCP ports, and a Unix socket with its mode and group set before anybody can connect."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.errors import ConfigError, Problem
from config.inbound import SmtpListener

BACKLOG = 1024
"""Connections that may wait to be accepted, so that a crowd is told 421 and not left to time out."""

Factory = Callable[[], asyncio.Protocol]


@dataclass(frozen=True)
class Listening:
    """One open door: its server, what people call its place, and the socket file to take away at the end."""

    server: asyncio.Server
    places: tuple[str, ...]
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Take no more connections. A socket file that another process has replaced meanwhile stays."""
        self.server.close()
        with contextlib.suppress(OSError):
            if self.path and self.path.stat().st_ino == self.inode:
                self.path.unlink()


async def on_port(name: str, host: str, port: int, factory: Factory) -> Listening:
    """Listen on a TCP port; 0 lets the system choose. Raises ConfigError when it is taken."""
    try:
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=BACKLOG)
    except OSError as error:
        key = "smtp.port" if name == "smtp" else "smtp.lmtp_port"
        what = f"cannot listen for {name.upper()} on {host}:{port}: {error.strerror}"
        raise ConfigError([Problem("settings", None, key, what, "stop what holds it or set another port")]) from error
    places = [listening.getsockname()[:2] for listening in server.sockets]
    return Listening(server, tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places))


async def on_socket(sock: socket.socket, factory: Factory) -> Listening:
    """Take connections from a socket that listens already and stays when we are gone."""
    server = await asyncio.get_running_loop().create_server(factory, sock=sock)
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Listening(server, (str(name),))
    return Listening(server, (f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}",))


async def on_path(options: SmtpListener, path: Path, factory: Factory) -> Listening:
    """Listen on a Unix socket. Raises ConfigError when that cannot be, or when another process listens there.

    The socket is made under another name and moved into place once mode and group are right, which also replaces the
    file of a process that was killed.
    """
    made = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if await asyncio.to_thread(_answers, path):
            raise ConfigError([_problem(path, "is in use by another process", "stop that one or set another path")])
        listening.bind(str(made))
        made.chmod(int(options.lmtp_socket_mode, 8))
        if options.lmtp_socket_group:
            os.chown(made, -1, grp.getgrnam(options.lmtp_socket_group).gr_gid)
        inode = made.stat().st_ino
        server = await asyncio.get_running_loop().create_unix_server(factory, sock=listening, backlog=BACKLOG)
        made.rename(path)
    except (OSError, KeyError) as error:
        listening.close()
        made.unlink(missing_ok=True)
        words = error.strerror if isinstance(error, OSError) else f"there is no group {options.lmtp_socket_group!r}"
        hint = "name a folder that Postroom may write to, and a group that it belongs to"
        raise ConfigError([_problem(path, f"cannot be listened on: {words or error}", hint)]) from error
    return Listening(server, (str(path),), path, inode)


def _answers(path: Path) -> bool:
    """Whether somebody takes connections at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _problem(path: Path, what: str, instead: str) -> Problem:
    return Problem(str(path), None, "smtp.lmtp_socket", what, instead)
