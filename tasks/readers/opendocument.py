"""OpenDocument packages that are encrypted (ODF 1.3 part 2 section 3.4, ODF 1.5 draft 3.4.4), opened with a password.

Up to LibreOffice 24.2 each member is encrypted by itself (PBKDF2, AES-CBC); since 24.8 the whole package is one encrypted
member (Argon2id, AES-GCM).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import zipfile
import zlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tasks.errors import Unreadable
from tasks.readers.container import TOO_LARGE, member
from tasks.readers.content import Source
from tasks.readers.locks import OPENED, locked
from tasks.readers.xmlscan import scan

_MANIFEST = "META-INF/manifest.xml"
_EMPTY = b'<manifest xmlns="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
_WHOLE = "encrypted-package"
_READ = ("content.xml", "styles.xml")
"""Members that hold text; only these are opened."""
_MOST_ROUNDS = 2_000_000
_MOST_KIB = 256 << 10
"""What a manifest may ask for to make a key: LibreOffice asks for 100,000 rounds, or for 3 over 64 MiB."""
_CHECKED = 1024
"""Bytes of a packed member that its checksum is of."""
_NONCE_BYTES = 12


class _Odd(Exception):
    """It is encrypted in a way that is not known here."""


@dataclass
class _Lock:
    """What the manifest tells of one encrypted member: the attributes of its elements."""

    told: dict[str, str] = field(default_factory=dict)

    def word(self, name: str) -> str:
        """The last part of a name that may be a URI, in lower case: `aes256-cbc`."""
        value = self.told.get(name, "").lower()
        return value.rpartition("#")[2].rpartition(":")[2]

    def number(self, name: str, default: int, most: int) -> int:
        """A count within bounds. Raises _Odd."""
        value = self.told.get(name, str(default))
        if not value.isascii() or not value.isdigit() or len(value) > 9 or not 0 < int(value) <= most:
            raise _Odd
        return int(value)

    def binary(self, name: str) -> bytes:
        """Bytes that are written in base64. Raises _Odd."""
        try:
            return base64.b64decode(self.told.get(name, ""))
        except (binascii.Error, ValueError):
            raise _Odd from None


def is_locked(data: bytes, room: int) -> bool:
    """Whether a package is encrypted; False for what is none, whose reader says so."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            return b"encryption-data" in member(package, _MANIFEST, room)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, zlib.error):
        return False


def opened(source: Source) -> tuple[bytes, tuple[str, ...]]:
    """A package with what can be read in it, and what a person should know of that.

    Raises:
        Unreadable: none of the passwords fits, or it is damaged or encrypted in a way that is not known.
        zipfile.BadZipFile: its container is damaged.
    """
    room = source.limits.unpacked_bytes
    with zipfile.ZipFile(io.BytesIO(source.data)) as package:
        locks = _locks(member(package, _MANIFEST, room))
        names = [name for name in (_WHOLE, *_READ) if name in locks and name in package.namelist()]
        if not source.passwords or not names:
            raise locked("the document", source)
        members = {name: member(package, name, room) for name in names}
    try:
        for password in source.passwords:
            first = _plain(members[names[0]], locks[names[0]], password, room)
            if first is not None:
                break
        else:
            raise locked("the document", source)
        if names[0] == _WHOLE:
            return _once(first, room), (OPENED,)
        plain = {name: _plain(members[name], locks[name], password, room - len(first)) for name in names[1:]}
    except _Odd:
        raise Unreadable("the document is encrypted in a way that is not supported") from None
    return _rewritten(source, {names[0]: first, **{name: data or b"" for name, data in plain.items()}}), (OPENED,)


def _once(package: bytes, room: int) -> bytes:
    if is_locked(package, room):
        raise Unreadable("the document is encrypted twice")
    return package


def _locks(manifest: bytes) -> dict[str, _Lock]:
    found: dict[str, _Lock] = {}
    path = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal path
        if name == "file-entry":
            path = attributes.get("full-path", "")
        elif name == "encryption-data":
            found[path] = _Lock(dict(attributes))
        elif path in found and name in ("algorithm", "start-key-generation", "key-derivation"):
            size = attributes.pop("key-size", "")
            found[path].told.update(attributes)
            if size and name == "key-derivation":
                found[path].told["key-size"] = size

    scan(manifest, start=start, end=lambda _: None, text=lambda _: None)
    return found


def _plain(data: bytes, lock: _Lock, password: str, room: int) -> bytes | None:
    """A member's own bytes; None when the password is another one. Raises _Odd."""
    packed = _decrypted(data, lock, _key(lock, password))
    if packed is None or packed.startswith(b"PK\x03\x04"):
        return packed
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(packed, room + 1)
    except zlib.error:
        return None
    if len(plain) > room:
        raise Unreadable(TOO_LARGE)
    return plain


def _key(lock: _Lock, password: str) -> bytes:
    """The key of a member. Raises _Odd."""
    hashed = "sha256" if lock.word("start-key-generation-name") == "sha256" else "sha1"
    begin = hashlib.new(hashed, password.encode("utf-8", "surrogatepass")).digest()
    way, salt, size = lock.word("key-derivation-name"), lock.binary("salt"), lock.number("key-size", 16, 32)
    if way == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha1", begin, salt, lock.number("iteration-count", 1024, _MOST_ROUNDS), size)
    if way != "argon2id":
        raise _Odd
    rounds, lanes = lock.number("argon2-iterations", 3, 100), lock.number("argon2-lanes", 4, 64)
    memory = lock.number("argon2-memory", 65536, _MOST_KIB)
    try:
        return Argon2id(salt=salt, length=size, iterations=rounds, lanes=lanes, memory_cost=memory).derive(begin)
    except ValueError:
        raise _Odd from None


def _decrypted(data: bytes, lock: _Lock, key: bytes) -> bytes | None:
    """A member as it was packed; None when the key is another one, or bytes were changed. Raises _Odd."""
    way = lock.word("algorithm-name")
    if len(key) not in (16, 24, 32) or way not in (f"aes{len(key) * 8}-cbc", f"aes{len(key) * 8}-gcm"):
        raise _Odd
    if way.endswith("-gcm"):
        try:
            return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None
    vector = lock.binary("initialisation-vector")
    if len(vector) != 16 or not data or len(data) % 16:
        raise _Odd
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    padded = decryptor.update(data)
    packed = padded[: -padded[-1]] if 0 < padded[-1] <= 16 else b""
    return packed if packed and _fits(packed, lock) else None


def _fits(packed: bytes, lock: _Lock) -> bool:
    """Whether a member has its checksum; one of an unknown kind is no obstacle, since it has to unpack too."""
    kind = lock.word("checksum-type")
    hashed = {"sha256-1k": "sha256", "sha1-1k": "sha1", "sha1/1k": "sha1"}.get(kind)
    return not hashed or hmac.compare_digest(hashlib.new(hashed, packed[:_CHECKED]).digest(), lock.binary("checksum"))


def _rewritten(source: Source, members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for name, data in (("mimetype", source.content_type.encode()), (_MANIFEST, _EMPTY), *members.items()):
            package.writestr(name, data)
    return out.getvalue()
