"""The SMTP door, with real sockets and a real ledger."""

from __future__ import annotations

import datetime
import fcntl
import resource
import smtplib
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.errors import ConfigError
from config.settings import Settings
from daemon.listeners.smtp import run
from tasks.models import Kind
from tests.integration.doors import LEDGER_DOWN, Dialog, Door, opened, until

MAIL = b"From: a@x.test\r\nTo: support@y.test\r\nMessage-ID: <1@x.test>\r\nSubject: hello\r\n\r\nDear team\r\n"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with opened(run, tmp_path, lines=1, smtp={"port": 0, "lmtp_port": None}) as door:
        yield door


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Door]:
    options: dict[str, Any] = {
        "port": 0,
        "lmtp_port": None,
        "recipients": ["support@y.test", "@team.test"],
        "max_size": 200_000,
        "max_line": 5_000,
        "max_recipients": 3,
        "max_connections": 2,
        "max_memory": 1_048_576,
        "timeout": 2,
    }
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        yield door


def begun(door: Door, *recipients: str) -> Dialog:
    """A conversation that has come as far as 354."""
    dialog = Dialog(door.address("smtp"))
    assert dialog.reply().startswith("220 ")
    assert dialog.say("EHLO client.test").startswith("250")
    assert dialog.say("MAIL FROM:<a@x.test>").startswith("250")
    for recipient in recipients or ("support@y.test",):
        assert dialog.say(f"RCPT TO:<{recipient}>").startswith("250")
    assert dialog.say("DATA").startswith("354")
    return dialog


def sent(door: Door, content: bytes) -> str:
    """The reply to a message that is sent as it stands, with the final dot in the same packet."""
    with begun(door) as dialog:
        dialog.send(content + b".\r\n")
        return dialog.reply()


def test_250_names_the_job_and_comes_after_the_commit(door: Door) -> None:
    """A mail is one job in the ledger, with its envelope, by the time the client reads 250."""
    with smtplib.SMTP(*door.address("smtp"), timeout=10) as client:
        client.ehlo()
        client.mail("a@x.test")
        client.rcpt("support@y.test")
        code, text = client.data(MAIL)
    assert code == 250
    envelope, raw, receipt = door.intake.seen[0]
    assert text.decode() == f"2.0.0 accepted as {receipt.job_id}"
    assert door.jobs() == 1
    assert raw == MAIL
    assert (envelope.source, envelope.kind, envelope.sender) == ("smtp", Kind.MAIL, "a@x.test")
    assert envelope.recipients == ("support@y.test",)
    assert envelope.content_type == "message/rfc822"


def test_repeat_is_the_same_job(door: Door) -> None:
    """A retry after a lost 250, by another way and so with another Received line, gets the first job's id."""
    first = sent(door, MAIL)
    again = sent(door, MAIL)
    rerouted = sent(door, b"Received: from relay2 by mx; Sat, 21 Nov 2026 12:00:00 +0000\r\n" + MAIL)
    assert first == again == rerouted
    assert door.jobs() == 1


def test_other_mail_is_another_job(door: Door) -> None:
    """The same Message-ID with another body is another mail, since merging would lose one."""
    assert sent(door, MAIL) != sent(door, MAIL + b"PS: one thing more\r\n")
    assert door.jobs() == 2


def test_ledger_down_is_451(door: Door) -> None:
    """What cannot be stored stays with its sender, and is taken once the ledger is back."""
    door.intake.fault = LEDGER_DOWN
    assert sent(door, MAIL) == "451 4.3.0 cannot store the message now, try again later"
    door.intake.fault = None
    assert sent(door, MAIL).startswith("250 2.0.0 accepted as ")


def test_bug_is_451_and_tells_nothing(door: Door) -> None:
    """An unknown error keeps the mail with its sender and its words out of the reply."""
    door.intake.fault = ZeroDivisionError("secret detail")
    assert sent(door, MAIL) == "451 4.3.0 internal error, try again later"


def test_null_sender_is_taken(door: Door) -> None:
    """A bounce has the reverse path <> and is accepted as such (RFC 5321 section 4.5.5)."""
    with Dialog(door.address("smtp")) as dialog:
        dialog.reply()
        dialog.say("EHLO client.test")
        assert dialog.say("MAIL FROM:<>").startswith("250")
        assert dialog.say("RCPT TO:<support@y.test>").startswith("250")
        dialog.say("DATA")
        dialog.send(MAIL + b".\r\n")
        assert dialog.reply().startswith("250")
    assert door.intake.seen[0][0].sender == ""


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"..hidden\r\n.also\r\n\r\n..\r\n", b".hidden\r\nalso\r\n\r\n.\r\n"),
        (b"\r\n", b"\r\n"),
        (b"ends with a dot.\r\n", b"ends with a dot.\r\n"),
        (b"S: x\r\n\r\n" + b"y" * 70_000 + b".\r\nz\r\n", b"S: x\r\n\r\n" + b"y" * 70_000 + b".\r\nz\r\n"),
        (b"S: \xff\x00\xfe\r\n\r\n\x80\r\n", b"S: \xff\x00\xfe\r\n\r\n\x80\r\n"),
    ],
)
def test_bytes_are_kept(door: Door, content: bytes, stored: bytes) -> None:
    """Dot stuffing is undone (RFC 5321 section 4.5.2) and nothing else is touched."""
    assert sent(door, content).startswith("250")
    assert door.intake.seen[0][1] == stored


def test_final_dot_in_pieces(door: Door) -> None:
    """The end of a message is found however the network cuts it."""
    with begun(door) as dialog:
        dialog.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in MAIL + b".\r\n":
            dialog.send(bytes([byte]))
        assert dialog.reply().startswith("250")
    assert door.intake.seen[0][1] == MAIL


def test_empty_message_is_refused(door: Door) -> None:
    """A message without a byte is nobody's mail."""
    assert sent(door, b"") == "554 5.6.0 the message is empty"


def test_pipelined_commands(door: Door) -> None:
    """Commands that come in one packet are answered in order (RFC 2920)."""
    with Dialog(door.address("smtp")) as dialog:
        dialog.reply()
        assert "PIPELINING" in dialog.say("EHLO client.test")
        dialog.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<support@y.test>\r\nDATA\r\n")
        assert [dialog.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        dialog.send(MAIL + b".\r\nQUIT\r\n")
        assert [dialog.reply()[:3] for _ in range(2)] == ["250", "221"]


@pytest.mark.parametrize("ending", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r"])
def test_smuggling(door: Door, ending: bytes) -> None:
    """No other ending than CRLF.CRLF ends a message, and a bare CR or LF in one is refused."""
    inner = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<support@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
    answer = sent(door, b"Subject: outer\r\n\r\nx" + ending + inner)
    assert answer.startswith("554 5.6.0 message has a bare CR or LF")
    assert door.jobs() == 0


def test_only_listed_recipients(narrow: Door) -> None:
    """Listed addresses and domains are taken, upper and lower case alike; the rest is 550."""
    with Dialog(narrow.address("smtp")) as dialog:
        dialog.reply()
        dialog.say("EHLO client.test")
        dialog.say("MAIL FROM:<a@x.test>")
        assert dialog.say("RCPT TO:<Support@Y.test>").startswith("250")
        assert dialog.say("RCPT TO:<anyone@team.test>").startswith("250")
        assert dialog.say("RCPT TO:<other@y.test>").startswith("550 5.1.1")
        assert dialog.say("RCPT TO:<x@evil.team.test>").startswith("550 5.1.1")
        assert dialog.say("RCPT TO:<>").startswith("550")


def test_too_many_recipients(narrow: Door) -> None:
    """The recipient beyond the cap is put off, not the message (RFC 5321 section 4.5.3.1.10)."""
    with Dialog(narrow.address("smtp")) as dialog:
        dialog.reply()
        dialog.say("EHLO client.test")
        dialog.say("MAIL FROM:<a@x.test>")
        replies = [dialog.say(f"RCPT TO:<r{number}@team.test>")[:9] for number in range(4)]
    assert replies == ["250 2.1.5"] * 3 + ["452 4.5.3"]


def test_declared_size(narrow: Door) -> None:
    """A size that is announced too large is refused before a byte of it is sent (RFC 1870)."""
    with Dialog(narrow.address("smtp")) as dialog:
        dialog.reply()
        assert "SIZE 200000" in dialog.say("EHLO client.test")
        assert dialog.say("MAIL FROM:<a@x.test> SIZE=200001").startswith("552")


def test_size(narrow: Door) -> None:
    """The largest message is taken, one byte more is 552, and the connection goes on."""
    head, line = b"Subject: x\r\n\r\n", b"a" * 998 + b"\r\n"
    body = head + line * 199
    largest = body + b"b" * (200_000 - len(body) - 2) + b"\r\n"
    with begun(narrow) as dialog:
        dialog.send(b"b" + largest + b".\r\n")
        assert dialog.reply().startswith("552 5.3.4")
        assert dialog.say("MAIL FROM:<a@x.test>").startswith("250")
        dialog.say("RCPT TO:<support@y.test>")
        dialog.say("DATA")
        dialog.send(largest + b".\r\n")
        assert dialog.reply().startswith("250")
    assert narrow.intake.seen[0][1] == largest


def test_long_lines(narrow: Door) -> None:
    """A line as long as the limit is taken (real mail goes beyond 998 bytes), one byte more is refused."""
    assert sent(narrow, b"S: x\r\n\r\n" + b"a" * 5_000 + b"\r\n").startswith("250")
    assert sent(narrow, b"S: x\r\n\r\n" + b"a" * 5_001 + b"\r\n").startswith("554 5.6.0")


def test_endless_data_costs_no_memory(door: Door) -> None:
    """400 MB without a CRLF are read and dropped; memory stays where the largest message would leave it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with begun(door) as dialog:
        block = b"x" * 4_000_000
        for _ in range(100):
            dialog.send(block)
        dialog.send(b"\r\n.\r\n")
        assert dialog.reply().startswith("552 5.3.4")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000  # KiB; the largest message is 32 MiB


def test_memory_budget(tmp_path: Path) -> None:
    """Several messages together may hold only so much; the one that goes over it is put off with 452."""
    options = {"port": 0, "lmtp_port": None, "max_size": 900_000, "max_memory": 1_048_576}
    half = b"Subject: x\r\n\r\n" + b"a" * 800_000
    with opened(run, tmp_path, lines=1, smtp=options) as door, begun(door) as first, begun(door) as second:
        first.send(half)
        until(lambda: _reads(first))
        second.send(half + b"\r\n.\r\n")
        assert second.reply().startswith("452 4.3.1")
        first.send(b"\r\n.\r\n")
        assert first.reply().startswith("250")
        assert sent(door, half + b"\r\n").startswith("250")


def _reads(dialog: Dialog) -> bool:
    """Whether the server has read all that was sent (Linux: nothing is left in the socket's send queue)."""
    return bool(struct.unpack("i", fcntl.ioctl(dialog.socket, termios.TIOCOUTQ, b"\0" * 4))[0] == 0)


def test_connection_cap(narrow: Door) -> None:
    """The connection beyond the cap is told 421; when one leaves, the next is let in."""
    address = narrow.address("smtp")
    with Dialog(address) as one, Dialog(address) as two:
        assert one.reply().startswith("220")
        assert two.reply().startswith("220")
        with Dialog(address) as three:
            assert three.reply() == "421 4.7.0 too many connections, try again later"
            assert three.reply() == ""
        assert one.say("QUIT").startswith("221")
    until(lambda: _greeting(address).startswith("220"))


def _greeting(address: tuple[str, int]) -> str:
    with Dialog(address) as dialog:
        return dialog.reply()


def test_silent_client_is_closed(narrow: Door) -> None:
    """A client that says nothing for the timeout gets 421 and is gone."""
    with Dialog(narrow.address("smtp")) as dialog:
        dialog.reply()
        assert dialog.reply().startswith("421 4.4.2")
        assert dialog.reply() == ""


def test_dripping_client_is_closed(narrow: Door) -> None:
    """Sending a byte now and then does not keep a connection alive during DATA."""
    with begun(narrow) as dialog:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    dialog.send(b"x\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert dialog.reply().startswith("421 4.4.2")
        except ConnectionError:
            pass  # our drip met the closed socket before we read the reply
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a@x.test\xff>",
        b"MAIL FROM:<<>>",
        b"MAIL FROM:<a b@x.test>",
        b"MAIL FROM:<a@x.test> NONSENSE=1",
        b"MAIL",
        b"RCPT TO:<a@x.test>",
        b"DATA",
        b"\xff\xfe",
        b"",
        b"EHLO",
        b"X" * 5_000,
        b"X" * 200_000,
        b"AUTH PLAIN AGEAYg==",
    ],
)
def test_malformed_commands(door: Door, line: bytes) -> None:
    """Nonsense is answered 5xx and the conversation goes on."""
    with Dialog(door.address("smtp")) as dialog:
        dialog.reply()
        dialog.say("EHLO client.test")
        assert dialog.say(line).startswith("5")
        assert dialog.say("MAIL FROM:<a@x.test>").startswith("250")


def test_utf8_addresses(door: Door) -> None:
    """Addresses in UTF-8 are taken as such (RFC 6531)."""
    with Dialog(door.address("smtp")) as dialog:
        dialog.reply()
        assert "SMTPUTF8" in dialog.say("EHLO client.test")
        assert dialog.say("MAIL FROM:<jürgen@büro.test> SMTPUTF8").startswith("250")
        dialog.say("RCPT TO:<support@y.test>")
        dialog.say("DATA")
        dialog.send(MAIL + b".\r\n")
        assert dialog.reply().startswith("250")
    assert door.intake.seen[0][0].sender == "jürgen@büro.test"


def test_vanishing_client(door: Door) -> None:
    """A client that leaves in the middle of a message leaves no job, and the door stays open."""
    with begun(door) as dialog:
        dialog.send(MAIL)
    assert sent(door, MAIL.replace(b"<1@", b"<2@")).startswith("250")
    assert door.jobs() == 1


def test_trusted_results_travel_along(tmp_path: Path) -> None:
    """What the named mail server says about the sender is kept in the envelope; a forged field is not."""
    options = {"port": 0, "lmtp_port": None, "authserv_id": "mx.y.test"}
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        sent(door, b"Authentication-Results: mx.y.test; dmarc=fail header.from=x.test\r\n" + MAIL)
        sent(door, b"Authentication-Results: evil.test; dmarc=pass\r\nX: 1\r\n" + MAIL)
    assert "dmarc=fail" in door.intake.seen[0][0].headers["authentication-results"]
    assert door.intake.seen[1][0].headers == {}


def test_stop_closes_with_421(tmp_path: Path) -> None:
    """When we are told to stop, an open connection is told so."""
    with opened(run, tmp_path, lines=1, smtp={"port": 0, "lmtp_port": None}) as door:
        dialog = Dialog(door.address("smtp"))
        assert dialog.reply().startswith("220")
        door.stop.set()
        assert dialog.reply().startswith("421 4.3.2")


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate and its key as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


def test_starttls(tmp_path: Path) -> None:
    """With a certificate STARTTLS is offered, and mail comes in over it; no AUTH is offered afterwards."""
    chain, key = certificate(tmp_path)
    options = {"port": 0, "lmtp_port": None, "tls_cert": chain, "tls_key": key}
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        host, port = door.address("smtp")
        context = ssl.create_default_context(cafile=str(chain))
        with smtplib.SMTP("localhost" if host == "127.0.0.1" else host, port, timeout=10) as client:
            client.starttls(context=context)
            client.ehlo()
            assert not client.has_extn("auth")
            client.sendmail("a@x.test", ["support@y.test"], MAIL)
        assert door.intake.seen[0][1] == MAIL
        with Dialog(door.address("smtp")) as dialog:
            dialog.reply()
            dialog.say("EHLO client.test")
            assert dialog.say("STARTTLS").startswith("220")
            dialog.send(b"this is no handshake\r\n" * 20)
            dialog.file.read()
        assert sent(door, MAIL).startswith("250")


def test_port_in_use(tmp_path: Path) -> None:
    """A port that another process holds stops the start with words, not with a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        settings = Settings(state_dir=tmp_path, smtp={"port": port, "lmtp_port": None})
        with pytest.raises(ConfigError, match=rf"cannot listen for SMTP on 127\.0\.0\.1:{port}.*set another port"):
            run(settings, None, threading.Event())  # type: ignore[arg-type]


def test_open_door_needs_a_list() -> None:
    """An address that others reach is not bound while every recipient is accepted."""
    with pytest.raises(ValueError, match="reached by others"):
        Settings(smtp={"host": "0.0.0.0"})
