"""Members of a ZIP that are encrypted with AES, as WinZip does it (AE-1 and AE-2, .ZIP APPNOTE method 99)."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zipfile
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

METHOD = 99
_EXTRA = 0x9901
_SALT_BYTES = {1: 8, 2: 12, 3: 16}
_LOCAL = struct.Struct("<26xHH")
"""A local header, of which the lengths of name and extra field count (APPNOTE 4.3.7)."""
_PIECE = 1 << 20
_ITERATIONS = 1_000
_BLOCK = 16
_CHECK_BYTES = 2
_SEAL_BYTES = 10


def member(data: bytes, info: zipfile.ZipInfo, password: bytes, most: int) -> bytes | None:
    """At most `most` bytes of a member of the ZIP file `data`; None when the password is another one.

    Raises zipfile.BadZipFile or zlib.error for a damaged member.
    """
    found = _strength(info)
    head = data[info.header_offset : info.header_offset + _LOCAL.size]
    if found is None or len(head) < _LOCAL.size:
        raise zipfile.BadZipFile(f"{info.filename} is encrypted in a way that is not known")
    strong, method = found
    name_bytes, extra_bytes = _LOCAL.unpack(head)
    begin = info.header_offset + _LOCAL.size + name_bytes + extra_bytes
    packed = _decrypted(data[begin : begin + info.compress_size], strong, password)
    if packed is None or method == zipfile.ZIP_STORED:
        return packed
    if method != zipfile.ZIP_DEFLATED:
        raise zipfile.BadZipFile(f"{info.filename} is packed in a way that is not known (method {method})")
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)


def _strength(info: zipfile.ZipInfo) -> tuple[int, int] | None:
    """Strength (1 to 3) and the compression underneath, from the member's extra field; None when it has none."""
    extra = info.extra
    while len(extra) >= 4:
        number, size = struct.unpack_from("<HH", extra)
        if number == _EXTRA and size >= 7 and len(extra) >= 4 + 7:
            _, _, strong, method = struct.unpack_from("<H2sBH", extra, 4)
            return (strong, method) if strong in _SALT_BYTES else None
        extra = extra[4 + size :]
    return None


def _decrypted(data: bytes, strong: int, password: bytes) -> bytes | None:
    """A member's packed bytes; None when the password is another one, or they were changed."""
    salt_bytes = _SALT_BYTES[strong]
    key_bytes = salt_bytes * 2
    if len(data) < salt_bytes + _CHECK_BYTES + _SEAL_BYTES:
        return None
    salt, check = data[:salt_bytes], data[salt_bytes : salt_bytes + _CHECK_BYTES]
    body, seal = data[salt_bytes + _CHECK_BYTES : -_SEAL_BYTES], data[-_SEAL_BYTES:]
    made = hashlib.pbkdf2_hmac("sha1", password, salt, _ITERATIONS, key_bytes * 2 + _CHECK_BYTES)
    if made[-_CHECK_BYTES:] != check:
        return None
    if not hmac.compare_digest(hmac.digest(made[key_bytes : key_bytes * 2], body, "sha1")[:_SEAL_BYTES], seal):
        return None
    return b"".join(
        _xored(body[start : start + _PIECE], made[:key_bytes], start // _BLOCK) for start in range(0, len(body), _PIECE)
    )


def _xored(piece: bytes, key: bytes, before: int) -> bytes:
    """A piece with its key stream: AES of a counter from 1, lowest byte first, unlike in other uses of CTR."""
    last = before + -(-len(piece) // _BLOCK)
    counters = b"".join(number.to_bytes(_BLOCK, "little") for number in range(before + 1, last + 1))
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # of a counter: that is CTR
    stream = encryptor.update(counters)[: len(piece)]
    return (int.from_bytes(piece, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(piece), "little")
