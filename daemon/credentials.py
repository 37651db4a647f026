"""Secrets that changed reach a running unit: `postroom systemd before-reload UNIT`, the first ExecReload= of each.

systemd copies credentials once, at the unit's start, into a folder that nobody may write. This does what newer versions
of systemd do at a reload: in a mount namespace of its own it makes that folder writable and brings it up to date.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from config.settings import SYSTEM_CREDENTIALS
from tasks.errors import Permanent

LOADED = Path("/run/credentials")
PREFIX = "postroom_"
"""LoadCredential=postroom:/etc/postroom/credentials/ names each file so."""
MOST = 1 << 20
"""Bytes of all credentials of a unit (systemd.exec(5))."""
_CLONE_NEWNS = 0x00020000
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18


def refresh(unit: str, *, source: Path = SYSTEM_CREDENTIALS, loaded: Path = LOADED) -> list[str]:
    """Bring the credentials that `unit` has loaded up to date; the names that changed. Raises Permanent."""
    folder = loaded / unit
    if loaded == LOADED and not folder.is_dir() and not os.geteuid():
        _see_as_systemd()
    if not folder.is_dir():
        return []
    wanted = (
        {f"{PREFIX}{path.name}": path.read_bytes() for path in source.iterdir() if path.is_file()}
        if source.is_dir()
        else {}
    )
    if (size := sum(map(len, wanted.values()))) > MOST:
        raise Permanent(f"the files in {source} have {size} bytes, and systemd takes {MOST}; make them smaller")
    have = {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(PREFIX)}
    changed = sorted(name for name in wanted.keys() | have.keys() if wanted.get(name) != have.get(name))
    if changed:
        _make_writable(folder)
        uid = _owner()
        for name in changed:
            _put(folder / name, wanted.get(name), uid)
    return changed


def _put(path: Path, content: bytes | None, uid: int) -> None:
    if content is None:
        path.unlink()
        return
    made = path.with_name(f".{path.name}")
    made.unlink(missing_ok=True)
    made.touch(0o600)
    made.write_bytes(content)
    made.chmod(0o400)
    os.chown(made, uid, -1)
    made.rename(path)  # a reader sees the old secret or the new one, never half of one


def _see_as_systemd() -> None:
    """Where credentials lie is hidden from every command of a unit, those with full privileges (`+`) as well."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/1/ns/mnt").open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNS) != 0:
            raise Permanent(f"the system's mounts cannot be seen: {os.strerror(ctypes.get_errno())}")


def _owner() -> int:
    """The user of the unit's main process, which systemd names; our own without it."""
    with contextlib.suppress(KeyError, OSError):
        return Path(f"/proc/{os.environ['MAINPID']}").stat().st_uid
    return os.getuid()


def _make_writable(folder: Path) -> None:
    """Only in a mount namespace of ours, and only where it is a mount (in a container it may be a plain folder)."""
    if not folder.is_mount():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    private, writable = _MS_REC | _MS_PRIVATE, _MS_REMOUNT | _MS_BIND
    if (
        libc.unshare(_CLONE_NEWNS) != 0
        or libc.mount(None, b"/", None, private, None) != 0
        or libc.mount(None, bytes(folder), None, writable, None) != 0
    ):
        said = os.strerror(ctypes.get_errno())
        raise Permanent(f"{folder} cannot be made writable: {said}; restart the unit for the new secrets")
