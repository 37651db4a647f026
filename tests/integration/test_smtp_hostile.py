"""The SMTP door against crowds, lists without end and clients that are slow on purpose, over real sockets."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from config.inbound import SmtpListener
from daemon.listeners import smtp_guards
from daemon.listeners.smtp import Door as Handler
from daemon.listeners.smtp import run
from daemon.listeners.smtp_guards import place_of
from tests.integration.doors import Dialog, opened, until
from tests.integration.test_smtp_in import MAIL, begun, sent

LOOPBACK = {"port": 0, "lmtp_port": False}


def _memory() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_capabilities(tmp_path: Path) -> None:
    """EHLO says what is understood: SIZE, 8BITMIME, SMTPUTF8, PIPELINING; and BODY=8BITMIME is taken."""
    with opened(run, tmp_path, lines=1, smtp=LOOPBACK) as door, Dialog(door.address("smtp")) as dialog:
        dialog.reply()
        said = {line[4:] for line in dialog.say("EHLO client.test").splitlines()}
        assert {"SIZE 33554432", "8BITMIME", "SMTPUTF8", "PIPELINING"} <= said
        assert not any(line.startswith(("AUTH", "STARTTLS")) for line in said)
        assert dialog.say("MAIL FROM:<a@x.test> BODY=8BITMIME SIZE=1000 SMTPUTF8").startswith("250")


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("inbox@y.test", True),
        ("inbox+invoices@y.test", True),
        ("INBOX+a+b@Y.test", True),
        ("invoices+inbox@y.test", False),
        ("inboxes@y.test", False),
        ("+inbox@y.test", False),
        ("inbox+x@elsewhere.test", False),
        ("anybody+x@team.test", True),
        ("exact+only@y.test", True),
        ("exact@y.test", False),
        ("exact+other@y.test", False),
    ],
)
def test_details(tmp_path: Path, address: str, taken: bool) -> None:
    """`inbox+invoices@` is accepted where `inbox@` is listed, and the envelope keeps the detail."""
    options = {**LOOPBACK, "recipients": ["inbox@y.test", "@team.test", "exact+only@y.test"]}
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        with Dialog(door.address("smtp")) as dialog:
            dialog.reply()
            dialog.say("EHLO client.test")
            dialog.say("MAIL FROM:<a@x.test>")
            assert dialog.say(f"RCPT TO:<{address}>")[:9] == ("250 2.1.5" if taken else "550 5.1.1")
        if taken:
            sent_to = begun(door, address)
            sent_to.send(MAIL + b".\r\n")
            sent_to.reply()
            assert door.intake.seen[0][0].recipients == (address,)


def test_no_relay() -> None:
    """Tricks of old relays, the percent hack and bang paths, are no addresses on the list."""
    handler = Handler("smtp", None, SmtpListener(recipients=("@y.test",)))  # type: ignore[arg-type]
    assert not any(
        handler.wants(address)
        for address in ("a%y.test@x.test", "y.test!a@x.test", "a@y.test@x.test", "a@y.test.", "a", "@", "y.test")
    )
    assert handler.wants("a@y.test")


def test_three_thousand_recipients(tmp_path: Path) -> None:
    """3,000 recipients in one packet: a hundred are taken, each of the others is put off, and the mail is one job."""
    before = _memory()
    with opened(run, tmp_path, lines=1, smtp=LOOPBACK) as door, Dialog(door.address("smtp"), 60) as dialog:
        dialog.reply()
        dialog.say("EHLO client.test")
        dialog.say("MAIL FROM:<a@x.test>")
        dialog.send(b"".join(b"RCPT TO:<r%d@y.test>\r\n" % number for number in range(3_000)))
        replies = Counter(dialog.reply()[:9] for _ in range(3_000))
        assert replies == {"250 2.1.5": 100, "452 4.5.3": 2_900}
        assert dialog.say("DATA").startswith("354")
        dialog.send(MAIL + b".\r\n")
        assert dialog.reply().startswith("250")
        assert len(door.intake.seen[0][0].recipients) == 100
    assert _memory() - before < 60_000_000


def test_one_address_cannot_have_all_connections(tmp_path: Path) -> None:
    """Beyond the cap of its address a client is told 421, while others get in; one that leaves makes room."""
    with opened(run, tmp_path, lines=1, smtp={**LOOPBACK, "max_connections_per_address": 2}) as door:
        address = door.address("smtp")
        with Dialog(address) as one, Dialog(address) as two:
            assert [one.reply()[:3], two.reply()[:3]] == ["220", "220"]
            with Dialog(address) as three:
                assert three.reply() == "421 4.7.0 too many connections from your address, try again later"
                assert three.reply() == ""
            with socket.create_connection(address, 20, source_address=("127.0.0.2", 0)) as other:
                assert other.recv(4).startswith(b"220")
            one.say("QUIT")

        def lets_in() -> bool:
            with Dialog(address) as dialog:
                return dialog.reply().startswith("220")

        until(lets_in)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_places(address: str, place: str) -> None:
    """An IPv6 client counts by its /64, of which one host has all."""
    assert place_of(address) == place


def test_two_thousand_connections(tmp_path: Path) -> None:
    """2,000 connections at once: a hundred are greeted, each other one is told 421 and closed; memory stays flat."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6_000:
        pytest.skip("needs 6,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 6_000), hard))
    before = _memory()
    options = {**LOOPBACK, "max_connections": 100, "max_connections_per_address": 0}
    try:
        with opened(run, tmp_path, lines=1, smtp=options) as door:
            with contextlib.ExitStack() as crowd:
                greetings = _greetings([crowd.enter_context(_dialled(door.address("smtp"))) for _ in range(2_000)])
                assert greetings == {b"220": 100, b"421": 1_900}
            until(lambda: sent(door, MAIL).startswith("250"), 30)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _memory() - before < 60_000_000


def _dialled(address: tuple[str, int]) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(address)
    return connection


def _greetings(connections: list[socket.socket], seconds: float = 60) -> Counter[bytes]:
    """The first three bytes that each connection reads."""
    found: Counter[bytes] = Counter()
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                found[key.fileobj.recv(3)] += 1
                selector.unregister(key.fileobj)
    return found


def test_message_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused message that goes on and on is cut off, so that nobody holds a connection by sending for ever."""
    monkeypatch.setattr(smtp_guards, "FLOOD", 3_000_000)
    with opened(run, tmp_path, lines=1, smtp={**LOOPBACK, "max_size": 10_000}) as door:
        with begun(door) as dialog, pytest.raises(ConnectionError):
            dialog.send(b"x" * 100_000_000)
        assert sent(door, MAIL).startswith("250")
    assert door.intake.seen[0][1] == MAIL


def test_slow_client_gets_through(tmp_path: Path) -> None:
    """A slow line is no attack: what keeps to 64 KiB per timeout is taken, however long it takes in all."""
    options = {**LOOPBACK, "timeout": 3}
    body = b"Subject: slow\r\n\r\n" + (b"y" * 98 + b"\r\n") * 3_000
    with opened(run, tmp_path, lines=1, smtp=options) as door, begun(door) as dialog:
        begin = time.monotonic()
        for start in range(0, len(body), 75_000):
            dialog.send(body[start : start + 75_000])
            time.sleep(1)
        dialog.send(b".\r\n")
        assert dialog.reply().startswith("250")
        assert time.monotonic() - begin > 3
    assert door.intake.seen[0][1] == body
