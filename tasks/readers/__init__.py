"""Bytes to text: mail taken apart, documents of every common format read, each in a sandboxed child process.

A module of this folder that declares `TYPES` and `read` is a format; see docs/reading.md.
"""

from tasks.readers.known import Known
from tasks.readers.limits import Limits
from tasks.readers.sniffing import sniff
from tasks.readers.walk import Piece, read_message, read_pieces

__all__ = ["Known", "Limits", "Piece", "read_message", "read_pieces", "sniff"]
