"""What many tests use: a ledger of their own, an envelope, and settings that point nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from config.settings import Settings
from tasks.blobs import Blobs
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Envelope, Kind

os.environ.setdefault("OMP_THREAD_LIMIT", "1")
hypothesis.settings.register_profile(
    "shared",  # machines that run these tests are shared: how long one example takes tells nothing
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Defaults in a folder of the test's own, whatever the environment says."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_") and not name.startswith("POSTROOM_TEST_")]:
        monkeypatch.delenv(name)
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """An empty ledger on SQLite."""
    opened = Ledger.open(settings.ledger)
    yield opened
    opened.close()


@pytest.fixture
def intake(settings: Settings, ledger: Ledger) -> Iterator[Intake]:
    """The door into `ledger`."""
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    yield door
    door._arrivals.close()


def envelope(key: str = "k1", **changes: object) -> Envelope:
    """An envelope of a small mail."""
    values = {
        "source": "smtp",
        "kind": Kind.MAIL,
        "key": key,
        "sender": "a@sender.example",
        "content_type": "message/rfc822",
    }
    return Envelope(**{**values, **changes})
