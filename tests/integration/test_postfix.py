"""A real Postfix in front, set up as docs/mail.md says, delivers by LMTP."""

from __future__ import annotations

import grp
import shutil
from pathlib import Path

from daemon.listeners.smtp import run
from tests.integration.doors import LEDGER_DOWN, opened, until
from tests.integration.postfix import documented, running
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "mail.md"
MAIL = b"From: ann@sender.test\r\nTo: invoices@example.com\r\nMessage-ID: <%d@sender.test>\r\n\r\nDear team\r\n"
RECIPIENT = "invoices@example.com"
PATIENCE = 60


def test_by_port(tmp_path: Path) -> None:
    """A mail handed to Postfix is one job, with its envelope; two recipients of one mail are one job too."""
    port = free_port()
    options = {"port": False, "lmtp_port": port, "recipients": [RECIPIENT]}
    with (
        opened(run, tmp_path, lines=1, smtp=options) as door,
        running(documented(PAGE, f"lmtp:inet:127.0.0.1:{port}", "lmtp:inet:")) as postfix,
    ):
        postfix.send([RECIPIENT], MAIL % 1)
        until(lambda: door.jobs() == 1, PATIENCE)
        envelope, raw, _ = door.intake.seen[0]
        assert (envelope.source, envelope.sender, envelope.recipients) == ("lmtp", "ann@sender.test", (RECIPIENT,))
        assert raw.endswith(b"\r\nDear team\r\n")
        assert b"by mx.example.com (Postfix)" in raw
        postfix.send([RECIPIENT, "invoices+july@example.com"], MAIL % 2)
        until(lambda: door.jobs() == 2, PATIENCE)
        assert set(door.intake.seen[1][0].recipients) == {RECIPIENT, "invoices+july@example.com"}
        until(lambda: postfix.queued() == 0, PATIENCE)
        assert len(door.intake.seen) == 2
        assert postfix.log().count("status=sent (250 2.0.0 accepted as ") == 3


def test_postroom_down(tmp_path: Path) -> None:
    """While Postroom is down Postfix keeps the mails; once it is back each comes in, as one job."""
    port = free_port()
    with running(documented(PAGE, f"lmtp:inet:127.0.0.1:{port}", "lmtp:inet:")) as postfix:
        for number in range(3):
            postfix.send([RECIPIENT], MAIL % number)
        until(lambda: postfix.log().count("status=deferred") >= 3, PATIENCE)
        assert postfix.queued() == 3
        with opened(run, tmp_path, lines=1, smtp={"port": False, "lmtp_port": port}) as door:
            until(lambda: door.jobs() == 3 and postfix.queued() == 0, PATIENCE)
            assert len(door.intake.seen) == 3


def test_451_is_tried_again(tmp_path: Path) -> None:
    """A ledger that cannot be written is 451 to Postfix, which tries again until it can; no bounce goes out."""
    port = free_port()
    with (
        opened(run, tmp_path, lines=1, smtp={"port": False, "lmtp_port": port}) as door,
        running(documented(PAGE, f"lmtp:inet:127.0.0.1:{port}", "lmtp:inet:")) as postfix,
    ):
        door.intake.fault = LEDGER_DOWN
        postfix.send([RECIPIENT], MAIL % 1)
        until(lambda: postfix.log().count("451 4.3.0 cannot store the message now") >= 2, PATIENCE)
        assert postfix.queued() == 1
        door.intake.fault = None
        until(lambda: door.jobs() == 1 and postfix.queued() == 0, PATIENCE)
        assert "status=bounced" not in postfix.log()


def test_refused_recipient_bounces(tmp_path: Path) -> None:
    """A recipient that Postroom does not list is refused for good: Postfix does not keep trying."""
    port = free_port()
    options = {"port": False, "lmtp_port": port, "recipients": ["others@example.com"]}
    with (
        opened(run, tmp_path, lines=1, smtp=options) as door,
        running(documented(PAGE, f"lmtp:inet:127.0.0.1:{port}", "lmtp:inet:")) as postfix,
    ):
        postfix.send([RECIPIENT], MAIL % 1)
        until(lambda: "status=bounced" in postfix.log(), PATIENCE)
        assert "550 5.1.1 no such recipient here" in postfix.log()
        assert door.jobs() == 0


def test_by_socket(tmp_path: Path) -> None:
    """Postfix, which is not root when it delivers, reaches the Unix socket through its group."""
    with running(documented(PAGE, "lmtp:unix:postroom/lmtp", "lmtp:unix:")) as postfix:
        folder = postfix.spool / "postroom"
        folder.mkdir(mode=0o750)
        shutil.chown(folder, group="postfix")
        options = {
            "port": False,
            "lmtp_port": False,
            "lmtp_socket": folder / "lmtp",
            "lmtp_socket_group": "postfix",
        }
        with opened(run, tmp_path, lines=1, smtp=options) as door:
            assert (folder / "lmtp").stat().st_gid == grp.getgrnam("postfix").gr_gid
            postfix.send([RECIPIENT], MAIL % 1)
            until(lambda: door.jobs() == 1 and postfix.queued() == 0, PATIENCE)
