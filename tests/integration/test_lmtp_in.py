"""The LMTP door (RFC 2033), with real sockets and a real ledger."""

from __future__ import annotations

import grp
import os
import smtplib
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import Settings
from daemon.listeners.smtp import run
from tests.integration.doors import LEDGER_DOWN, Dialog, Door, opened

MAIL = b"From: a@x.test\r\nTo: support@y.test\r\nMessage-ID: <1@x.test>\r\nSubject: hello\r\n\r\nDear team\r\n"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    options = {"port": 0, "lmtp_port": 0, "recipients": ["@y.test"], "max_size": 10_000}
    with opened(run, tmp_path, lines=2, smtp=options) as door:
        yield door


def begun(door: Door, count: int) -> Dialog:
    """A conversation with `count` recipients that has come as far as 354."""
    dialog = Dialog(door.address("lmtp"))
    assert dialog.reply().startswith("220 ")
    assert dialog.say("LHLO relay.test").startswith("250")
    assert dialog.say("MAIL FROM:<a@x.test>").startswith("250")
    for number in range(count):
        assert dialog.say(f"RCPT TO:<r{number}@y.test>").startswith("250")
    assert dialog.say("DATA").startswith("354")
    return dialog


@pytest.mark.parametrize("count", [1, 3])
def test_one_reply_for_each_recipient(door: Door, count: int) -> None:
    """After the final dot come as many replies as there were accepted recipients, and one job."""
    with begun(door, count) as dialog:
        dialog.send(MAIL + b".\r\n")
        replies = [dialog.reply() for _ in range(count)]
        assert dialog.say("NOOP") == "250 OK"
    envelope, _, receipt = door.intake.seen[0]
    assert replies == [f"250 2.0.0 accepted as {receipt.job_id}"] * count
    assert envelope.source == "lmtp"
    assert envelope.recipients == tuple(f"r{number}@y.test" for number in range(count))
    assert door.jobs() == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"x" * 20_000 + b"\r\n.\r\n", "552 5.3.4"),
        (b"a\nb\r\n.\r\n", "554 5.6.0"),
        (b".\r\n", "554 5.6.0"),
    ],
)
def test_refusals_are_for_each_recipient_too(door: Door, content: bytes, status: str) -> None:
    """A refusal after the final dot is told once for each recipient, so that the client stays in step."""
    with begun(door, 2) as dialog:
        dialog.send(content)
        assert [dialog.reply()[:9] for _ in range(2)] == [status] * 2
        assert dialog.say("NOOP") == "250 OK"


@pytest.mark.parametrize("fault", [LEDGER_DOWN, RuntimeError("bug")])
def test_outage_is_451_for_each_recipient(door: Door, fault: Exception) -> None:
    """When the message cannot be stored, each recipient is put off."""
    door.intake.fault = fault
    with begun(door, 2) as dialog:
        dialog.send(MAIL + b".\r\n")
        assert [dialog.reply()[:9] for _ in range(2)] == ["451 4.3.0"] * 2


def test_no_valid_recipient_is_503(door: Door) -> None:
    """DATA without an accepted recipient is answered once (RFC 2033 section 4.2)."""
    with Dialog(door.address("lmtp")) as dialog:
        dialog.reply()
        dialog.say("LHLO relay.test")
        dialog.say("MAIL FROM:<a@x.test>")
        assert dialog.say("RCPT TO:<a@elsewhere.test>").startswith("550")
        assert dialog.say("DATA").startswith("503")
        assert dialog.say("NOOP") == "250 OK"


def test_smtp_greeting_is_refused(door: Door) -> None:
    """HELO and EHLO are not LMTP (RFC 2033 section 4.1)."""
    with Dialog(door.address("lmtp")) as dialog:
        dialog.reply()
        assert dialog.say("EHLO relay.test").startswith("500")
        assert dialog.say("HELO relay.test").startswith("500")


def test_library_client(door: Door) -> None:
    """The standard library's LMTP client delivers two mails over one connection."""
    with smtplib.LMTP(*door.address("lmtp"), timeout=10) as client:
        for number in range(2):
            client.ehlo()
            assert client.sendmail("a@x.test", ["r@y.test"], MAIL.replace(b"<1@", b"<%d@" % number)) == {}
    assert door.jobs() == 2


def test_both_protocols_listen_together(door: Door) -> None:
    """SMTP and LMTP have their own ports and their own names as a source."""
    with smtplib.SMTP(*door.address("smtp"), timeout=10) as client:
        client.sendmail("a@x.test", ["r@y.test"], MAIL)
    assert door.intake.seen[0][0].source == "smtp"


def _by_socket(folder: Path, **options: object) -> dict[str, object]:
    return {"port": False, "lmtp_port": False, "lmtp_socket": folder / "lmtp", **options}


def test_unix_socket(tmp_path: Path) -> None:
    """LMTP alone on a Unix socket: mode and group as configured, mail taken, and no file left at the end."""
    group = grp.getgrgid(os.getgid()).gr_name
    path = tmp_path / "lmtp"
    options = _by_socket(tmp_path, lmtp_socket_mode="0620", lmtp_socket_group=group, max_connections_per_address=1)
    with opened(run, tmp_path, lines=1, smtp=options) as door:
        assert door.lines == [f"lmtp on {path}"]
        there = path.stat()
        assert (stat.S_IMODE(there.st_mode), there.st_gid) == (0o620, os.getgid())
        with smtplib.LMTP(str(path)) as one, smtplib.LMTP(str(path)) as two:
            assert one.sendmail("a@x.test", ["r@y.test"], MAIL) == {}
            assert two.sendmail("a@x.test", ["r@y.test"], MAIL.replace(b"<1@", b"<2@")) == {}
        assert door.jobs() == 2
        assert door.intake.seen[0][0].source == "lmtp"
    assert list(tmp_path.glob("*lmtp*")) == []


def test_socket_of_a_killed_process(tmp_path: Path) -> None:
    """The file that a killed process left behind is replaced."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "lmtp"))
    with opened(run, tmp_path, lines=1, smtp=_by_socket(tmp_path)), smtplib.LMTP(str(tmp_path / "lmtp")) as client:
        assert client.sendmail("a@x.test", ["r@y.test"], MAIL) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lmtp_socket_group": "no-such-group"}, "there is no group 'no-such-group'"),
        ({"lmtp_socket": Path("/proc/no/lmtp")}, "cannot be listened on: No such file"),
    ],
)
def test_socket_that_cannot_be(tmp_path: Path, options: dict[str, object], words: str) -> None:
    """A group or folder that is not there stops the start with words, and leaves nothing behind."""
    settings = Settings(state_dir=tmp_path, smtp=_by_socket(tmp_path, **options))
    with pytest.raises(ConfigError, match=words):
        run(settings, None, threading.Event())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_socket_in_use(tmp_path: Path) -> None:
    """The socket of a process that is still there is not taken from it."""
    with opened(run, tmp_path, lines=1, smtp=_by_socket(tmp_path)):
        settings = Settings(state_dir=tmp_path, smtp=_by_socket(tmp_path))
        with pytest.raises(ConfigError, match="in use by another process"):
            run(settings, None, threading.Event())  # type: ignore[arg-type]
        with smtplib.LMTP(str(tmp_path / "lmtp")) as client:
            assert client.noop()[0] == 250
