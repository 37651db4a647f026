"""How client, server and child talk: a JSON header with the sizes of the byte strings that follow it.

No pickle: a child that was taken over must not be able to run anything in the worker.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

_PREFIX = struct.Struct(">I")
_LARGEST_HEADER = 64 << 20
_CHUNK = 1 << 20


class WireError(Exception):
    """The other side closed early, or sent what is no message."""


def send(channel: socket.socket, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send one message; raises OSError when the other side is gone."""
    head = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode("utf-8", "replace")
    channel.sendall(_PREFIX.pack(len(head)) + head)
    for blob in blobs:
        channel.sendall(blob)


def receive(channel: socket.socket, *, most: int) -> tuple[dict[str, Any], list[bytes]]:
    """Receive one message whose byte strings come to at most `most` bytes.

    Raises:
        WireError: the message is cut short, too long or no JSON.
        TimeoutError: the socket's timeout passed.
    """
    (length,) = _PREFIX.unpack(_exactly(channel, _PREFIX.size))
    if length > _LARGEST_HEADER:
        raise WireError("a header is too long")
    try:
        header = json.loads(_exactly(channel, length))
        sizes = [int(size) for size in header.pop("blobs")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError("a header is no message") from error
    if min(sizes, default=0) < 0 or sum(sizes) > most:
        raise WireError("more bytes than allowed")
    return header, [_exactly(channel, size) for size in sizes]


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(_CHUNK, size - len(data)))
        if not piece:
            raise WireError("closed early")
        data += piece
    return bytes(data)
