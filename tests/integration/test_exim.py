"""A real Exim in front, set up as docs/mail.md says, delivers by LMTP."""

from __future__ import annotations

from pathlib import Path

from daemon.listeners.smtp import run
from tests.integration.doors import LEDGER_DOWN, opened, until
from tests.integration.exim import documented, running
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "mail.md"
MAIL = b"From: ann@sender.test\r\nTo: invoices@example.com\r\nMessage-ID: <%d@sender.test>\r\n\r\nDear team\r\n"
PATIENCE = 60


def test_mail_comes_in_and_is_kept_while_it_cannot(tmp_path: Path) -> None:
    """Both addresses arrive as written, a 451 or no Postroom at all keeps the mail with Exim, and each is one job."""
    port = free_port()
    options = {"port": False, "lmtp_port": port, "recipients": ["invoices@example.com"]}
    with running(*documented(PAGE, port)) as exim:
        exim.send(["invoices@example.com"], MAIL % 1)
        until(lambda: "Connection refused" in exim.log(), PATIENCE)
        assert exim.queued() == 1
        with opened(run, tmp_path, lines=1, smtp=options) as door:
            until(lambda: door.jobs() == 1 and exim.queued() == 0, PATIENCE)
            exim.send(["invoices+july@example.com"], MAIL % 2)
            until(lambda: door.jobs() == 2 and exim.queued() == 0, PATIENCE)
            senders = [envelope.sender for envelope, *_ in door.intake.seen]
            recipients = [envelope.recipients for envelope, *_ in door.intake.seen]
            assert senders == ["ann@sender.test"] * 2
            assert recipients == [("invoices@example.com",), ("invoices+july@example.com",)]
            door.intake.fault = LEDGER_DOWN
            exim.send(["invoices@example.com"], MAIL % 3)
            until(lambda: exim.log().count("451 4.3.0 cannot store the message now") >= 2, PATIENCE)
            assert exim.queued() == 1
            door.intake.fault = None
            until(lambda: door.jobs() == 3 and exim.queued() == 0, PATIENCE)
            assert len(door.intake.seen) == 3
