"""What `postroom systemd install` writes, and how exposed the units are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config.settings import Settings, load
from daemon import credentials, installation, units
from daemon.installation import commands
from tasks.errors import Permanent
from tasks.ledger import Ledger
from tasks.ledger.engine import HEAD

pytestmark = pytest.mark.sqlite_only
MOST_EXPOSED = 1.5
INSTANCES = ("fetch", "extract", "model", "model-gpu", "deliver")


def said(*arguments: str) -> str:
    """What the command prints; it has to end well."""
    ended = CliRunner().invoke(commands, list(arguments))
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything installed."""
    folder = tmp_path_factory.mktemp("root")
    said("install", "--root", str(folder))
    return folder


def services(root: Path) -> list[str]:
    """Each service, and each instance of a template."""
    names = [path.name for path in (root / "etc/systemd/system").glob("postroom-*.service")]
    return [name.replace("@", f"@{one}") for name in names for one in (INSTANCES if "@" in name else ("",))]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_no_unit_is_exposed(root: Path) -> None:
    """`systemd-analyze security` gives every service at most 1.5 of 10."""
    found = {}
    for name in services(root):
        command = ["systemd-analyze", "security", "--offline=true", f"--root={root}", "--no-pager", name]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        (found[name],) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert len(found) == 14
    assert {name: score for name, score in found.items() if float(score) > MOST_EXPOSED} == {}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_understands_every_line(root: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the units, but that other packages are not in this root."""
    rooted = tmp_path / "root"
    shutil.copytree(root, rooted)
    for program in (
        Path(units.own_bin()) / "postroom",
        Path("/lib/systemd/systemd-socket-proxyd"),
        Path("/bin/sh"),
        Path("/bin/kill"),
    ):
        there = rooted / program.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text("#!")
        there.chmod(0o755)
    files = [
        path for path in (rooted / "etc/systemd/system").glob("postroom*") if path.is_file() and "@" not in path.name
    ]
    command = ["systemd-analyze", "verify", "--man=no", f"--root={rooted}", *(path.name for path in files)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    about_us = [line for line in told.stderr.splitlines() if "postroom" in line and "not found" not in line]
    assert about_us == []


def test_installed_again_nothing_changes(root: Path) -> None:
    """What the admin wrote into postroom.toml stays, and without a difference nothing is shown."""
    config = root / "etc/postroom/postroom.toml"
    written = config.read_text()
    config.write_text(written + "# mine\n")
    assert said("install", "--root", str(root)) == ""
    assert config.read_text().endswith("# mine\n")
    config.write_text(written)


def test_the_first_settings_are_right(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/postroom/postroom.toml is read as it is, and names this machine's Redis and Ollama."""
    monkeypatch.delenv("POSTROOM_STATE_DIR", raising=False)
    settings = load(root / "etc/postroom/postroom.toml")
    assert str(settings.state_dir) == "/var/lib/postroom"
    assert settings.broker_url == "redis://127.0.0.1:6379/0"
    assert settings.model.host == "http://127.0.0.1:11434"


def test_a_dry_run_shows_and_writes_nothing(tmp_path: Path) -> None:
    """The difference is the one that `install` would make."""
    told = said("install", "--dry-run", "--root", str(tmp_path))
    assert "+++ /etc/systemd/system/postroom-web.service" in told
    assert list(tmp_path.iterdir()) == []


def test_an_upgrade_removes_what_is_no_more(tmp_path: Path) -> None:
    """A unit of the last version goes; an edited one comes back; an admin's drop-in stays until --purge."""
    folder = tmp_path / "etc/systemd/system"
    said("install", "--root", str(tmp_path))
    (folder / "postroom-old.service").write_text("[Service]\n")
    listed = tmp_path / "etc/postroom/installed-files"
    listed.write_text(listed.read_text() + "/etc/systemd/system/postroom-old.service\n")
    (folder / "postroom.target").write_text("edited\n")
    mine = folder / "postroom-web.service.d" / "override.conf"
    mine.parent.mkdir()
    mine.write_text("[Service]\nMemoryMax=2G\n")
    told = said("upgrade", "--root", str(tmp_path))
    assert "--- /etc/systemd/system/postroom-old.service" in told
    assert "-edited" in told
    assert not (folder / "postroom-old.service").exists()
    said("uninstall", "--root", str(tmp_path))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["override.conf"]
    assert (tmp_path / "etc/postroom/postroom.toml").exists()
    said("uninstall", "--purge", "--root", str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_place_that_the_sandbox_hides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment below /home would only fail at the start of each unit."""
    monkeypatch.setattr("sys.executable", "/home/ada/.venv/bin/python")
    with pytest.raises(Permanent, match="below /opt"):
        units.check_place()


def test_an_old_ledger_is_copied_and_then_migrated(tmp_path: Path) -> None:
    """The copy has the old schema and its jobs; the ledger has this version's."""
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    from tasks.ledger.engine import MIGRATIONS  # noqa: PLC0415

    settings = Settings(state_dir=tmp_path)
    ledger = Ledger(settings.ledger)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database"] = ledger.database
    command.upgrade(config, "0006")
    ledger.close()
    old = installation.outdated(settings)
    assert old == "0006"
    copy = installation.migrate(settings, old)
    assert copy.stat().st_size > 0
    assert installation.outdated(settings) == ""
    ledger = Ledger.open(settings.ledger)
    assert ledger.database.revision() == HEAD
    with ledger.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    ledger.close()
    with pytest.raises(Permanent, match="schema 9999, and this older version"):
        installation.outdated(settings)


def test_credentials_are_brought_up_to_date(tmp_path: Path) -> None:
    """A changed, a new and a removed secret; other credentials of the unit stay."""
    source, loaded = tmp_path / "source", tmp_path / "run"
    unit = loaded / "postroom-web.service"
    for folder in (source, unit):
        folder.mkdir(parents=True)
    (source / "secret").write_text("new")
    (source / "smtp_out__password").write_text("p")
    (unit / "postroom_secret").write_text("old")
    (unit / "postroom_gone").write_text("x")
    (unit / "other").write_text("stays")
    assert credentials.refresh("postroom-web.service", source=source, loaded=loaded) == [
        "postroom_gone",
        "postroom_secret",
        "postroom_smtp_out__password",
    ]
    assert {path.name: path.read_text() for path in unit.iterdir()} == {
        "postroom_secret": "new",
        "postroom_smtp_out__password": "p",
        "other": "stays",
    }
    assert (unit / "postroom_secret").stat().st_mode & 0o777 == 0o400
    assert credentials.refresh("postroom-web.service", source=source, loaded=loaded) == []


def test_credentials_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under their own names, and with the prefix that LoadCredential= gives the files of a folder."""
    (tmp_path / "postroom_smtp_out__password").write_text("one")
    (tmp_path / "secret").write_text("two\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = Settings()
    assert settings.smtp_out.password.get_secret_value() == "one"
    assert settings.secret.get_secret_value() == "two"
