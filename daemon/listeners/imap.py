"""Watches mailboxes: fetch without marking, accept, and only then move. One thread for each account.

A round is: open the folder anew, search, ask the sizes, fetch in bulks, accept, move. Between rounds the server is
asked to call (IDLE) or left alone for `poll` seconds. All state that matters is in the mailbox and in the ledger; what
is kept here only saves work, and a restart without it does the same job again without a double.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from imaplib import IMAP4

import structlog

from config.inbound import ImapAccount
from config.settings import Settings
from daemon.listeners.each import run_each
from daemon.listeners.imap_session import ImapSession, LoginRefusedError, RefusedError
from daemon.listeners.suspects import Suspect
from tasks.authres import trusted
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.mailhead import sender_of
from tasks.mailkey import mail_key
from tasks.models import Envelope, Kind

log = structlog.get_logger("postroom.imap")

ROUND = 500
"""Messages looked at in one round."""
BULK_COUNT = 50
BULK_BYTES = 8_388_608
IDLE_AGAIN = 300.0
"""Seconds after which IDLE is started anew; servers and NAT boxes forget longer ones."""
LONGEST_WAIT = 300.0


def run(
    settings: Settings,
    intake: Intake,
    stop: threading.Event,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Watch all accounts until `stop` is set. Calls `ready` once for each account, when it is first connected."""
    say = ready or (lambda line: None)
    loops = {name: Watcher(name, account, intake, stop, say).run for name, account in settings.imap.items()}
    run_each(loops, stop)


@dataclass
class Notes:
    """What is remembered about a folder while its UIDVALIDITY lasts."""

    validity: str = ""
    accepted: set[str] = field(default_factory=set)
    """In the ledger, but not yet moved or marked."""
    suspects: dict[str, Suspect] = field(default_factory=dict)
    stuck: bool = False
    """The server refuses to put away what was accepted; it is logged once."""

    def keep(self, uids: Sequence[str]) -> None:
        """Forget what is no longer in the folder."""
        present = set(uids)
        self.accepted &= present
        self.suspects = {uid: suspect for uid, suspect in self.suspects.items() if uid in present}

    def bulks(self, sizes: dict[str, int]) -> Iterator[list[str]]:
        """Bulks of bounded count and bytes; then those that were suspects at the start, each alone."""
        alone = [[uid] for uid in sizes if uid in self.suspects]
        bulk: list[str] = []
        total = 0
        for uid, size in sizes.items():
            if [uid] in alone:
                continue
            if bulk and (len(bulk) >= BULK_COUNT or total + size > BULK_BYTES):
                yield bulk
                bulk, total = [], 0
            bulk.append(uid)
            total += size
        if bulk:
            yield bulk
        yield from alone

    def is_due(self, uid: str) -> bool:
        """Whether a message may be tried now."""
        suspect = self.suspects.get(uid)
        return uid not in self.accepted and (suspect is None or suspect.is_due())


class Watcher:
    """Watches one account."""

    def __init__(
        self, name: str, account: ImapAccount, intake: Intake, stop: threading.Event, ready: Callable[[str], None]
    ) -> None:
        self._name = name
        self._account = account
        self._intake = intake
        self._stop = stop
        self._ready: Callable[[str], None] | None = ready
        self._notes = Notes()
        self._failures = 0
        self._down_since = 0.0
        self._log = log.bind(account=name)

    def run(self) -> None:
        """Connect and watch until `stop` is set; after an error wait, longer each time, and connect again."""
        while not self._stop.is_set():
            try:
                with ImapSession(self._account) as session:
                    self._watch(session)
            except Exception as error:  # whatever a server does to us ends this connection, never the watching
                self._stop.wait(self._down(error))

    def _watch(self, session: ImapSession) -> None:
        for folder in (self._account.done_folder, self._account.failed_folder):
            session.ensure(folder)
        idle = self._account.idle and session.has("IDLE")
        while not self._stop.is_set():
            taken = self.round(session)
            self._up(idle=idle)
            if taken:
                continue
            if idle:
                session.idle(min(self._account.poll, IDLE_AGAIN), self._stop)
            else:
                self._stop.wait(self._account.poll)

    def round(self, session: ImapSession) -> int:
        """Take what waits. Returns how many messages were accepted."""
        validity = session.select()
        if validity != self._notes.validity:
            if self._notes.validity:
                self._log.warning("imap.uidvalidity", was=self._notes.validity, now=validity)
            self._notes = Notes(validity)
        waiting = session.search()
        self._notes.keep(waiting)
        self._settle(session, sorted(self._notes.accepted, key=int))
        sizes = session.sizes([uid for uid in waiting if self._notes.is_due(uid)][:ROUND])
        large = [uid for uid, size in sizes.items() if size > self._account.max_size]
        for uid in large:
            self._refuse(session, uid, f"{sizes.pop(uid)} bytes are more than max_size = {self._account.max_size}")
        return sum(self._take(session, bulk) for bulk in self._notes.bulks(sizes) if not self._stop.is_set())

    def _take(self, session: ImapSession, bulk: list[str]) -> int:
        """Fetch, accept and settle some messages. An error of one of them is noted before it is raised."""
        for uid in bulk:  # guilty until accepted: if this ends the process of fetching, the next try is alone
            self._notes.suspects.setdefault(uid, Suspect())
        try:
            messages = session.fetch(bulk)
        except Exception as error:
            if len(bulk) == 1:  # within a bulk it may have been another one's fault
                self._notes.suspects[bulk[0]].again()
            if not isinstance(error, RefusedError):
                raise
            self._log.warning("imap.unreadable", uids=len(bulk), reason=str(error))
            return 0
        accepted = [uid for uid in bulk if self._accept(session, uid, messages.get(uid))]
        self._settle(session, accepted)
        return len(accepted)

    def _accept(self, session: ImapSession, uid: str, raw: bytes | None) -> bool:
        if not raw:
            self._notes.suspects[uid].again()
            return False
        try:
            self._intake.accept(self._envelope(raw), raw)
        except Unavailable:
            raise
        except Permanent as error:
            self._refuse(session, uid, error.reason)
            return False
        except Exception:  # a fault of ours with this message: it stays where it is, and the others go on
            self._log.exception("imap.fault", uid=uid)
            self._notes.suspects[uid].again()
            return False
        del self._notes.suspects[uid]
        self._notes.accepted.add(uid)
        return True

    def _envelope(self, raw: bytes) -> Envelope:
        return Envelope(
            source=f"imap:{self._name}",
            kind=Kind.MAIL,
            key=mail_key(raw),
            sender=sender_of(raw),
            recipients=(self._account.address or self._account.user,),
            content_type="message/rfc822",
            headers=trusted(raw, self._account.authserv_id),
        )

    def _settle(self, session: ImapSession, uids: Sequence[str]) -> None:
        """Put away what is in the ledger. What cannot be put away is not fetched again, only put away later."""
        if not uids:
            return
        try:
            if self._account.done_folder:
                session.move(uids, self._account.done_folder)
            else:
                session.mark_seen(uids)
        except RefusedError as error:
            if not self._notes.stuck:
                self._log.error("imap.stuck", folder=self._account.done_folder, reason=str(error))
            self._notes.stuck = True
            return
        self._notes.stuck = False
        self._notes.accepted.difference_update(uids)

    def _refuse(self, session: ImapSession, uid: str, reason: str) -> None:
        """Put a message that will never be accepted where a person finds it."""
        self._log.error("imap.refused", uid=uid, reason=reason, folder=self._account.failed_folder)
        self._notes.suspects[uid] = Suspect(due=float("inf"))
        if self._account.failed_folder:
            with contextlib.suppress(RefusedError):  # then it stays, and is left alone
                session.move([uid], self._account.failed_folder)

    def _up(self, *, idle: bool) -> None:
        if self._ready:
            how = "idle" if idle else f"poll every {self._account.poll:g} s"
            where = f"{self._account.host}:{self._account.port} {self._account.folder}"
            self._ready(f"imap {self._name}: {where}, {how}")
            self._ready = None
        if self._down_since:
            self._log.info("imap.up", seconds=round(time.monotonic() - self._down_since, 1))
        self._failures, self._down_since = 0, 0.0

    def _down(self, error: Exception) -> float:
        """Log the first error of an outage; returns the seconds to wait: doubled each time, with jitter."""
        if not self._down_since:
            self._down_since = time.monotonic()
            self._log.warning("imap.down", reason=_reason(error))
        base = 30.0 if isinstance(error, LoginRefusedError) else 1.0
        self._failures += 1
        wait: float = min(LONGEST_WAIT, base * 2 ** min(self._failures - 1, 10))
        return wait * random.uniform(0.5, 1)  # noqa: S311  # jitter keeps no secret


def _reason(error: Exception) -> str:
    """An error as an admin reads it, at most 300 characters."""
    if isinstance(error, LoginRefusedError | RefusedError | Unavailable):
        return str(error)[:300]
    if isinstance(error, IMAP4.abort):
        return f"the connection was lost: {error}"[:300]
    return f"{type(error).__name__}: {error}"[:300]
