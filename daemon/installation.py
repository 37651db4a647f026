"""`postroom systemd`: install, upgrade and uninstall what runs Postroom under systemd. Nothing is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigError, Problem
from config.settings import SYSTEM_FILE, Settings, load
from daemon import credentials, units
from daemon.backup import take
from daemon.console import as_owner
from daemon.units import Placed
from tasks.configured import routes_of
from tasks.errors import Permanent
from tasks.ledger import Ledger
from tasks.ledger.engine import HEAD

commands = typer.Typer(
    name="systemd",
    help="Install, upgrade and uninstall the units of systemd.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
SERVICES = "postroom-*.service"
DOORS = ("postroom-web.service", "postroom-smtp.service")
OTHERS = tuple(f"postroom-{name}.service" for name in ("worker@*", "imap", "folder", "rescue", "broker", "flower"))
BOOTED = Path("/run/systemd/system")
"""There while systemd runs (sd_booted(3)); in a chroot files are written, and nothing is started."""
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Root = Annotated[Path, typer.Option("--root", help="Work in this folder instead of /, and run nothing.")]
Packaged = Annotated[bool, typer.Option("--packaged", hidden=True, help="The units are a package's.")]


@commands.command()
def install(dry_run: DryRun = False, root: Root = Path("/"), packaged: Packaged = False) -> None:
    """Write units, account, folders, catalog and /etc/postroom, and enable the target; it is started by you."""
    _write(root, dry_run=dry_run, packaged=packaged)
    if _acts(root, dry_run):
        _take_over()
        _run("systemctl", "enable", "postroom.target")
        print("installed; write /etc/postroom/postroom.toml, then: systemctl start postroom.target")


@commands.command()
def upgrade(dry_run: DryRun = False, root: Root = Path("/"), packaged: Packaged = False) -> None:
    """Write the units of this version, migrate the ledger after a backup of it, and restart what runs."""
    _write(root, dry_run=dry_run, packaged=packaged)
    if not _acts(root, dry_run):
        return
    _take_over()
    runs = _is_active("postroom.target")
    settings = load(SYSTEM_FILE)
    with as_owner(settings):
        old = outdated(settings)
    if old:
        _run("systemctl", "stop", SERVICES)  # the sockets go on listening, and clients wait
        with as_owner(settings):
            print(f"the ledger was copied to {migrate(settings, old)}, and has schema {HEAD} now")
    elif runs:
        _run("systemctl", "try-restart", *DOORS)  # alone, so that those who wait at the sockets wait the least
        _run("systemctl", "try-restart", *OTHERS)
    if runs:
        _run("systemctl", "start", "postroom.target")


@commands.command()
def uninstall(
    dry_run: DryRun = False,
    root: Root = Path("/"),
    packaged: Packaged = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Remove /etc/postroom, /var/lib/postroom with all messages, and the account."),
    ] = False,
) -> None:
    """Stop everything and remove what `install` wrote. Configuration and messages stay, unless --purge."""
    acts = _acts(root, dry_run)
    if acts:
        _needs_root()
    if acts and _is_known("postroom.target"):
        _run("systemctl", "disable", "--now", "postroom.target")
        _run("systemctl", "stop", "postroom-*.timer", "postroom-*.socket", SERVICES, "postroom.slice")
    gone = [] if packaged else sorted({*units.listed(root), *(one.path for one in _there(root))})
    print(units.difference(root, [], gone), end="")
    if dry_run:
        return
    units.remove(root, [*gone, units.LISTED])
    if purge:
        _purge(root, runs=acts)
    if acts and not packaged:  # a package's own files are still there
        _run("systemctl", "daemon-reload")
        _run("journalctl", "--update-catalog")
    kept = "" if purge else "; /etc/postroom and /var/lib/postroom stay (--purge removes them)"
    print(f"uninstalled{kept}")


@commands.command(hidden=True)
def before_reload(unit: Annotated[str, typer.Argument(metavar="UNIT")]) -> None:
    """Bring the credentials of a running unit up to date, and refuse a configuration that is wrong: with status 2."""
    from daemon import checks  # noqa: PLC0415  # with its HTTP, IMAP and SMTP, for which no other command should wait

    if changed := credentials.refresh(unit):
        print(f"credentials changed: {', '.join(changed)}")
    settings = load()
    routes_of(settings)
    if problems := [one.detail for one in checks.of_templates(settings)]:
        raise ConfigError([Problem(str(settings.templates_dir), None, "", said, "mend it") for said in problems])


def outdated(settings: Settings) -> str:
    """The schema of a ledger that has to be migrated; empty when there is none, or it is right.

    Raises Permanent for one of a newer version.
    """
    ledger = Ledger(settings.ledger)
    try:
        found = ledger.database.revision() or ""
    finally:
        ledger.close()
    if found > HEAD:
        raise Permanent(
            f"the ledger has schema {found}, and this older version knows {HEAD}; install the newer version again, "
            f"or restore a backup of this one: ls {settings.state_dir / 'backup'}"
        )
    return found if found != HEAD else ""


def migrate(settings: Settings, old: str) -> Path:
    """Copy the ledger, then bring its schema to this version; where the copy is. Raises Permanent or Unavailable."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    file = settings.state_dir / "backup" / f"before-{HEAD}-{stamp}.tar"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    ledger = Ledger(settings.ledger)
    try:
        take(settings, ledger, file, revision=old)
        try:
            ledger.database.migrate()
        except Exception as error:  # whatever it stumbles over, there has to be a way back
            raise Permanent(
                f"the ledger could not be migrated: {error}; nothing was started. The version before this one goes on "
                f"after `postroom restore --force {file}`"
            ) from error
    finally:
        ledger.close()
    return file


def _write(root: Path, *, dry_run: bool, packaged: bool) -> None:
    wanted = units.files(packaged)
    if root == Path("/"):
        units.check_place()
        if not dry_run:
            _needs_root()
    ours = {one.path for one in wanted if one.ours}
    gone = [] if packaged else [path for path in units.listed(root) if path not in ours]
    print(units.difference(root, wanted, gone), end="")
    if dry_run:
        return
    units.write(root, wanted)
    units.remove(root, gone)
    if not packaged:
        listed = Placed(units.LISTED, "".join(f"{path}\n" for path in sorted(ours)))
        units.write(root, [listed])


def _needs_root() -> None:
    if os.geteuid():
        raise Permanent("only root may do this; run it with sudo, or look with --dry-run")


def _there(root: Path) -> list[Placed]:
    return [one for one in units.files() if one.ours and (root / one.path.relative_to("/")).exists()]


def _acts(root: Path, dry_run: bool) -> bool:
    return root == Path("/") and not dry_run


def _take_over() -> None:
    """The account and the folders first: the units need them."""
    _run("systemd-sysusers", "postroom.conf")
    _run("systemd-tmpfiles", "--create", "postroom.conf")
    for path in (units.ETC / "postroom.toml", *(units.ETC / "routes").glob("*.toml")):
        shutil.chown(path, "root", "postroom")
    _run("journalctl", "--update-catalog")
    if BOOTED.is_dir():
        _run("systemctl", "daemon-reload")


def _purge(root: Path, *, runs: bool) -> None:
    for path in (units.ETC, units.STATE, Path("/run/postroom")):
        shutil.rmtree(root / path.relative_to("/"), ignore_errors=True)
    for edited in (root / "etc/systemd/system").glob("postroom*.d"):
        shutil.rmtree(edited)
    for stamp in (root / "var/lib/systemd/timers").glob("stamp-postroom-*.timer"):
        stamp.unlink()
    if runs:
        _run("userdel", "postroom", fails=print)


def _is_active(unit: str) -> bool:
    return _status("systemctl", "is-active", "--quiet", unit) == 0


def _is_known(unit: str) -> bool:
    return _status("systemctl", "--quiet", "list-unit-files", unit) == 0


def _run(*command: str, fails: Callable[[str], object] | None = None) -> None:
    """Run a program of systemd's; what it says goes where ours does. Raises Permanent when it fails."""
    if not (status := _status(*command)):
        return
    said = f"`{' '.join(command)}` ended with status {status}"
    if fails is None:
        raise Permanent(said)
    fails(said)


def _status(*command: str) -> int:
    return subprocess.run(command, check=False).returncode
