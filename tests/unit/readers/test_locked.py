"""Documents that need a password: told as such in the same words, and opened where one of the route's fits."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
import zlib

import msoffcrypto  # type: ignore[import-untyped]  # has no py.typed
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tasks.errors import Unreadable
from tasks.models import LOCKED
from tasks.readers.limits import Limits
from tests.integration.readers import samples
from tests.integration.readers.fixtures import ODS_AES, ODT_AES, ZIP_AES, ZIP_CRYPTO
from tests.unit.readers.test_formats import read


def office(data: bytes, password: str) -> bytes:
    """An Office document, encrypted as Office does it now (ECMA-376 agile)."""
    out = io.BytesIO()
    msoffcrypto.OfficeFile(io.BytesIO(data)).encrypt(password, out)
    return out.getvalue()


CONTENT = b"<office:text xmlns:office='o' xmlns:text='t'><text:p>Secret offer 4711</text:p></office:text>"
OPEN_TEXT = samples.zipped({"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": CONTENT})
ARGON = 'argon2-iterations="1" loext:argon2-memory="64" loext:argon2-lanes="1"'


def whole(package: bytes, password: str, argon: str = ARGON) -> bytes:
    """A package encrypted in one piece, as LibreOffice does it since 24.8."""
    begin = hashlib.sha256(password.encode()).digest()
    key = Argon2id(salt=b"s" * 16, length=32, iterations=1, lanes=1, memory_cost=64).derive(begin)
    sealed = b"n" * 12 + AESGCM(key).encrypt(b"n" * 12, package, None)
    return _package(
        "encrypted-package",
        sealed,
        f"""
        <m:algorithm m:algorithm-name="http://www.w3.org/2009/xmlenc11#aes256-gcm" m:initialisation-vector="{"bm5u" * 4}"/>
        <m:start-key-generation m:start-key-generation-name="http://www.w3.org/2001/04/xmlenc#sha256" m:key-size="32"/>
        <m:key-derivation m:key-derivation-name="urn:org:documentfoundation:names:experimental:office:manifest:argon2id"
          m:key-size="32" loext:{argon} m:salt="{base64.b64encode(b"s" * 16).decode()}"/>""",
    )


def member(content: bytes, password: str, rounds: int = 1024, way: str = "aes128-cbc") -> bytes:
    """A package whose text is encrypted with what OpenDocument 1.2 takes for granted: SHA-1, keys of 16 bytes."""
    key = hashlib.pbkdf2_hmac("sha1", hashlib.sha1(password.encode()).digest(), b"salt", 1024, 16)
    packed = zlib.compress(content, wbits=-15)
    filled = packed + b"?" * (15 - len(packed) % 16) + bytes([16 - len(packed) % 16])
    encryptor = Cipher(algorithms.AES(key), modes.CBC(b"v" * 16)).encryptor()
    return _package(
        "content.xml",
        encryptor.update(filled),
        f"""
        <m:algorithm m:algorithm-name="http://www.w3.org/2001/04/xmlenc#{way}"
          m:initialisation-vector="{base64.b64encode(b"v" * 16).decode()}"/>
        <m:key-derivation m:key-derivation-name="PBKDF2" m:iteration-count="{rounds}" m:salt="c2FsdA=="/>""",
    )


def _package(name: str, data: bytes, told: str) -> bytes:
    manifest = f"""<m:manifest xmlns:m="m" xmlns:loext="l"><m:file-entry m:full-path="{name}">
        <m:encryption-data>{told}</m:encryption-data></m:file-entry></m:manifest>"""
    kind = b"application/vnd.oasis.opendocument.text"
    return samples.zipped(
        {"mimetype": kind, name: data, "META-INF/manifest.xml": manifest.encode()}, zipfile.ZIP_STORED
    )


LOCKED_FILES = [
    pytest.param(lambda: samples.pdf("secret words", password="open sesame"), id="pdf"),
    pytest.param(lambda: office(samples.word(), "open sesame"), id="docx"),
    pytest.param(lambda: ZIP_AES, id="zip"),
    pytest.param(lambda: ODT_AES, id="odt"),
    pytest.param(lambda: ODS_AES, id="ods"),
    pytest.param(lambda: whole(OPEN_TEXT, "open sesame"), id="odt as a whole"),
]


@pytest.mark.parametrize("make", LOCKED_FILES)
def test_each_is_told_in_the_same_words(make: object) -> None:
    """Without a password and with wrong ones; the reason names no password."""
    data = make()  # type: ignore[operator]
    with pytest.raises(Unreadable, match=LOCKED) as without:
        read(data)
    assert without.value.locked
    with pytest.raises(Unreadable, match=f"{LOCKED}, and none of those of its route fits") as wrong:
        read(data, passwords=("hunter2", "hunter3"))
    assert wrong.value.locked
    assert "hunter" not in wrong.value.reason


def test_pdf_opens() -> None:
    """Text by the one library, embedded files by the other: both get the password."""
    content = read(samples.pdf("secret words", password="open sesame"), passwords=("wrong", "open sesame"))
    assert "secret words" in content.text
    assert content.notes == ("opened with one of the route's passwords",)


def test_office_documents_open_and_are_what_they_are() -> None:
    """DOCX and XLSX come out of their container with their own type; the note does not name the password."""
    content = read(office(samples.word(), "open sesame"), passwords=("wrong", "open sesame"))
    assert content.content_type == "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert "Contract number 4711" in content.text
    assert content.notes[0] == "opened with one of the route's passwords"
    assert "Sheet: Orders" in read(office(samples.workbook(), "x"), passwords=("x",)).text


def test_opendocument_opens() -> None:
    """Text and sheets, each member by itself, as LibreOffice writes it and by the standard's defaults; and as a whole."""
    content = read(ODT_AES, passwords=("wrong", "Grüße 7"))
    assert content.text.splitlines() == ["Offer 4711 for Harbour Lamps", "Bolt\t12", "Nut\t7,50", "Grüße"]
    assert content.notes == ("opened with one of the route's passwords",)
    assert read(ODS_AES, passwords=("wrong", "open sesame")).text.endswith("Bolt\t12.5")
    assert read(member(CONTENT, "x"), passwords=("y", "x")).text == "Secret offer 4711"
    assert read(whole(OPEN_TEXT, "x"), passwords=("y", "x")).text == "Secret offer 4711"


@pytest.mark.parametrize(
    "made",
    [
        member(CONTENT, "x", rounds=999_999_999),
        member(CONTENT, "x", way="blowfish-cfb"),
        whole(OPEN_TEXT, "x", ARGON.replace("64", "64000000")),
        whole(OPEN_TEXT, "x", ARGON.replace("1", "one")),
    ],
)
def test_opendocument_that_asks_for_too_much_is_told(made: bytes) -> None:
    """Nobody makes a child count to a thousand million for a key, or takes its memory."""
    with pytest.raises(Unreadable, match="encrypted in a way that is not supported"):
        read(made, passwords=("x",))


def test_opendocument_that_unpacks_to_too_much_is_told() -> None:
    """The budget holds for what was encrypted too; a package within a package is opened once."""
    with pytest.raises(Unreadable, match="larger than allowed"):
        read(member(CONTENT + b" " * 3_000_000, "x"), passwords=("x",), limits=Limits(unpacked_bytes=1_000_000))
    with pytest.raises(Unreadable, match="encrypted twice"):
        read(whole(whole(OPEN_TEXT, "x"), "x"), passwords=("x",))


def test_a_workbook_that_excel_opens_by_itself_opens() -> None:
    """What Excel encrypts only against changes needs no password of a route, and no note."""
    content = read(office(samples.workbook(), "VelvetSweatshop"))
    assert "Bolt\t12\t0.5" in content.text
    assert not any("password" in note for note in content.notes)


def test_zip_with_aes_opens() -> None:
    """AE-1 and AE-2, 128 and 256 bits, stored and deflated."""
    content = read(ZIP_AES, passwords=("wrong", "Grüße 7"))
    assert {child.name: child.data.decode() for child in content.children} == {
        "offer.txt": "The offer is 4711 EUR. " * 3,
        "terms.txt": "Payment within 30 days.",
    }
    assert not content.locked


def test_zip_with_a_changed_member_does_not_open() -> None:
    """What does not carry its seal is not taken for text."""
    place = ZIP_AES.index(b"offer.txt") + 9 + 11 + 20
    changed = ZIP_AES[:place] + bytes([ZIP_AES[place] ^ 1]) + ZIP_AES[place + 1 :]
    content = read(changed, passwords=("Grüße 7",))
    assert [(child.name, child.locked) for child in content.children] == [("offer.txt", True), ("terms.txt", False)]
    assert content.locked


def test_zip_with_some_members_locked() -> None:
    """What is open is read, and what is not is told; with the password all of it is read."""
    without = read(ZIP_CRYPTO)
    assert [(child.name, child.locked) for child in without.children] == [("open.txt", False), ("offer.txt", True)]
    assert without.locked
    assert "1 members open only with a password" in without.notes
    assert "offer.txt (needs a password)" in without.text
    opened = read(ZIP_CRYPTO, passwords=("wrong", "sesame"))
    assert [child.data for child in opened.children] == [b"Anybody may read this.", b"The offer is 4711 EUR."]
    assert not opened.locked
