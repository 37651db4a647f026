"""What is known of each message: nothing is missed, nothing taken twice, and a bad message stops only itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from daemon.listeners import imap_accepting, imap_folder, imap_notes, imap_settling, imap_watchdog
from daemon.listeners.imap import run
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_session import ImapSession, RefusedError
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.ledger import Ledger, Rule
from tasks.ledger.imap_messages import Place, Spot, Taken
from tasks.ledger.schema import jobs
from tasks.models import State
from tests.conftest import envelope
from tests.integration.doors import LEDGER_DOWN, Door, until
from tests.integration.dovecot import Dovecot, running
from tests.integration.mailboxes import mail, subjects, uids, watching

Watch = Callable[..., AbstractContextManager[Door]]
QUICK = {"idle": False, "poll": 0.1}


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture
def watch(server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Opens a watcher on the server's emptied mailbox; options go to the account."""
    server.empty()
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    yield lambda **options: watching(server, tmp_path, **options)
    assert "Panic" not in server.log()


def marks(door: Door, folder: str = "INBOX") -> dict[str, int]:
    """How many messages of a folder have which mark."""
    found = door.intake.ledger.imap_messages.counts("support")
    return {mark: number for (where, mark), number in found.items() if where == folder}


def test_several_folders(server: Dovecot, watch: Watch) -> None:
    """Each folder is watched, names with umlauts and ampersands too; one mail in two folders is one job."""
    folders = ["INBOX", "Rechnungen/März", "R&D"]
    with server.mailbox() as box:
        for folder in folders[1:]:
            box.folder.create(folder)
        box.append(mail(1), "Rechnungen/März")
        box.append(mail(2), "R&D")
        box.append(mail(1), "R&D")
    with watch(folders=folders, done_folder="Erledigt & gut") as door:
        assert sorted(line.split(" ", 3)[3] for line in door.lines) == [
            "INBOX, idle",
            "R&D, idle",
            "Rechnungen/März, idle",
        ]
        until(lambda: server.count("Postroom") == 3)
        server.deliver(mail(3))
        until(lambda: server.count("Postroom") == 4)
        assert door.jobs() == 3
    assert "Erledigt & gut" in folders_of(server)


def folders_of(server: Dovecot) -> set[str]:
    with server.mailbox() as box:
        return {one.name for one in box.folder.list()}


def test_folder_made_anew(server: Dovecot, watch: Watch) -> None:
    """With another UIDVALIDITY everything is looked at again: what is new is taken, what was taken is recognised."""
    server.deliver(mail(1), mail(2))
    with watch(after="nothing", **QUICK) as door, capture_logs() as logs:
        until(lambda: door.jobs() == 2)
        server.renumber()
        server.deliver(mail(3))
        until(lambda: door.jobs() == 3)
        until(lambda: marks(door) == {"accepted": 5})
        time.sleep(0.5)
        assert len(door.intake.seen) == 3
    assert any(entry["event"] == "imap.uidvalidity" for entry in logs)


def test_purged_jobs_are_not_taken_again(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """When retention has removed the jobs, mail in a folder made anew is recognised all the same, and stays so."""
    monkeypatch.setattr(imap_folder, "FORGET_AFTER_MS", 0)
    monkeypatch.setattr(imap_folder, "FORGET_EVERY", 0)
    server.deliver(mail(1), mail(2))
    with watch(after="nothing", **QUICK) as door:
        until(lambda: marks(door) == {"accepted": 2})
        with door.intake.ledger.database.write() as connection:
            connection.execute(sa.update(jobs).values(state="done"))
        later = 2**50
        assert door.intake.ledger.archive.remove(Rule(State.DONE, later, later, later), 10) == 2
        rows = door.intake.ledger.imap_folders
        for _ in range(2):
            before = rows.get("support", "INBOX").validity
            server.renumber()
            until(lambda before=before: rows.get("support", "INBOX").validity != before, 20)
        server.deliver(mail(3))
        until(lambda: door.jobs() == 1)
        until(lambda: marks(door) == {"accepted": 3}, 20)
        assert len(door.intake.seen) == 3


def test_an_emptied_mailbox_counts_from_one_again(server: Dovecot, watch: Watch) -> None:
    """UID 1 of a mailbox made anew is another mail than UID 1 before."""
    server.deliver(mail(1))
    with watch(after="nothing", **QUICK) as door:
        until(lambda: door.jobs() == 1)
        time.sleep(1.1)  # Dovecot takes the second as UIDVALIDITY
        server.empty()
        server.deliver(mail(2))
        until(lambda: door.jobs() == 2)


def break_fetch(monkeypatch: pytest.MonkeyPatch, poison: int) -> list[str]:
    """Breaks the connection whenever this UID is fetched; the tries are noted."""
    tries: list[str] = []
    original = ImapSession.fetch

    def fetch(session: ImapSession, wanted: list[int]) -> dict[int, bytes]:
        if poison in wanted:
            tries.append(",".join(map(str, wanted)))
            session._client.sock.shutdown(socket.SHUT_RDWR)
        return original(session, wanted)

    monkeypatch.setattr(ImapSession, "fetch", fetch)
    return tries


def test_poison_does_not_block(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail that breaks the connection each time it is fetched delays no other, a restart included."""
    tries = break_fetch(monkeypatch, 2)
    server.deliver(*(mail(number) for number in (1, 2, 3)))
    with watch(**QUICK):
        until(lambda: server.count("Postroom") == 2)
        server.deliver(mail(4))
        until(lambda: server.count("Postroom") == 3)
    with watch(**QUICK):
        server.deliver(mail(5))
        until(lambda: server.count("Postroom") == 4)
    assert tries == ["1,2,3", "2"], "its next try is not due before a minute is over, whatever was restarted"


def test_poison_is_quarantined(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its last try it is moved to the failed folder with its reason, a person is told, and it is left alone."""
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    tries = break_fetch(monkeypatch, 2)
    alerts: list[tuple[str, str, str]] = []

    def told(*arguments: Any, ready: Callable[[str], None]) -> None:
        ready("imap: for this test")
        run(*arguments, alert=lambda *alert: alerts.append(alert))

    server.deliver(*(mail(number) for number in (1, 2, 3)))
    more = 3
    with watch(**QUICK, listener=told) as door:
        while not subjects(server, "Postroom-Failed"):
            more += 1
            assert more < 30
            server.deliver(mail(more))
            until(lambda number=more: server.count("Postroom") == number - 1)
            time.sleep(0.3)
        until(lambda: marks(door) == {"accepted": more - 1, "quarantined": 1})
    assert len(tries) > imap_notes.MOST_TRIES
    assert len(alerts) == 1
    assert "cannot be fetched: the connection was lost" in alerts[0][2]
    assert f"({imap_notes.MOST_TRIES} tries)" in alerts[0][2]


def test_a_sick_server_is_no_mails_fault(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gives none of its mail, or says that it throttles, costs no mail a try, over restarts too."""
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    monkeypatch.setattr(imap_notes, "MOST_TRIES", 2)
    original = ImapSession.fetch
    words = ["FETCH refused: sorry"]
    asked: list[list[int]] = []

    def fetch(session: ImapSession, wanted: list[int]) -> dict[int, bytes]:
        asked.append(wanted)
        if words and not (words[0].startswith("FETCH refused: [THROTTLED]") and wanted == [1]):
            raise RefusedError(words[0])
        return original(session, wanted)

    monkeypatch.setattr(ImapSession, "fetch", fetch)
    server.deliver(*(mail(number) for number in (1, 2, 3)))
    for _ in range(3):
        asked.clear()
        with watch(**QUICK, listener=quiet):
            until(lambda: len(asked) >= 8)
    words[:] = ["FETCH refused: [THROTTLED] later"]
    asked.clear()
    with watch(after="seen", **QUICK, listener=quiet) as door:
        until(lambda: len(asked) >= 8)
        assert door.jobs() == 1, "the one that is given is taken"
        words.clear()
        until(lambda: marks(door) == {"accepted": 3})


def test_a_mail_refused_before_its_fetch(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail whose size or header the server refuses, and every set with it, goes to quarantine; others are taken."""
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    monkeypatch.setattr(imap_notes, "MOST_TRIES", 1)
    original = ImapSession._fetch
    poison = {"RFC822.SIZE": 2, "BODY.PEEK[HEADER]": 3, "BODYSTRUCTURE": 4}

    def fetch(session: ImapSession, wanted: list[int], parts: str) -> Any:
        if any(what in parts and uid in wanted for what, uid in poison.items()):
            raise RefusedError("FETCH refused: cannot convert")
        return original(session, wanted, parts)

    monkeypatch.setattr(ImapSession, "_fetch", fetch)
    server.deliver(*(mail(number) for number in range(1, 6)))
    with watch(filter={"has_attachment": False}, **QUICK) as door:
        until(lambda: subjects(server, "Postroom-Failed") == ["mail 2", "mail 3", "mail 4"])
        until(lambda: subjects(server, "Postroom") == ["mail 1", "mail 5"])
        assert marks(door) == {"accepted": 2, "quarantined": 3}


def test_headers_come_in_bounded_bulks(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter asks for 50 headers at once, and for the first 64 KiB of each."""
    original = ImapSession.heads
    seen: list[dict[int, bytes]] = []

    def heads(session: ImapSession, wanted: list[int]) -> dict[int, bytes]:
        seen.append(original(session, wanted))
        return seen[-1]

    monkeypatch.setattr(ImapSession, "heads", heads)
    long = "".join(f"X-Long-{number}: {'x' * 900}\r\n" for number in range(100)).encode()
    server.deliver(long + mail(1), *(mail(number) for number in range(2, 53)))
    with watch(filter={"sender": ["*@x.test"]}, **QUICK):
        until(lambda: server.count("Postroom") == 51, 20)
    assert [len(bulk) for bulk in seen] == [50, 2]
    assert len(seen[0][1]) == 65_536
    assert b"Message-ID: <2@x.test>" in seen[0][2]


def test_a_quarantine_is_told_before_it_is_written(
    server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert that fails at first is not lost: the mail stays where it is until a person was told, the others go on."""
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    monkeypatch.setattr(imap_notes, "MOST_TRIES", 1)
    monkeypatch.setattr(imap_accepting, "sender_of", broken_for_two)
    told: list[str] = []

    def alert(key: str, *_: str) -> None:
        told.append(key)
        if len(told) == 1:
            raise OSError(28, "No space left on device")

    server.deliver(mail(2))
    with watch(**QUICK, listener=lambda *given, **named: run(*given, **named, alert=alert)) as door:
        until(lambda: len(told) == 1)
        server.deliver(mail(3))
        until(lambda: marks(door) == {"accepted": 1, "quarantined": 1})
    assert len(told) == 2
    assert len(set(told)) == 1


def broken_for_two(raw: bytes) -> str:
    if b"<2@x.test>" in raw:
        raise IndexError("bug")
    return "a@x.test"


def test_fault_with_one_mail(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours with one mail puts that mail into quarantine after some tries; the others are taken at once."""
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    monkeypatch.setattr(imap_accepting, "sender_of", broken_for_two)
    server.deliver(*(mail(number) for number in (1, 2, 3)))
    with watch(**QUICK) as door:
        until(lambda: server.count("Postroom") == 2)
        until(lambda: server.count("Postroom-Failed") == 1)
        assert door.jobs() == 2


def test_an_outage_is_no_mails_fault(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the ledger is down, no mail is put into quarantine for it."""
    monkeypatch.setattr(imap_folder, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(imap_notes, "FIRST_WAIT_MS", 1)
    with watch(**QUICK) as door, capture_logs() as logs:
        door.intake.fault = LEDGER_DOWN
        server.deliver(mail(1))
        until(lambda: any(entry["event"] == "imap.down" for entry in logs))
        until(lambda: door.intake.refused > imap_notes.MOST_TRIES)
        door.intake.fault = None
        until(lambda: server.count("Postroom") == 1)
        assert marks(door) == {"accepted": 1}


def test_a_full_disk_is_told(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """While each search finds mail that cannot be stored, one alert goes out; its end is told only once it is taken."""
    monkeypatch.setattr(imap_watchdog, "LOOK_EVERY", 0.1)
    subjects_told: list[str] = []

    def told(*arguments: Any, **named: Any) -> None:
        run(*arguments, **named, alert=lambda _key, subject, _text: subjects_told.append(subject))

    with watch(alert_after=1, listener=told, **QUICK) as door:
        rows = door.intake.ledger.imap_folders
        door.intake.fault = Unavailable("blobs", "No space left on device")
        server.deliver(mail(1))
        until(lambda: subjects_told, 20)
        since = rows.get("support", "INBOX").down_since
        time.sleep(1)
        assert rows.get("support", "INBOX").down_since == since > 0
        assert subjects_told == ["mailbox support/INBOX is not read"]
        door.intake.fault = None
        until(lambda: subjects_told[1:] == ["mailbox support/INBOX is read again"])
        assert door.jobs() == 1


def test_killed_between_move_and_ledger(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail that was moved just before the process died is not looked for again, and found when its job ends."""
    original = imap_settling.move

    def move(*arguments: Any) -> Any:
        original(*arguments)
        raise OSError("the process dies here")

    server.deliver(mail(1))
    with monkeypatch.context() as patch:
        patch.setattr(imap_settling, "move", move)
        with watch(done_folder="Done", poll=0.1, wait=1, listener=quiet):
            until(lambda: server.count("Postroom") == 1)
    with watch(done_folder="Done", **QUICK) as door:
        job = door.intake.ledger.jobs.page()[0]
        door.intake.ledger.jobs.cancel(job.id, why="test")
        until(lambda: server.count("Done") == 1)
        until(lambda: server.count("Postroom") == 0)
        assert door.intake.seen == []


def quiet(*arguments: Any, ready: Callable[[str], None]) -> None:
    """The listener, ready before its first round, which will fail."""
    ready("imap: for this test")
    run(*arguments)


def test_a_process_that_dies_fetching_is_counted(ledger: Ledger) -> None:
    """Rows say what was under way: the next process tries those alone, and gives up in the end."""
    place = Place("support", "INBOX", 7)
    rows = ledger.imap_messages
    for number in range(imap_notes.MOST_TRIES):
        notes = Notes(rows, place, Clock(), restarted=True)
        assert notes.given_up() == {}
        assert list(notes.bulks({1: 10, 2: 10, 3: 10})) == ([[1, 2, 3]] if number == 0 else [[3], [1], [2]])
        notes.begin([1, 2])
    assert set(Notes(rows, place, Clock(), restarted=True).given_up()) == {1, 2}
    assert Notes(rows, Place("support", "INBOX", 8), Clock(), restarted=True).given_up() == {}


def test_bulks_are_bounded(ledger: Ledger) -> None:
    """Bulks hold at most 50 messages and 8 MiB, and what was tried before comes last and alone."""
    notes = Notes(ledger.imap_messages, Place("support", "INBOX", 1), Clock())
    notes.begin([7])
    sizes = dict.fromkeys(range(1, 121), 100) | {200: 5_000_000, 201: 5_000_000}
    bulks = list(notes.bulks(sizes))
    assert [len(bulk) for bulk in bulks] == [50, 50, 20, 1, 1]
    assert bulks[-1] == [7]
    assert sorted(uid for bulk in bulks for uid in bulk) == sorted(sizes)


def test_rows_are_forgotten_with_their_messages(ledger: Ledger, intake: Intake) -> None:
    """A row goes when the message has gone and is old; never while the message is there or its job may go on."""
    rows, place = ledger.imap_messages, Place("support", "INBOX", 2)
    rows.accepted(Place("support", "INBOX", 1), [Taken(1, "a", "", 1)], follows=False, now=10)
    rows.accepted(place, [Taken(1, "b", "", 1), Taken(2, "c", "", 1)], follows=False, now=10)
    job = intake.accept(envelope(), b"x").job_id
    rows.accepted(place, [Taken(3, job, "", 1)], follows=True, now=10)
    rows.settled(place, {3: Spot("Postroom", 1, 1)})
    rows.accepted(place, [Taken(4, "e", "", 1)], follows=False, now=99)
    assert rows.forget(place, [1], 50) == 2
    assert set(rows.known(place)) == {1, 3, 4}
    assert rows.known(Place("support", "INBOX", 1)) == {}


def test_filtered_mail_stays_untouched(server: Dovecot, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the filter passes over is not downloaded, not marked, and not asked for again by the next process."""
    asked: list[int] = []
    original = ImapSession.heads
    monkeypatch.setattr(ImapSession, "heads", lambda one, wanted: asked.extend(wanted) or original(one, wanted))
    subject = "=?utf-8?q?Ihre_Rechnung_M=C3=A4rz?="
    server.deliver(mail(1, From="Ann <Ann@Shop.test>", Subject=subject), mail(2, Subject=subject), mail(3))
    rule = {"sender": ["*@shop.test"], "subject": ["*rechnung märz*"]}
    for _ in range(2):
        with watch(filter=rule, **QUICK) as door:
            until(lambda: server.count("Postroom") == 1)
            until(lambda: marks(door).get("filtered") == 2)
    assert uids(server, criteria="UNSEEN") == ["2", "3"]
    assert subjects(server, "Postroom") == ["Ihre Rechnung März"]
    assert asked == [1, 2, 3]
