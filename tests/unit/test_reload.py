"""New settings are in force as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError, Problem
from config.settings import Settings
from daemon.reload import AT_START, Reloads
from tasks import heart
from tasks.configured import routes_of
from tasks.ledger import Ledger
from tasks.model import Judge
from tasks.worker import Current
from tasks.workshop import Workshop

pytestmark = pytest.mark.sqlite_only


def test_what_is_wrong_is_refused(settings: Settings) -> None:
    """An error while it is read, or from one who would have to take it over, leaves everything as it was."""
    taken: list[Settings] = []

    def wrong() -> Settings:
        raise ConfigError([Problem("file", 1, "key", "is wrong", "mend it")])

    reloads = Reloads(settings, wrong)
    reloads.on(taken.append)
    assert not reloads.reload()
    empty = Reloads(settings, lambda: settings.model_copy(update={"routes_dir": settings.state_dir / "nowhere"}))
    empty.on(taken.append)
    assert not empty.reload()
    assert taken == []
    assert reloads.settings is settings


def test_what_needs_a_restart_is_named(settings: Settings) -> None:
    """Each name in the list is a setting, and the new settings are in force for all others."""
    other = settings.model_copy(update={"log_level": "error"})
    reloads = Reloads(settings, lambda: other)
    assert reloads.reload()
    assert reloads.settings is other
    for name in AT_START:
        found: object = settings
        for part in name.split("."):
            assert hasattr(found, part), name
            found = getattr(found, part)


def test_a_stage_keeps_its_settings(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """The workshop of a running stage stays as it is; the next stage has the new routes, and the same ledger and heart."""
    first = Workshop(settings, routes_of(settings), ledger, Judge(settings.model))
    current = Current(first)
    folder = tmp_path / "routes"
    folder.mkdir()
    (folder / "10-only.toml").write_text('labels.other.says = "Anything."\n')
    current.change(settings.model_copy(update={"routes_dir": folder, "state_dir": tmp_path / "elsewhere"}))
    assert [route.name for route in current.shop.routes] == ["only"]
    assert (current.shop.ledger, current.shop.heart) == (ledger, first.heart)
    assert current.shop.settings.state_dir == settings.state_dir
    assert len(first.routes) > 1
    first.heart.stop()


def test_a_process_that_proc_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ProtectProc=invisible with PrivateUsers a unit does not see another's /proc entry; its leases stay."""
    owner = heart.this_process()
    assert not heart.is_gone(owner)
    monkeypatch.setattr(heart, "Path", lambda path: Path("/nowhere") if path.endswith("/stat") else Path(path))
    assert not heart.is_gone(owner)
    host, _, rest = owner.partition(":")
    assert heart.is_gone(f"{host}:{2**22 + 1}:{rest.rpartition(':')[2]}")
    monkeypatch.setenv("POSTROOM_BOOT_ID", "another boot")
    assert not heart.is_gone(owner)
