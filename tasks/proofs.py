"""Ways to prove who sent a request: a keyed hash, a token, a certificate told by a proxy.

Every check works on the raw bytes, compares in constant time and takes timestamps within a tolerance, past and future.
Which scheme uses which is the table in tasks/signatures.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from config.signing import PRIVATE, PUBLIC, SECRET, Key, MtlsOptions, decode_key
from tasks.errors import Permanent

MAX_SIGNATURES = 16
"""Signatures looked at in one request: more than rotation needs, few enough to cost nothing."""

_STAMP = re.compile(r"[0-9]{1,12}")
_AMBIGUOUS_ID = re.compile(r"\.[0-9]{9,12}(\.|$)")


class BadSignature(Permanent):
    """The request does not prove who sent it; the message says what is wrong, never what would be right."""


@dataclass(frozen=True)
class Presented:
    """A request as its sender presented it."""

    headers: Mapping[str, str]
    """Lower-case names; a name that came twice holds both values with a comma between (RFC 9110 section 5.3)."""
    body: bytes
    now: float
    """Seconds since the epoch."""
    from_proxy: bool = False
    """The connection came from a configured proxy, so headers that only a proxy may set are believed."""

    def header(self, name: str) -> str:
        """The header's value; raises BadSignature when it is missing."""
        value = self.headers.get(name)
        if not value:
            raise BadSignature(f"header {name} is missing")
        return value


class Proof(Protocol):
    """One way to prove who sent a request."""

    def check(self, request: Presented, secrets: Sequence[str], tolerance: float) -> None:
        """Raise BadSignature unless one of `secrets` proves the request."""

    def sign(self, body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
        """The headers a sender would add."""


@dataclass(frozen=True)
class Mac:
    """A keyed hash over parts of the request (RFC 2104), and ed25519 where `public_prefix` is set."""

    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    public_prefix: str = ""
    separator: str = ""
    signed: tuple[str, ...] = ("{body}",)
    stamp: str = ""
    """Header with the Unix time in seconds; `=t` for a field `t=` of the signature header itself."""
    id: str = ""
    encoded_keys: bool = False
    """Secrets are written as Standard Webhooks writes them."""

    def check(self, request: Presented, secrets: Sequence[str], tolerance: float) -> None:
        """Raise BadSignature unless one signature fits one secret and the timestamp is fresh."""
        given = request.header(self.header)
        items = [item.strip() for item in given.split(self.separator, 64)] if self.separator else [given.strip()]
        names = {"{body}": request.body, "{timestamp}": b"", "{id}": b""}
        if self.stamp:
            stamp = _field(items, self.stamp[1:]) if self.stamp[0] == "=" else request.header(self.stamp)
            _fresh(stamp, tolerance, request.now)
            names["{timestamp}"] = stamp.encode("ascii")
        if self.id:
            name = request.header(self.id)
            if _AMBIGUOUS_ID.search(name):
                raise BadSignature(f"header {self.id} holds a part that could pass for a timestamp")
            names["{id}"] = name.encode("latin-1", "replace")
        parts = [names[part] if part in names else part.encode() for part in self.signed]
        if not self._matches(items, b"".join(parts), secrets):
            raise BadSignature("no signature fits; the secret differs or the body was changed on the way")

    def _matches(self, items: Sequence[str], signed: bytes, secrets: Sequence[str]) -> bool:
        macs = [found for item in items if (found := self._decode(item, self.prefix)) is not None][:MAX_SIGNATURES]
        matched = False
        public: list[Key] = []
        for secret in secrets:
            key = self._key(secret)
            if key.kind == PUBLIC:
                public.append(key)
            if key.kind == SECRET:
                digest = hmac.digest(key.data, signed, self.algorithm)
                for mac in macs:
                    matched |= hmac.compare_digest(mac, digest)
        if matched or not (self.public_prefix and public):
            return matched
        given = [sig for item in items if (sig := self._decode(item, self.public_prefix)) is not None]
        return any(_ed25519_fits(key, sig, signed) for key in public for sig in given[:MAX_SIGNATURES])

    def _key(self, secret: str) -> Key:
        return decode_key(secret) if self.encoded_keys else Key(SECRET, secret.encode())

    def _decode(self, item: str, prefix: str) -> bytes | None:
        if not item.startswith(prefix):
            return None
        text = item[len(prefix) :]
        try:
            return binascii.unhexlify(text) if self.encoding == "hex" else base64.b64decode(text, validate=True)
        except ValueError:
            return None

    def sign(self, body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
        """Every secret signs, so that a receiver may know either of two while rotating."""
        names = {"{body}": body, "{timestamp}": str(now).encode(), "{id}": key.encode("latin-1", "replace")}
        parts = [names[part] if part in names else part.encode() for part in self.signed]
        items = [self._signature(self._key(secret), b"".join(parts)) for secret in secrets]
        headers = {self.id: key} if self.id else {}
        if self.stamp and self.stamp[0] == "=":
            items.insert(0, f"{self.stamp[1:]}={now}")
        elif self.stamp:
            headers[self.stamp] = str(now)
        if items:
            headers[self.header] = self.separator.join(items) if self.separator else items[0]
        return headers

    def _signature(self, key: Key, signed: bytes) -> str:
        if key.kind == PRIVATE:
            made = Ed25519PrivateKey.from_private_bytes(key.data).sign(signed)
            return self.public_prefix + base64.b64encode(made).decode()
        digest = hmac.digest(key.data, signed, self.algorithm)
        return self.prefix + (digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode())


@dataclass(frozen=True)
class Token:
    """The secret itself, sent with every request; `auth` names the HTTP authentication scheme around it."""

    header: str = "authorization"
    auth: str = ""

    def check(self, request: Presented, secrets: Sequence[str], tolerance: float) -> None:
        """Raise BadSignature unless the header carries one of `secrets`. `tolerance` has no meaning here."""
        value = request.header(self.header).strip()
        if self.auth:
            auth, _, value = value.partition(" ")
            if auth.lower() != self.auth:
                raise BadSignature(f"header {self.header} is not of the form {self.auth.title()} ...")
            value = value.strip()
        if not _one_of(self._decoded(value), [secret.encode() for secret in secrets]):
            raise BadSignature("the secret differs")

    def _decoded(self, value: str) -> bytes:
        if self.auth != "basic":
            return value.encode("latin-1", "replace")
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise BadSignature("the Basic credentials are not base64") from None

    def sign(self, body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
        """The first secret is sent; the other arguments have no meaning here."""
        value = base64.b64encode(secrets[0].encode()).decode() if self.auth == "basic" else secrets[0]
        return {self.header: f"{self.auth.title()} {value}" if self.auth else value}


@dataclass(frozen=True)
class Certificate:
    """What a proxy tells about the client's certificate; `secrets` are SHA-256 fingerprints or subjects."""

    options: MtlsOptions

    def check(self, request: Presented, secrets: Sequence[str], tolerance: float) -> None:
        """Raise BadSignature unless a trusted proxy tells one of `secrets`. `tolerance` has no meaning here."""
        if not request.from_proxy:
            raise BadSignature("the request did not come through the proxy that checks certificates")
        if self.options.verified_header:
            told = request.header(self.options.verified_header)
            if told != self.options.verified_value:
                raise BadSignature("the proxy did not verify the client's certificate")
        told = certificate_name(request.header(self.options.header))
        if not _one_of(told.encode(), [certificate_name(secret).encode() for secret in secrets]):
            raise BadSignature("this certificate may not post here")

    def sign(self, body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
        """What the proxy would say of the first of `secrets`."""
        told = {self.options.header: secrets[0]}
        if self.options.verified_header:
            told[self.options.verified_header] = self.options.verified_value
        return told


@dataclass(frozen=True)
class Nothing:
    """Scheme `none`: anybody may post."""

    def check(self, request: Presented, secrets: Sequence[str], tolerance: float) -> None:
        """Let everything pass; `postroom check` warns about it."""

    def sign(self, body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
        """Nothing to add."""
        return {}


def certificate_name(value: str) -> str:
    """One name for a certificate: SHA-256 fingerprint in hex when `value` is one or is the certificate itself.

    Reads RFC 9440's `:base64 DER:`, nginx's escaped PEM and fingerprints with or without colons; any other text
    (a subject) stays as it is.
    """
    text = value.strip()
    try:
        if len(text) > 2 and text[0] == text[-1] == ":":
            return hashlib.sha256(base64.b64decode(text[1:-1], validate=True)).hexdigest()
        if text.startswith("-----BEGIN"):
            pem = unquote_to_bytes(text).split(b"-----")[2]
            return hashlib.sha256(base64.b64decode(b"".join(pem.split()), validate=True)).hexdigest()
    except (ValueError, IndexError):
        return text
    bare = text.replace(":", "").lower()
    return bare if re.fullmatch(r"[0-9a-f]{64}", bare) else text


def _field(items: Sequence[str], name: str) -> str:
    for item in items:
        if item.startswith(f"{name}="):
            return item[len(name) + 1 :]
    raise BadSignature(f"the signature header has no {name}= in it")


def _fresh(stamp: str, tolerance: float, now: float) -> None:
    if not _STAMP.fullmatch(stamp):
        raise BadSignature("the timestamp is no number of seconds")
    age = now - int(stamp)
    if age > tolerance:
        raise BadSignature("the timestamp is too old; is this a replay, or is a clock wrong?")
    if age < -tolerance:
        raise BadSignature("the timestamp lies in the future; a clock is wrong")


def _ed25519_fits(key: Key, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.data).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _one_of(given: bytes, wanted: Sequence[bytes]) -> bool:
    """Compare with all of `wanted`, in a time that tells neither content nor length."""
    seen = hashlib.sha256(given).digest()
    found = False
    for value in wanted:
        found |= hmac.compare_digest(seen, hashlib.sha256(value).digest())
    return found
