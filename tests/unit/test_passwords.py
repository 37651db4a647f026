"""Passwords of those who log in."""

from __future__ import annotations

import base64
import hashlib

import pytest

from config.inbound import SmtpListener
from config.passwords import hashed, matches, problem


def scrypt(password: bytes, rounds: int) -> str:
    """A hash in passlib's way of writing, made by the standard library."""
    made = hashlib.scrypt(password, salt=b"\xff\xfe salt", n=1 << rounds, r=8, p=1, maxmem=2**28, dklen=32)
    parts = (base64.b64encode(part).decode().rstrip("=").replace("+", ".") for part in (b"\xff\xfe salt", made))
    return "$".join(["", "scrypt", f"ln={rounds},r=8,p=1", *parts])


@pytest.mark.parametrize(
    "stored", [hashed("grün"), scrypt("grün".encode(), 14), "grün"], ids=["argon2id", "scrypt", "plain"]
)
def test_only_the_right_password_matches(stored: str) -> None:
    """A hash of either kind and a password kept as it is match what was set and nothing else."""
    assert problem(stored) == ""
    assert matches(stored, "grün".encode())
    assert not any(matches(stored, given) for given in (b"", b"gr\xfcn", b"Gr\xc3\xbcn", hashed("grün").encode()))


def test_each_hash_has_its_own_salt() -> None:
    """The same password twice is not to be seen as such."""
    assert hashed("same") != hashed("same")


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ("", "is empty"),
        ("$argon2id$v=19$m=1", "is none"),
        ("$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$" + "a" * 43, "is none"),
        ("$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHRzYWx0$" + "a" * 43, "more than 256 MiB"),
        ("$scrypt$ln=30,r=8,p=1$c2FsdA$" + "a" * 43, "more than 256 MiB"),
    ],
)
def test_a_hash_that_cannot_be_used_is_told(stored: str, words: str) -> None:
    """A broken hash, another kind, and one that would eat the memory stop the start."""
    assert words in problem(stored)
    with pytest.raises(ValueError, match=words):
        SmtpListener(users={"a": stored})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "implicit"}, "needs a certificate"),
        ({"auth_required": True}, "lets nobody in"),
        ({"port": False, "lmtp_port": False}, "all left out"),
        ({"host": "0.0.0.0", "recipients": ["@x.test"], "users": {"a": "b"}}, "nothing is encrypted"),
        ({"lmtp_socket": "/run/x", "lmtp_socket_mode": "rw"}, "lmtp_socket_mode"),
    ],
)
def test_doors_that_make_no_sense(options: dict[str, object], words: str) -> None:
    """Each combination that would not work, or would send passwords in clear, says what to write instead."""
    with pytest.raises(ValueError, match=words):
        SmtpListener(**options)  # type: ignore[arg-type]
