"""Mail on its way out: some recipients refuse, the worker dies after the final dot, another machine answers our answer."""

from __future__ import annotations

import re
import signal
import smtplib
import time
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from config.settings import load
from daemon.embedded.broker import EmbeddedBroker
from tasks.alerts import alert
from tests.faults.parts import QUICK, ended_once, full, until_done
from tests.faults.town import Sink
from tests.street import Street, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
REPLY = '[reply]\ntemplate = "default"\nfree_text = false\n'
ASKED = "<asked@sender.example>"


def mail_section(port: int, **more: str) -> str:
    """[smtp] on a free port, [smtp_out] to a port."""
    lines = "".join(f"{name} = {value}\n" for name, value in more.items())
    return f'[smtp]\nport = 0\nlmtp_port = false\n[smtp_out]\nport = {port}\ndomain = "post.example"\n{lines}'


def ask(address: str, sender: str = "ada@sender.example", to: str = "in@post.example") -> None:
    """A person's mail."""
    host, _, port = address.rpartition(":")
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: Lamp\r\nMessage-ID: {ASKED}\r\n"
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail(sender, [to], f"{head}\r\nMy lamp came broken.\r\n".encode())


class Choosy(Sink):
    """Takes mail for some recipients only."""

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """550 for `gone@`, 451 for `later@`."""
        if address.startswith(("gone@", "later@")):
            return "550 5.1.1 no such user" if address.startswith("gone@") else "451 4.2.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 ok"


@pytest.mark.fault(number=28)
def test_each_recipient_has_a_state_of_its_own(tmp_path: Path) -> None:
    """One takes it, one wants it later, one refuses: three states in one job, and only what waits is tried again (28)."""
    post = Choosy()
    to = '["here@team.example", "later@team.example", "gone@team.example"]'
    more = mail_section(post.start()) + f"[alerts]\nmail = {to}\n"
    with EmbeddedBroker(tmp_path / "broker") as broker, Street(tmp_path, broker=broker.url, more=more) as street:
        street.start("rescue")
        ledger = street.ledger()
        assert alert(ledger, load(street.config), "k", "disk full", "Make room.")
        street.start("worker")
        [job] = ledger.jobs.page()
        until(lambda: (found := ledger.jobs.get(job.id)) and found.state.value == "waiting", 60, "the first attempts")
        told = {state.delivery.target.partition("@")[0]: state for state in ledger.deliveries.of(job.id)}
        assert {name: state.state for name, state in told.items()} == {
            "here": "sent",
            "later": "pending",
            "gone": "failed",
        }
        assert "451" in told["later"].reason
        assert told["later"].due_at
        assert "550" in told["gone"].reason
        assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job.id)] == [
            "sent",
            "transient",
            "permanent",
        ]
        assert len(post.mails) == 1
        ledger.close()
    post.stop()


@full
@pytest.mark.fault(number=8)
def test_killed_after_the_final_dot_the_same_bytes_go_again(tmp_path: Path) -> None:
    """The mail server has it, the ledger does not know: Message-ID and every byte are the same the second time (8)."""
    post = Sink()
    more = mail_section(post.start())
    with (
        EmbeddedBroker(tmp_path / "broker") as broker,
        Street(tmp_path, broker=broker.url, route=REPLY, worker=QUICK, more=more) as street,
    ):
        ask(street.start("smtp").partition(" on ")[2])
        street.start("rescue")
        street.start("worker", program=("-m", "tests.faults.tampered", "after-effect"))
        assert street.processes[-1].wait(60) == -signal.SIGKILL
        street.start("worker")
        ledger = street.ledger()
        until_done(ledger, 1)
        assert len(post.mails) == 2
        assert len(set(post.mails)) == 1
        [job] = ledger.jobs.page()
        assert [attempt.outcome for attempt in ledger.deliveries.attempts_of(job.id)] == ["in-doubt", "sent"]
        assert all(ASKED.encode() in raw for raw in post.mails)
        ended_once(ledger, [job.id], stages=("extract", "classify", "reply", "deliver"))
        ledger.close()
    post.stop()


@full
@pytest.mark.fault(number=29)
def test_two_postrooms_do_not_answer_each_other(tmp_path: Path) -> None:
    """One writes to the other, and each hands what it sends to the other: one reply, then silence (fault 29)."""
    posts = Sink(), Sink()
    ports = [post.start() for post in posts]
    with EmbeddedBroker(tmp_path / "broker") as broker, EmbeddedBroker(tmp_path / "other") as other:
        streets = []
        for number, url in enumerate((broker.url, other.url)):
            folder = tmp_path / str(number)
            folder.mkdir()
            own = mail_section(ports[number], sender=f'"in@host{number}.example"')
            streets.append(Street(folder, broker=url, route=REPLY, worker=QUICK, more=own))
        with streets[0] as one, streets[1] as two:
            doors = [street.start("smtp").partition(" on ")[2] for street in (one, two)]
            for street in (one, two):
                street.start("rescue")
                street.start("worker")
            ask(doors[0], sender="in@host1.example", to="in@host0.example")
            until(lambda: posts[0].mails, 60, "the one reply")
            host, _, port = doors[1].rpartition(":")
            with smtplib.SMTP(host, int(port), timeout=30) as client:
                client.sendmail("in@host0.example", ["in@host1.example"], posts[0].mails[0])
            ledger = two.ledger()
            until_done(ledger, 1)
            time.sleep(3)
            assert [len(post.mails) for post in posts] == [1, 0]
            [job] = ledger.jobs.page()
            assert re.search("Auto-Submitted", job.reason)
            ledger.close()
    for post in posts:
        post.stop()
