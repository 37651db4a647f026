"""What is told before anything is taken is what the listener takes: `imap test`, `check`, filters on a real server."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from rich.console import Console

from config.imap import ImapAccount
from config.outbound import SmtpOut
from config.settings import Settings
from daemon.checks import imap_answers, smtp_answers
from daemon.mailbox_look import look
from tasks.ledger import Ledger
from tests.integration.doors import until
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import account, mail, subjects, watching

DAY = 86_400


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


def test_the_cut_off_is_the_listeners(server: Dovecot, tmp_path: Path) -> None:
    """After an outage longer than max_age_days both count the mail that came in it, as the listener then takes it."""
    server.empty()
    options = {"max_age_days": 7, "idle": False, "poll": 0.1}
    now = time.time()
    with server.mailbox() as box:
        for number, days in ((1, 60), (2, 30), (3, 0)):
            day = time.strftime("%d-%b-%Y", time.gmtime(now - days * DAY))
            box.client.append("INBOX", "", f'"{day} 12:00:00 +0000"', mail(number))  # type: ignore[arg-type]
    settings = Settings(state_dir=tmp_path / "state")
    section = ImapAccount(**account(server, **options))
    assert imap_answers("support", section, settings) == "INBOX has 1 messages", "a new listener's view"
    ledger = Ledger.open(settings.ledger)
    ledger.imap_folders.update("support", "INBOX", since=int((now - 40 * DAY) * 1000))
    ledger.close()
    assert imap_answers("support", section, settings) == "INBOX has 2 messages"
    said = io.StringIO()
    assert look(Console(file=said, width=200), settings, "support", section)
    assert "INBOX: 2 messages, 2 not looked at yet" in said.getvalue()
    with watching(server, tmp_path, **options) as door:
        until(lambda: door.jobs() == 2)
        until(lambda: subjects(server, "INBOX") == ["mail 1"])


def test_check_speaks_lmtp_where_replies_go_by_it(server: Dovecot) -> None:
    """A delivery agent that takes LMTP alone is told as well, not as one that knows no EHLO."""
    out = SmtpOut(host="127.0.0.1", port=server.lmtp, protocol="lmtp", security="none")
    assert smtp_answers(out) == "answers, no TLS"


def letters() -> dict[str, EmailMessage]:
    """Mails with and without what a person would call an attachment."""
    found = {name: EmailMessage() for name in ("plain", "pdf", "forwarded", "logo", "html", "calendar", "unnamed")}
    for name, message in found.items():
        message["From"], message["Subject"], message["Message-ID"] = "ann@x.test", name, f"<{name}@x.test>"
        message.set_content("Dear team\n")
    found["html"].add_alternative("<p>Dear team</p>", subtype="html")
    found["pdf"].add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    found["unnamed"].add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("hello\n")
    found["forwarded"].add_attachment(inner)
    found["logo"].add_alternative('<img src="cid:l@x">', subtype="html")
    related = found["logo"].get_payload()[1]  # type: ignore[index]  # the HTML part
    assert isinstance(related, EmailMessage)
    related.add_related(b"\x89PNG", maintype="image", subtype="png", cid="<l@x>")
    found["calendar"].add_attachment(b"BEGIN:VCALENDAR\n", maintype="text", subtype="calendar", filename="invite.ics")
    return found


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [(True, ["calendar", "forwarded", "pdf", "unnamed"]), (False, ["html", "logo", "plain"])],
)
def test_attachments_as_a_server_tells_them(server: Dovecot, tmp_path: Path, wanted: bool, taken: list[str]) -> None:
    """By what Dovecot says of a mail's structure, mail with or without attachments is taken, the rest left."""
    server.empty()
    server.deliver(*(message.as_bytes() for message in letters().values()))
    with watching(server, tmp_path, idle=False, poll=0.1, filter={"has_attachment": wanted}):
        until(lambda: subjects(server, "Postroom") == taken)
        until(lambda: subjects(server, "INBOX") == sorted(set(letters()) - set(taken)))
