"""The files that an installation under systemd consists of, and where they go."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.settings import SHIPPED
from tasks.errors import Permanent

SOURCE = SHIPPED.parent / "systemd"
PACKAGED_BIN = "/opt/postroom/bin/"
"""What the units say, as the Debian package has it; an installation elsewhere writes its own place there."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  # named to be refused
"""Where the sandbox (ProtectHome, PrivateTmp) shows the processes nothing."""
ETC = Path("/etc/postroom")
STATE = Path("/var/lib/postroom")
LISTED = ETC / "installed-files"
"""What the last installation wrote, so that the next one removes what is no longer part of it."""
ON_THIS_MACHINE = {
    "state_dir": str(STATE),
    "broker_url": "redis://127.0.0.1:6379/0",
    "routes_dir": str(ETC / "routes"),
    "model.host": "http://127.0.0.1:11434",
}
"""What /etc/postroom/postroom.toml sets from the start."""


@dataclass(frozen=True)
class Placed:
    """One file of the installation. `ours` is replaced and removed with it; what is not is written once, for the admin."""

    path: Path
    content: str
    ours: bool = True
    mode: int = 0o644


def files(packaged: bool = False) -> list[Placed]:
    """Everything there is to write. `packaged`: units and the like are a package's (/usr/lib) instead of the admin's (/etc)."""
    places = _packaged() if packaged else _local()
    found = []
    for source in sorted(SOURCE.rglob("*")):
        inner = source.relative_to(SOURCE)
        if source.is_file():
            kind = source.suffix if source.suffix in places else ".service"
            name = Path("postroom.conf") if kind in {".sysusers", ".tmpfiles"} else inner
            text = source.read_text()
            found.append(Placed(places[kind] / name, text if packaged else text.replace(PACKAGED_BIN, own_bin())))
    return [*found, *_for_the_admin()]


def _local() -> dict[str, Path]:
    return {
        ".service": Path("/etc/systemd/system"),
        ".sysusers": Path("/etc/sysusers.d"),
        ".tmpfiles": Path("/etc/tmpfiles.d"),
        ".catalog": Path("/usr/local/lib/systemd/catalog"),
    }


def _packaged() -> dict[str, Path]:
    return {
        ".service": Path("/usr/lib/systemd/system"),
        ".sysusers": Path("/usr/lib/sysusers.d"),
        ".tmpfiles": Path("/usr/lib/tmpfiles.d"),
        ".catalog": Path("/usr/lib/systemd/catalog"),
    }


def _for_the_admin() -> Iterator[Placed]:
    yield Placed(ETC / "postroom.toml", first_settings((SHIPPED / "postroom.toml").read_text()), False, 0o640)
    for route in sorted((SHIPPED / "routes").glob("*.toml")):
        yield Placed(ETC / "routes" / route.name, route.read_text(), False, 0o640)


def first_settings(shipped: str) -> str:
    """The shipped settings file with what differs on a machine of its own."""
    for name, value in ON_THIS_MACHINE.items():
        table, _, key = name.rpartition(".")
        start = shipped.index(f"\n[{table}]\n") if table else 0
        shipped = shipped[:start] + re.sub(rf"(?m)^#{key} = .*$", f'{key} = "{value}"', shipped[start:], count=1)
    return shipped


def own_bin() -> str:
    """The folder of this installation's programs, with a slash at the end."""
    return f"{Path(sys.executable).parent}/"


def check_place() -> None:
    """Raises Permanent when the sandbox would hide programs or code from the processes."""
    for place in (Path(sys.executable).parent, SHIPPED):
        if any(place.is_relative_to(hidden) for hidden in HIDDEN):
            raise Permanent(
                f"{place} is not visible to the units (ProtectHome, PrivateTmp); "
                "install into a virtual environment below /opt"
            )


def difference(root: Path, wanted: Iterable[Placed], gone: Iterable[Path]) -> str:
    """What would change below `root`, as a unified diff; empty when nothing would."""
    parts: list[str] = []
    for one in wanted:
        there = root / one.path.relative_to("/")
        if there.exists() and not one.ours:
            continue
        parts += _diff(one.path, there.read_text() if there.exists() else None, one.content)
    for path in gone:
        parts += _diff(path, (root / path.relative_to("/")).read_text(), None)
    return "".join(parts)


def _diff(path: Path, before: str | None, after: str | None) -> Iterator[str]:
    old = [] if before is None else before.splitlines(keepends=True)
    new = [] if after is None else after.splitlines(keepends=True)
    names = ("/dev/null" if before is None else str(path), "/dev/null" if after is None else str(path))
    return difflib.unified_diff(old, new, *names)


def write(root: Path, wanted: Iterable[Placed]) -> None:
    """Write what is missing or differs; what is the admin's stays as it is."""
    for one in wanted:
        there = root / one.path.relative_to("/")
        if there.exists() and (not one.ours or there.read_text() == one.content):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        made = there.with_name(f".{there.name}.new")
        made.touch(one.mode)
        made.chmod(one.mode)
        made.write_text(one.content)
        made.replace(there)


def remove(root: Path, paths: Iterable[Path]) -> None:
    """Remove files, and the folders that are empty without them."""
    for path in paths:
        there = root / path.relative_to("/")
        there.unlink(missing_ok=True)
        folder = there.parent
        if folder.match("postroom*.d") and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def listed(root: Path) -> list[Path]:
    """What the last installation wrote and is still there."""
    file = root / LISTED.relative_to("/")
    lines = file.read_text().splitlines() if file.exists() else []
    return [Path(line) for line in lines if (root / line.lstrip("/")).exists()]
