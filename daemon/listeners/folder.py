"""Watches drop folders: a file that stands still is claimed, accepted, and only then put away.

    path/invoice.pdf -> path/.work/<token>/invoice.pdf -> path/.done/invoice.pdf
                                                       `-> path/.failed/invoice.pdf and invoice.pdf.reason

The claim is a rename, which one process wins. What a crash leaves in `.work` is taken again by whoever looks first,
and the ledger recognises what it has already.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import mimetypes
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from config.errors import ConfigError, Problem
from config.inbound import FolderListener
from config.settings import Settings
from daemon.listeners.each import run_each
from daemon.listeners.suspects import Suspect
from daemon.process import Process
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.models import Envelope, Kind

log = structlog.get_logger("postroom.folder")

ROUND = 1000
"""Files taken in one look."""
ABANDONED = 60.0
"""Seconds after which a claim of another process counts as left behind; a claim lasts milliseconds."""


class RefusedError(Exception):
    """A file that will never be accepted, and why."""


def serve(process: Process, intake: Intake, stop: threading.Event) -> None:
    """Watch until `stop` is set; a reload begins anew with the new settings."""
    process.turns(stop, lambda settings, turn: run(settings, intake, turn, ready=process.ready))


def run(
    settings: Settings,
    intake: Intake,
    stop: threading.Event,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Watch all drop folders until `stop` is set. Calls `ready` for each. Raises ConfigError for an unusable one."""
    watchers = {name: Watcher(name, options, intake, stop) for name, options in settings.folder.items()}
    for name, watcher in watchers.items():
        watcher.prepare()
        if ready:
            ready(f"folder {name}: {watcher.path}, every {settings.folder[name].poll:g} s")
    run_each({name: watcher.run for name, watcher in watchers.items()}, stop)


class Watcher:
    """Watches one folder."""

    def __init__(self, name: str, options: FolderListener, intake: Intake, stop: threading.Event) -> None:
        self._name = name
        self._options = options
        self._intake = intake
        self._stop = stop
        self.path = options.path.absolute()
        self._work = self.path / ".work"
        self._done = (options.done or self.path / ".done").absolute()
        self._failed = (options.failed or self.path / ".failed").absolute()
        self._seen: dict[str, tuple[int, int, float]] = {}
        self._ours: set[Path] = set()
        self._suspects: dict[Path, Suspect] = {}
        self._is_down = False
        self._log = log.bind(folder=name)

    def prepare(self) -> None:
        """Make the folders. Raises ConfigError for one that cannot be made or written."""
        for key, folder in (("path", self.path), ("path", self._work), ("done", self._done), ("failed", self._failed)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
                reason = "" if usable else "permission denied"
            except OSError as error:
                reason = error.strerror or str(error)
            if reason:
                what = f"cannot use {folder}: {reason}"
                instead = "name a folder that Postroom may read and write"
                raise ConfigError([Problem("settings", None, f"folder.{self._name}.{key}", what, instead)])

    def run(self) -> None:
        """Look every `poll` seconds until `stop` is set; an error ends one look, never the watching."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:
                if not self._is_down:
                    self._log.warning("folder.down", reason=f"{type(error).__name__}: {error}"[:300])
                self._is_down = True
            else:
                if self._is_down:
                    self._log.info("folder.up")
                self._is_down = False
            self._stop.wait(self._options.poll)

    def look(self) -> None:
        """Take what is ready. Raises Unavailable when it cannot be stored; the claimed files are taken next time."""
        for name in self._settled():
            self._claim(name)
        for claim in self._claims():
            if self._stop.is_set():
                return
            try:
                self._take(claim)
            except Unavailable:
                raise
            except Exception:  # a fault with this file: it stays claimed, and the others go on
                self._log.exception("folder.fault", claim=claim.name)
                self._suspects.setdefault(claim, Suspect()).again()

    def _settled(self) -> Iterator[str]:
        """Names of files whose size and time of change have stood still long enough."""
        now = time.monotonic()
        seen: dict[str, tuple[int, int, float]] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if len(seen) >= ROUND:
                    break
                if self._is_ignored(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                size, changed, since = self._seen.get(entry.name, (-1, -1, now))
                is_still = (size, changed) == (found.st_size, found.st_mtime_ns)
                seen[entry.name] = (found.st_size, found.st_mtime_ns, since if is_still else now)
        self._seen = seen
        return (name for name, (_, _, since) in sorted(seen.items()) if now - since >= self._options.settle)

    def _is_ignored(self, name: str) -> bool:
        return name.startswith(".") or any(fnmatch.fnmatch(name.lower(), one) for one in self._options.ignore)

    def _claim(self, name: str) -> None:
        """Make a file ours by renaming it; when it has gone, another process was faster."""
        claim = self._work / secrets.token_hex(8)
        claim.mkdir()
        try:
            (self.path / name).rename(claim / name)
        except FileNotFoundError:
            claim.rmdir()
            return
        self._ours.add(claim)

    def _claims(self) -> list[Path]:
        """What we claimed, and what a process that has ended left behind."""
        now = time.time()
        found = []
        for claim in sorted(self._work.iterdir()):
            try:
                is_free = claim in self._ours or now - claim.stat().st_mtime > ABANDONED
                if is_free and self._suspects.get(claim, Suspect()).is_due():
                    found.append(claim)
            except FileNotFoundError:
                continue
        return found[:ROUND]

    def _take(self, claim: Path) -> None:
        """Accept the file in a claim and put it away."""
        for file in list(claim.iterdir()):
            try:
                raw = self._read(file)
                self._intake.accept(self._envelope(file.name, raw), raw)
            except Unavailable:
                raise
            except FileNotFoundError:
                continue  # another process was faster with what was left behind
            except (RefusedError, Permanent, PermissionError) as error:
                reason = "may not be read: permission denied" if isinstance(error, PermissionError) else str(error)
                self._log.error("folder.refused", file=file.name, reason=reason)
                self._put_away(file, self._failed, reason)
            else:
                self._put_away(file, self._done)
        self._ours.discard(claim)
        self._suspects.pop(claim, None)
        with contextlib.suppress(OSError):
            claim.rmdir()

    def _read(self, file: Path) -> bytes:
        """The file's bytes; symbolic links, devices and pipes are refused, as is what is too large or empty."""
        limit = self._options.max_size
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RefusedError("is a symbolic link") from None
            raise
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RefusedError("is no regular file")
            raw = stream.read(limit + 1)
        if not raw:
            raise RefusedError("is empty")
        if len(raw) > limit:
            raise RefusedError(f"is larger than max_size = {limit} bytes")
        return raw

    def _envelope(self, name: str, raw: bytes) -> Envelope:
        is_mail = name.lower().endswith(".eml")
        digest = hashlib.sha256(os.fsencode(name) + b"\0")
        digest.update(raw)
        guess = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Envelope(
            source=f"folder:{self._name}",
            kind=Kind.MAIL if is_mail else Kind.FILE,
            key=digest.hexdigest(),
            sender=self._options.sender,
            content_type="message/rfc822" if is_mail else guess,
            name=os.fsencode(name).decode("utf-8", "replace"),
        )

    def _put_away(self, file: Path, folder: Path, reason: str = "") -> None:
        """Move a file under a name that is free, with the reason beside it when there is one."""
        target = reserved(folder, file.name)
        try:
            file.replace(target)
        except FileNotFoundError:
            target.unlink()
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                target.unlink()
                raise
            shutil.copy2(file, target, follow_symlinks=False)
            file.unlink()
        if reason:
            target.with_name(target.name + ".reason").write_text(reason + "\n", "utf-8")


def reserved(folder: Path, name: str) -> Path:
    """Make an empty file in `folder` called `name`, or `name-2.pdf`, `name-3.pdf`, ... when that is taken."""
    suffix = Path(name).suffix
    suffix = suffix if len(os.fsencode(suffix)) <= 50 else ""
    stem = name.removesuffix(suffix)
    number = 1
    while True:
        tail = (f"-{number}" if number > 1 else "") + suffix
        room = 255 - len(os.fsencode(tail)) - len(".reason")
        target = folder / (os.fsencode(stem)[:room].decode("utf-8", "ignore") + tail)
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        except FileExistsError:
            number += 1
            continue
        return target
