"""Passwords that others log in with: written as a hash where possible, compared in constant time.

| written as | made by |
|---|---|
| `$argon2id$v=19$m=...,t=...,p=...$salt$hash` | `postroom hash-password`, or any program that writes PHC strings (RFC 9106) |
| `$scrypt$ln=...,r=...,p=...$salt$hash` | passlib and others (RFC 7914) |
| anything else | the password itself: for systemd credentials, which are encrypted where they lie |
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 19_456
ITERATIONS = 2
"""What OWASP's password storage sheet asks of Argon2id at least, with one lane."""
MOST_MEMORY = 256 * 1024 * 1024
"""Bytes that one comparison may use; a hash that wants more is refused when the configuration is read."""

_ARGON2 = re.compile(r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}")
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/.]*)\$([A-Za-z0-9+/.]{16,})")


def hashed(password: str) -> str:
    """The Argon2id hash of a password, with a fresh salt, as a PHC string."""
    kdf = Argon2id(salt=secrets.token_bytes(16), length=32, iterations=ITERATIONS, lanes=1, memory_cost=MEMORY_KIB)
    return kdf.derive_phc_encoded(password.encode())


def problem(stored: str) -> str:
    """What is wrong with a stored password, in words; empty when it can be used."""
    if not stored:
        return "is empty"
    if stored.startswith("$argon2"):
        found = _ARGON2.fullmatch(stored)
        too_much = found is not None and int(found[1]) * 1024 > MOST_MEMORY
    elif stored.startswith("$scrypt$"):
        found = _SCRYPT.fullmatch(stored)
        too_much = found is not None and _scrypt_memory(found) > MOST_MEMORY
    else:
        return ""
    if found is None:
        return "looks like a hash but is none; make one with `postroom hash-password`"
    return f"needs more than {MOST_MEMORY >> 20} MiB for each comparison" if too_much else ""


def matches(stored: str, given: bytes) -> bool:
    """Whether `given` is the password that `stored` stands for. Takes some 20 ms and some 20 MB for a hash."""
    if stored.startswith("$argon2id$"):
        try:
            Argon2id.verify_phc_encoded(given, stored)
        except InvalidKey:
            return False
        return True
    if found := _SCRYPT.fullmatch(stored):
        return _scrypt_matches(found, given)
    return hmac.compare_digest(stored.encode(), given)


def _scrypt_memory(found: re.Match[str]) -> int:
    return int(128 * int(found[2]) * 2.0 ** int(found[1]))


def _scrypt_matches(found: re.Match[str], given: bytes) -> bool:
    wanted = _bytes(found[5])
    made = hashlib.scrypt(
        given,
        salt=_bytes(found[4]),
        n=1 << int(found[1]),
        r=int(found[2]),
        p=int(found[3]),
        maxmem=_scrypt_memory(found) * 2 + 1_048_576,
        dklen=len(wanted),
    )
    return hmac.compare_digest(made, wanted)


def _bytes(text: str) -> bytes:
    """Base64 without padding; passlib writes `.` for `+`."""
    try:
        return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""
