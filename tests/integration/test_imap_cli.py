"""`postroom imap` as an admin types it: run, test, import."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import REPO, postroom
from tests.integration.doors import until
from tests.integration.dovecot import PASSWORD, USER, Dovecot, running
from tests.integration.mailboxes import mail, subjects, uids


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with running() as server:
        yield server


@pytest.fixture
def config(server: Dovecot, tmp_path: Path) -> Path:
    """A configuration with the server's mailbox as [imap.support]."""
    server.empty()
    path = tmp_path / "postroom.toml"
    path.write_text(
        f'[imap.support]\nhost = "127.0.0.1"\nport = {server.imap}\nsecurity = "none"\nuser = "{USER}"\n'
        f'password = {json.dumps(PASSWORD)}\nmax_size = 20000\nfilter.sender = ["*@x.test"]\n'
    )
    return path


def test_test_changes_nothing(server: Dovecot, config: Path, tmp_path: Path) -> None:
    """It tells what the server can do, the folders, and for each message whether it would be taken."""
    server.deliver(mail(1), mail(2, From="spam@elsewhere.test"), mail(3, 30_000))
    ended = postroom("imap", "test", "support", state=tmp_path / "state", config=config)
    assert ended.returncode == 0, ended.stderr
    for line in (
        f"logged in at 127.0.0.1:{server.imap} as {USER} (password, none)",
        "the server can: IDLE, MOVE, UIDPLUS",
        "folder INBOX (read)",
        "folder Postroom (move_to) is not there; the listener will make it",
        "INBOX: 3 messages, 3 not looked at yet",
        "bytes: mail 1",
        "bytes are more than max_size = 20000",
        "pass over 2: its sender fits none of filter.sender",
    ):
        assert line in ended.stdout
    assert uids(server, criteria="UNSEEN") == ["1", "2", "3"]
    assert subjects(server, "Postroom") == []


def test_test_tells_what_is_wrong(server: Dovecot, config: Path, tmp_path: Path) -> None:
    """A wrong password, folder or name is one sentence and exit status 1."""
    state = tmp_path / "state"
    wrong = postroom("imap", "test", "support", state=state, config=config, POSTROOM_IMAP__SUPPORT__PASSWORD="no")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "login of 'support@example.test' refused" in wrong.stderr
    unknown = postroom("imap", "test", "sales", state=state, config=config)
    assert "no account 'sales'; configured: support" in unknown.stderr
    config.write_text(config.read_text() + 'folders = ["INBOX", "Nowhere"]\n')
    missing = postroom("imap", "test", "support", state=state, config=config)
    assert missing.returncode == 1
    assert "cannot open folder 'Nowhere'" in missing.stdout
    assert "INBOX: 0 messages" in missing.stdout


def test_import_takes_old_mail_once(server: Dovecot, config: Path, tmp_path: Path) -> None:
    """What arrived since the day is taken, by today's filter; again it is recognised; the mailbox stays as it was."""
    with server.mailbox() as box:
        box.folder.create("Old mail")
        for number, day in ((1, "01-Jan-2020"), (2, "02-Feb-2024"), (3, "03-Mar-2024")):
            box.client.append('"Old mail"', "", f'"{day} 12:00:00 +0000"', mail(number))  # type: ignore[arg-type]
        box.client.append('"Old mail"', "", '"03-Mar-2024 12:00:00 +0000"', mail(4, From="a@b.test"))  # type: ignore[arg-type]
    arguments = ("imap", "import", "support", "Old mail", "--since", "2024-02-02")
    first = postroom(*arguments, state=tmp_path / "state", config=config)
    assert first.returncode == 0, first.stderr
    assert "2 taken, 0 were jobs already, 1 passed over by size or filter, 0 failed" in first.stdout
    again = postroom(*arguments, state=tmp_path / "state", config=config)
    assert "0 taken, 2 were jobs already" in again.stdout
    assert uids(server, "Old mail", "UNSEEN UNDELETED") == ["1", "2", "3", "4"]
    listed = json.loads(postroom("jobs", "--json", state=tmp_path / "state", config=config).stdout)
    assert {job["source"] for job in listed} == {"imap:support"}


def test_without_a_subcommand_it_watches(server: Dovecot, config: Path, tmp_path: Path) -> None:
    """`postroom imap` alone is the listener, and ends on SIGTERM."""
    server.deliver(mail(1))
    command = [sys.executable, "-m", "daemon.cli", "--config", str(config), "imap"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=REPO, env={"POSTROOM_STATE_DIR": str(tmp_path / "state")}, stderr=log)
    try:
        until(lambda: server.count("Postroom") == 1, 30)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
