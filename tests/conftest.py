"""What many tests use: a ledger of their own, an envelope, and settings that point nowhere else.

Every test that takes the fixture `ledger` (by itself or by another fixture) runs twice: on SQLite and on PostgreSQL,
unless it is marked `sqlite_only`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import hypothesis
import pytest
import structlog
from alembic.config import Config

from config.settings import Settings
from tasks import ids
from tasks.blobs import Blobs
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.engine import Database
from tasks.models import Delivery, Envelope, Kind, Outcome
from tests import memory
from tests.integration import postgres

os.environ.setdefault("OMP_THREAD_LIMIT", "1")
if found := memory.folder():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(found))
hypothesis.settings.register_profile(
    "shared",  # machines that run these tests are shared: how long one example takes tells nothing
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared")
structlog.configure(  # Rich's coloured tracebacks take a second of processor time each, and nobody reads them here
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session", autouse=True)
def _ids_in_order() -> Iterator[None]:
    """Jobs of one millisecond have ids in the order in which they came, so that a test may name the first of them."""
    numbers = itertools.count(secrets.randbits(79))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_next_random", numbers.__next__)
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Twice for what works on a ledger; a test may choose by parametrising `ledger_url` itself."""
    chosen = any("ledger_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    once = metafunc.definition.get_closest_marker("sqlite_only")
    if "ledger" in metafunc.fixturenames and not chosen and not once:
        metafunc.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session", autouse=True)
def _copied_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new ledger on SQLite is a copy of one that Alembic has made: every upgrade from something older is the real one."""
    upgrade = alembic.command.upgrade
    made = tmp_path_factory.mktemp("schema") / "ledger.db"

    def copy(config: Config, revision: str, **options: Any) -> None:
        database: Database = config.attributes["database"]
        if not database.is_sqlite or revision != "head" or database.revision():
            upgrade(config, revision, **options)
            return
        if not made.exists():
            template = Database(f"sqlite:///{made}")
            config.attributes["database"] = template
            upgrade(config, "head")
            template.close()
        with contextlib.closing(sqlite3.connect(made)) as source, database.engine.connect() as target:
            driver = target.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            source.backup(driver)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alembic.command, "upgrade", copy)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One private PostgreSQL for all tests of this process."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where this test's ledger lies: empty for SQLite in the state folder, or a PostgreSQL database of its own."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield ""
        return
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    name = f"test_{secrets.token_hex(6)}"
    yield server.migrated(name)
    server.drop(name)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger_url: str) -> Settings:
    """Defaults in a folder of the test's own, whatever the environment says."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_") and not name.startswith("POSTROOM_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSTROOM_TEST_LEDGER_URL", ledger_url)  # for the processes that a test starts
    return Settings(state_dir=tmp_path / "state", ledger_url=ledger_url)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """An empty ledger, on SQLite and on PostgreSQL."""
    opened = Ledger.open(settings.ledger)
    yield opened
    opened.close()


@pytest.fixture
def intake(settings: Settings, ledger: Ledger) -> Iterator[Intake]:
    """The door into `ledger`."""
    door = Intake(ledger, Blobs(settings.blobs_dir), settings.inline_limit)
    yield door
    door._arrivals.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    """Deliveries that went out; the transport itself is tested with real servers elsewhere."""
    out: list[Delivery] = []

    def send(delivery: Delivery, _settings: Settings) -> Outcome:
        out.append(delivery)
        return Outcome(detail="250 ok", code=250)

    monkeypatch.setattr("tasks.sending.deliver", send)
    return out


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
