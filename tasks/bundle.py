"""A backup as one tar file: the ledger, the secret, every blob under its SHA-256, and at the end a manifest.

The manifest comes last, so that a file that was cut off has none and is not taken for a backup.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal

from pydantic import ValidationError

from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.files import replacing
from tasks.models import Noun
from tasks.stores import Store

FORMAT = 1
LEDGER, SECRET, MANIFEST = "ledger", "secret", "manifest.json"
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_PIECE = 1 << 20
_MANIFEST_LIMIT = 64 << 20


class Manifest(Noun):
    """What a backup holds."""

    format: Literal[1]
    made_at: int
    """Milliseconds since the epoch: what was acknowledged before is in it."""
    kind: Literal["sqlite", "postgresql"]
    schema_revision: str
    sha256: dict[str, str]
    """Of the ledger and the secret; a blob's stands in its name."""
    blobs: int
    without: tuple[str, ...] = ()
    """Blobs that the ledger refers to and that were missing or damaged."""


def write(
    path: Path,
    *,
    ledger: Path,
    kind: Literal["sqlite", "postgresql"],
    revision: str,
    begun: int,
    secret: bytes | None,
    blobs: Store,
    digests: Iterable[str],
) -> Manifest:
    """Write the backup; damaged blobs are named in its manifest instead. Raises Permanent or Unavailable."""
    sums: dict[str, str] = {}
    number, without = 0, []
    with replacing(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        with ledger.open("rb") as source:
            sums[LEDGER] = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
            tar.addfile(_member(LEDGER, ledger.stat().st_size), source)
        if secret is not None:
            sums[SECRET] = hashlib.sha256(secret).hexdigest()
            tar.addfile(_member(SECRET, len(secret)), io.BytesIO(secret))
        for digest in digests:
            try:
                data = blobs.get(digest)
            except Permanent:
                without.append(digest)
                continue
            tar.addfile(_member(f"blobs/{digest}", len(data)), io.BytesIO(data))
            number += 1
        manifest = Manifest(
            format=FORMAT,
            made_at=begun,
            kind=kind,
            schema_revision=revision,
            sha256=sums,
            blobs=number,
            without=tuple(without),
        )
        text = manifest.model_dump_json(indent=1).encode()
        tar.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
    return manifest


def check(path: Path) -> Manifest:
    """Read the whole file and compare every checksum. Raises Permanent that names what is wrong."""
    sums: dict[str, str] = {}
    blobs, text = 0, b""
    for name, file in _members(path):
        if name == MANIFEST:
            text = file.read(_MANIFEST_LIMIT)
            continue
        digest = _digest(file, path, name)
        if blob := _BLOB.fullmatch(name):
            blobs += 1
            if digest != blob[1]:
                raise Permanent(f"{path} is damaged: {name} does not have the SHA-256 in its name")
        else:
            sums[name] = digest
    if not text:
        raise Permanent(f"{path} is no whole backup: it ends before its manifest")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise Permanent(f"{path} has a manifest that this version cannot read: {error.errors()[0]['msg']}") from None
    if sums != manifest.sha256 or blobs != manifest.blobs:
        raise Permanent(f"{path} is damaged: what is in it is not what its manifest says")
    return manifest


def unpack(path: Path, ledger: Path, blobs: Store) -> bytes | None:
    """Write the ledger to a file and every blob to the store; the secret. Raises Permanent or Unavailable."""
    secret = None
    for name, file in _members(path):
        if name == LEDGER:
            with ledger.open("wb") as target:
                while piece := file.read(_PIECE):
                    target.write(piece)
        elif name == SECRET:
            secret = file.read()
        elif name != MANIFEST and f"blobs/{blobs.put(file.read())}" != name:
            raise Permanent(f"{path} has changed while it was read: {name}")
    return secret


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and bytes of each; names are ours or the file is refused, so that none can lead elsewhere."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                known = member.name in {LEDGER, SECRET, MANIFEST} or _BLOB.fullmatch(member.name)
                file = tar.extractfile(member) if known and member.isreg() else None
                if file is None:
                    raise Permanent(f"{path} is no backup of Postroom: it holds {member.name!r}")
                yield member.name, file
    except tarfile.TarError as error:
        raise Permanent(f"{path} is no whole backup: {error}") from None
    except OSError as error:
        raise Permanent(f"{path} cannot be read: {error.strerror or error}") from None


def _digest(file: IO[bytes], path: Path, name: str) -> str:
    digest = hashlib.sha256()
    try:
        while piece := file.read(_PIECE):
            digest.update(piece)
    except tarfile.ReadError:
        raise Permanent(f"{path} is no whole backup: it ends within {name}") from None
    return digest.hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, now_ms() // 1000
    return member
