"""The status line: what is broken in the words of `postroom check`, or what the process does."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from config.settings import Settings
from daemon import checks, show, status
from daemon.checks import Finding
from daemon.listeners.imap_watchdog import summary
from daemon.notify import notify
from daemon.status import EVERY, EVERY_REMOTE, Status
from tasks import guard as guards
from tasks.errors import Unavailable

pytestmark = pytest.mark.sqlite_only


class Hands:
    """A clock that is moved by hand, and a mail server that is looked at."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0
        self.state = "ok"

    def monotonic(self) -> float:
        return self.now

    def look(self, _settings: Settings) -> Finding:
        self.looks += 1
        return Finding("smtp_out", self.state, "refuses", "start it")


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    guards.forget()  # what other tests of this process have missed
    monkeypatch.setattr(status.time, "monotonic", made.monotonic)
    monkeypatch.setattr(checks, "smtp_out", made.look)
    return made


def test_well(settings: Settings) -> None:
    """What it does, and how many jobs are open."""
    told = Status(lambda: settings)
    told.doing = lambda: "web on http://127.0.0.1:8480"
    assert told.line() == "web on http://127.0.0.1:8480; sqlite, 0 open jobs"


def test_everything_that_is_broken_is_told(settings: Settings) -> None:
    """As `postroom check` prints it, and what the process itself worries about."""
    broken = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    told = Status(lambda: broken)
    told.doing = lambda: "never shown"
    told.worries = lambda: [
        Finding("imap.x", "failed", "refuses the login", "mend it"),
        Finding("imap.y", "ok", "well"),
    ]
    first, second = told.line().split(" | ")
    assert second == "imap.x: refuses the login; mend it"
    assert "never" not in first
    out = io.StringIO()
    assert not show.findings(Console(file=out, width=500), [checks.broker(broken)])
    assert out.getvalue() == f"failed  {first}\n"


def test_the_model_matters_to_its_worker_only(settings: Settings) -> None:
    """A worker for deliveries is well without Ollama."""
    given = settings.model_copy(update={"model": settings.model.model_copy(update={"host": "http://127.0.0.1:1"})})
    assert "model: http://127.0.0.1:1" in Status(lambda: given, ["model"]).line()
    assert "model" not in Status(lambda: given, ["fetch"]).line()


def test_other_peoples_servers_are_asked_seldom(settings: Settings, hands: Hands) -> None:
    """Each five minutes while they are well; as often as our own while they are not."""
    told = Status(lambda: settings, ["deliver"])
    for _ in range(3):
        told.line()
        hands.now += EVERY
    assert hands.looks == 1
    hands.now += EVERY_REMOTE
    hands.state = "failed"
    assert "smtp_out: refuses; start it" in told.line()
    hands.now += EVERY
    hands.state = "ok"
    assert "smtp_out" not in told.line()
    assert hands.looks == 3


def test_what_a_delivery_has_missed_is_looked_at_at_once(settings: Settings, hands: Hands) -> None:
    """The status does not tell for five minutes that all is well, when the process itself knows better."""
    told = Status(lambda: settings, ["deliver"])
    assert "smtp_out" not in told.line()
    hands.state = "failed"
    with pytest.raises(Unavailable), guards.guard("smtp:mail.example:25").call():
        raise Unavailable("smtp:mail.example:25", "refuses the connection")
    assert "smtp_out: refuses; start it" in told.line()
    guards.forget()


def test_the_blob_store_is_told(settings: Settings) -> None:
    """By every process, in the words of `postroom check`."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    (settings.state_dir / "blobs").write_text("no folder")
    found = checks.blobs(settings)
    assert (found.state, found.what) == ("failed", "blobs")
    assert Status(lambda: settings).line() == found.sentence
    assert found in list(checks.dependencies(settings))


def test_what_a_server_says_is_no_order_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break in it is a space, in the status as in `postroom check`, and steers no terminal."""
    told = Finding("smtp_out", "failed", "550 \x1b[2J no\n\tMAINPID=1\nWATCHDOG=trigger", "start it")
    assert told.sentence == "smtp_out: 550 [2J no MAINPID=1 WATCHDOG=trigger; start it"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("READY=1", f"STATUS={told.detail}")
        ready, status_, *others = systemd.recv(4096).decode().splitlines()
    assert (ready, others) == ("READY=1", [])
    assert status_.startswith("STATUS=550")


def test_folders_that_are_not_watched_are_named() -> None:
    """Before the first round, and while a folder is down."""

    class Fake:
        def __init__(self, folder: str, *, heard: bool, down_since: int) -> None:
            self.name, self.folder, self.heard, self.down_since = "support", folder, heard, down_since

    well, new, down = (
        Fake("A", heard=True, down_since=0),
        Fake("B", heard=False, down_since=0),
        Fake("C", heard=True, down_since=1),
    )
    assert summary([well]) == "1 of 1 folders watched"  # type: ignore[list-item]  # what it looks at is all there
    assert summary([well, new, down]) == "1 of 3 folders watched, not support/B, support/C"  # type: ignore[list-item]  # as above
