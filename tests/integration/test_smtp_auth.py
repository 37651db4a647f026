"""Logging in at the SMTP door and TLS from the first byte, over real sockets."""

from __future__ import annotations

import base64
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.passwords import hashed
from daemon.listeners import smtp_auth, smtp_guards
from daemon.listeners.smtp import run
from tests.integration.doors import Dialog, Door, opened, until
from tests.integration.test_smtp_in import MAIL, certificate

SCRYPT = "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0$" + "{}"


def _scrypt(password: str) -> str:
    """A hash as passlib writes it, made by the standard library."""
    made = hashlib.scrypt(password.encode(), salt=b"saltsaltsalt", n=1 << 14, r=8, p=1, maxmem=2**26, dklen=32)
    return SCRYPT.format(base64.b64encode(made).decode().rstrip("="))


USERS = {"scanner": hashed("paper jam"), "old": _scrypt("ink"), "device": "plain words"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed login is answered without the delay that is meant for those who guess."""
    monkeypatch.setattr(smtp_auth, "DELAY", 0.01)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    options: dict[str, Any] = {"port": 0, "lmtp_port": 0, "users": USERS, "auth_required": True}
    options["lmtp_socket"] = tmp_path / "lmtp.sock"
    with opened(run, tmp_path, lines=3, smtp=options) as door:
        yield door


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def greeted(door: Door) -> Dialog:
    dialog = Dialog(door.address("smtp"))
    dialog.reply()
    dialog.say("EHLO client.test")
    return dialog


@pytest.mark.parametrize(("user", "password"), [("scanner", "paper jam"), ("old", "ink"), ("device", "plain words")])
@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_login(door: Door, user: str, password: str, mechanism: str) -> None:
    """Argon2id hashes, scrypt hashes and plain credentials let their user in, by PLAIN and by LOGIN."""
    with smtplib.SMTP(*door.address("smtp"), timeout=20) as client:
        client.ehlo()
        assert client.has_extn("auth")
        client.user, client.password = user, password
        code, _ = client.auth(mechanism.removeprefix("auth_").upper(), getattr(client, mechanism))
        assert code == 235
        client.sendmail("a@x.test", ["support@y.test"], MAIL)
    assert door.jobs() == 1


@pytest.mark.parametrize(
    ("user", "password"),
    [("scanner", "wrong"), ("scanner", ""), ("scanner", USERS["scanner"]), ("nobody", "paper jam"), ("old", "Ink")],
    ids=["wrong", "empty", "the hash itself", "nobody", "capital"],  # a hash is another one in each process
)
def test_wrong_password(door: Door, user: str, password: str) -> None:
    """A wrong password, an unknown user and the hash itself are 535, and no mail is taken afterwards."""
    with greeted(door) as dialog:
        assert dialog.say(plain(user, password)).startswith("535 5.7.8")
        assert dialog.say("MAIL FROM:<a@x.test>").startswith("530 5.7.0")


def test_required_over_tcp_only(door: Door) -> None:
    """Without a login MAIL is 530 at both ports; a Unix socket is guarded by its access rights instead."""
    for name, hello in (("smtp", "EHLO"), ("lmtp", "LHLO")):
        with Dialog(door.address(name)) as dialog:
            dialog.reply()
            dialog.say(f"{hello} client.test")
            assert dialog.say("MAIL FROM:<a@x.test>").startswith("530 5.7.0")
    path = next(line for line in door.lines if line.endswith(".sock")).removeprefix("lmtp on ")
    with smtplib.LMTP(path) as client:
        assert client.sendmail("a@x.test", ["support@y.test"], MAIL) == {}
    assert door.jobs() == 1


def test_guessing_is_throttled(door: Door) -> None:
    """After five failures from an address not even the right password is looked at for ten minutes."""
    for _ in range(5):
        with greeted(door) as dialog:
            assert dialog.say(plain("scanner", "guess")).startswith("535")
    with greeted(door) as dialog:
        assert dialog.say(plain("scanner", "paper jam")).startswith("454 4.7.0 too many failed logins")


def test_throttle_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are forgotten once the window is over."""
    monkeypatch.setattr(smtp_auth, "WINDOW", 0.5)
    with greeted(door) as dialog:
        for _ in range(5):
            dialog.say(plain("device", "guess"))
        until(lambda: dialog.say(plain("device", "plain words")).startswith("235"))


@pytest.mark.parametrize("line", ["AUTH", "AUTH CRAM-MD5", "AUTH PLAIN !!!", "AUTH PLAIN AAAA", "AUTH PLAIN a b c"])
def test_malformed_login(door: Door, line: str) -> None:
    """Nonsense is 5xx, and the conversation goes on."""
    with greeted(door) as dialog:
        assert dialog.say(line).startswith("5")
        assert dialog.say("auth plain " + plain("device", "plain words").split()[2]).startswith("235")


def test_cancelled_login(door: Door) -> None:
    """A client may give up half way (RFC 4954 section 4)."""
    with greeted(door) as dialog:
        assert dialog.say("AUTH LOGIN").startswith("334")
        assert dialog.say("*").startswith("501")
        assert dialog.say("NOOP").startswith("250")


def test_no_password_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is not on this machine is offered AUTH after STARTTLS only."""
    monkeypatch.setattr(smtp_guards, "is_loopback", lambda _: False)
    chain, key = certificate(tmp_path)
    options = {"port": 0, "lmtp_port": False, "users": USERS, "tls_cert": chain, "tls_key": key}
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        with greeted(door) as dialog:
            assert "AUTH" not in dialog.say("EHLO client.test")
            assert dialog.say(plain("device", "plain words")).startswith("538 5.7.11")
        with smtplib.SMTP("localhost", door.address("smtp")[1], timeout=20) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(chain)))
            client.login("device", "plain words")
            client.sendmail("a@x.test", ["support@y.test"], MAIL)
        assert door.jobs() == 1


@pytest.fixture
def implicit(tmp_path: Path) -> Iterator[tuple[Door, ssl.SSLContext]]:
    chain, key = certificate(tmp_path)
    options = {"port": 0, "lmtp_port": 0, "tls": "implicit", "tls_cert": chain, "tls_key": key, "users": USERS}
    with opened(run, tmp_path, lines=2, smtp={**options, "max_connections": 3}) as door:
        yield door, ssl.create_default_context(cafile=str(chain))


def test_implicit_tls(implicit: tuple[Door, ssl.SSLContext]) -> None:
    """The SMTP port speaks TLS from the first byte, logs in, and takes a mail of many records; LMTP stays as it was."""
    door, context = implicit
    mail = MAIL + b"y" * 70 + b"\r\n" * 100_000
    with smtplib.SMTP_SSL("localhost", door.address("smtp")[1], timeout=20, context=context) as client:
        client.ehlo()
        assert client.has_extn("auth")
        assert not client.has_extn("starttls")
        client.login("scanner", "paper jam")
        client.sendmail("a@x.test", ["support@y.test"], mail)
    assert door.intake.seen[0][1] == mail
    with smtplib.LMTP(*door.address("lmtp"), timeout=20) as lmtp:
        assert lmtp.sendmail("a@x.test", ["support@y.test"], MAIL) == {}


def test_implicit_tls_and_clear_text(implicit: tuple[Door, ssl.SSLContext]) -> None:
    """Who speaks in clear there is closed without a word, and who says nothing counts as a connection."""
    door, context = implicit
    port = door.address("smtp")[1]
    with Dialog(door.address("smtp")) as dialog:
        dialog.send(b"EHLO client.test\r\n" * 20)
        assert b"220" not in _until_closed(dialog.socket)
    until(lambda: _can_talk(port, context))
    silent = [socket.create_connection(door.address("smtp")) for _ in range(3)]
    until(lambda: not _can_talk(port, context))
    for one in silent:
        one.close()
    until(lambda: _can_talk(port, context))


def _until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while piece := connection.recv(4096):
            found += piece
    except ConnectionError:
        pass
    return found


def _can_talk(port: int, context: ssl.SSLContext) -> bool:
    try:
        with smtplib.SMTP_SSL("localhost", port, timeout=20, context=context) as client:
            return client.noop()[0] == 250
    except (ssl.SSLError, OSError, smtplib.SMTPException):
        return False
