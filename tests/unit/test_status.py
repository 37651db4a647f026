"""The status line: what is broken in the words of `postroom check`, or what the process does."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from config.settings import Settings
from daemon import checks, show, status
from daemon.checks import Finding
from daemon.listeners.imap_watchdog import summary
from daemon.status import EVERY, EVERY_REMOTE, Status

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
