"""Watches one folder of a mailbox: fetch without marking, accept, and only then touch the message.

A round is: put away what has come to its end, open the folder anew, search all of it, ask the sizes, pass over what the
filter says, fetch in bulks, accept, write down, act. Between rounds the server is asked to call (IDLE) or left alone
for `poll` seconds. What was done with which message stands in the ledger; nothing is skipped because of its number.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from config.imap import IDLE_LONGEST, ImapAccount
from daemon.listeners.imap_accepting import Acceptor, UnderWay
from daemon.listeners.imap_asking import Asker, Fetcher, reason_of
from daemon.listeners.imap_canary import Canary
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_ends import follows, put_away
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_session import SIZES_AT_ONCE, ImapSession, LoginRefusedError, RefusedError, Tokens
from daemon.listeners.imap_settling import ensure_folders, settle
from daemon.listeners.imap_sorting import sort_out
from daemon.listeners.imap_watchdog import Alert, Pulse
from tasks.errors import Unavailable
from tasks.intake import Intake
from tasks.ledger.imap_messages import Mark, Place

ROUND = 500
"""Messages taken in one round; the folder is searched again after it, so that a long backlog looks alive."""
IDLE_SHORTEST = 300.0
LONGEST_WAIT = 300.0
STUCK_WAIT = 300.0
"""Seconds before the server is asked again for a move that it refused."""
FORGET_EVERY = 86_400.0
FORGET_AFTER_MS = 30 * 86_400_000


@dataclass(frozen=True)
class Parts:
    """What the watchers of one account share."""

    name: str
    account: ImapAccount
    intake: Intake
    stop: threading.Event
    ready: Callable[[str], None]
    alert: Alert
    tokens: Tokens | None
    pool: ThreadPoolExecutor
    clock: Clock
    canary: Canary | None = None


class FolderWatch:
    """Watches one folder."""

    def __init__(self, parts: Parts, folder: str, pulse: Pulse) -> None:
        self._parts = parts
        self._account = parts.account
        self._folder = folder
        self._pulse = pulse
        self._clock = parts.clock
        self._rows = parts.intake.ledger.imap_messages
        self._acceptor = Acceptor(parts.name, parts.account, parts.intake, parts.pool)
        self._notes: Notes | None = None
        self._restarted = True
        self._said_ready = False
        self._failures = 0
        self._down_at = 0.0
        self._stuck_until: dict[str, float] = {}
        self._forget_at = 0.0
        self._log = structlog.get_logger("postroom.imap").bind(account=parts.name, folder=folder)

    def run(self) -> None:
        """Connect and watch until told to stop; after an error wait, longer each time, and connect again."""
        while not self._parts.stop.is_set():
            try:
                with ImapSession(self._account, self._parts.tokens, self._clock) as session:
                    self._watch(session)
            except Exception as error:  # whatever a server does to us ends this connection, never the watching
                self._notes = None  # a broken-off write may have left the copy behind the ledger
                self._clock.wait(self._parts.stop, self._down(error))

    def _watch(self, session: ImapSession) -> None:
        ensure_folders(session, self._account)
        idle = self._account.idle and session.has("IDLE")
        while not self._parts.stop.is_set():
            again = self.round(session)
            self._up(idle=idle)
            if again:
                continue
            longest = random.uniform(IDLE_SHORTEST, IDLE_LONGEST)  # noqa: S311  # jitter keeps no secret
            if idle:
                session.idle(min(self._account.poll, longest), self._parts.stop, self._has_ends)
            else:
                self._clock.wait(self._parts.stop, self._account.poll)

    def round(self, session: ImapSession) -> bool:
        """Take what waits. Returns whether to look again at once."""
        self._end(session)
        validity = session.select(self._folder)
        notes = self._notes_for(validity)
        waiting = session.search(self._pulse.since)
        self._pulse.searched(validity)
        notes.keep(waiting, self._account.move_to if self._account.after == "move" else "")
        self._settle(session, notes)  # of an earlier round that did not come to its end
        self._forget(notes, waiting)
        self._give_up(notes)
        due = [uid for uid in waiting if notes.is_due(uid)][:ROUND]
        asker = Asker()
        sizes = asker.ask(session.sizes, due, SIZES_AT_ONCE)
        silent = {uid: "the server tells no size" for uid in due if uid not in sizes}
        notes.unanswered(silent | asker.refused())
        self._take(session, notes, self._wanted(session, notes, sizes))
        self._settle(session, notes)
        if not due and notes.all_through():
            self._pulse.caught_up()
        return bool(due)

    def _notes_for(self, validity: int) -> Notes:
        """The notes of the folder as it is now. One made anew (another UIDVALIDITY) is looked at from the start."""
        if self._notes is None or self._notes.place.validity != validity:
            if self._pulse.validity not in {0, validity}:
                self._log.warning("imap.uidvalidity", was=self._pulse.validity, now=validity)
            place = Place(self._parts.name, self._folder, validity)
            self._notes = Notes(self._rows, place, self._clock, restarted=self._restarted)
            self._restarted = False
        return self._notes

    def _give_up(self, notes: Notes) -> None:
        """Put messages that had their last try into quarantine, by themselves, and tell a person.

        Tell first: a process that ends in between tells it again under the same key, which is no second alert.
        """
        where = f"{self._parts.name}/{self._folder}"
        for uid, reason in notes.given_up().items():
            try:
                self._parts.alert(
                    f"imap-quarantine:{where}:{notes.place.validity}:{uid}",
                    f"a message in mailbox {where} cannot be taken",
                    f"Message {uid} in {self._folder!r}: {reason}. It goes to {self._account.failed_folder!r} "
                    "(empty: stays where it is) and is not tried again; the other mail goes on.\n\n"
                    "Look at it in the mailbox. If it is wanted, save it as a file and hand it in: "
                    "`postroom submit FILE.eml`.",
                )
            except Exception as error:  # told and written at the next round; the other mail does not wait for it
                self._log.exception("imap.alert_not_told", uid=uid, reason=reason_of(error))
                continue
            notes.pass_over({uid: reason}, Mark.QUARANTINED)
            self._log.error("imap.quarantined", uid=uid, reason=reason, to=self._account.failed_folder)

    def _wanted(self, session: ImapSession, notes: Notes, sizes: dict[int, int]) -> dict[int, int]:
        """The messages to fetch. The others are written down with their reason, so that they are not asked for again."""
        found = sort_out(session, self._account, sizes, self._parts.canary.sent_at if self._parts.canary else None)
        self._refuse(notes, found.too_large, Mark.TOO_LARGE)
        for uid, reason in found.unwanted.items():
            self._log.info("imap.passed_over", uid=uid, reason=reason)
        notes.pass_over(found.unwanted, Mark.FILTERED)
        notes.unanswered(found.refused)
        return found.wanted

    def _refuse(self, notes: Notes, why: dict[int, str], mark: Mark) -> None:
        for uid, reason in why.items():
            self._log.error("imap.refused", uid=uid, reason=reason, to=self._account.failed_folder)
        notes.pass_over(why, mark)

    def _take(self, session: ImapSession, notes: Notes, sizes: dict[int, int]) -> None:
        """Fetch and accept messages, a bulk on its way to the disk while the next one comes in."""
        under_way: UnderWay = {}
        fetcher = Fetcher(session, notes)
        try:
            for bulk in notes.bulks(sizes):
                if self._parts.stop.is_set():
                    break
                messages = fetcher.fetch(bulk)
                before, under_way = under_way, {}
                self._finish(notes, before)
                under_way = self._acceptor.start(self._without_canaries(notes, messages))
        finally:
            self._finish(notes, under_way)

    def _without_canaries(self, notes: Notes, messages: dict[int, bytes]) -> dict[int, bytes]:
        """Take our own mails to ourselves out, and note how long they were on their way until this is on disk."""
        canary = self._parts.canary
        sent = {uid: canary.sent_at(raw) for uid, raw in messages.items()} if canary else {}
        own = {uid: at for uid, at in sent.items() if at}
        notes.pass_over(dict.fromkeys(own, "sent by Postroom to itself"), Mark.CANARY)
        for at in own.values():
            took = self._clock.now_ms() - at
            self._log.info("imap.canary", milliseconds=took)
            self._pulse.timed(took)
        return {uid: raw for uid, raw in messages.items() if uid not in own}

    def _finish(self, notes: Notes, under_way: UnderWay) -> None:
        """Write down what became of each. Raises Unavailable when the ledger was down, at no message's cost."""
        outcomes = self._acceptor.finish(under_way)
        notes.accepted(outcomes.taken, follows=follows(self._account))
        self._refuse(notes, outcomes.refused, Mark.QUARANTINED)
        for uid, error in outcomes.faults.items():
            self._log.error("imap.fault", uid=uid, exc_info=error)
            notes.failed(uid, f"cannot be accepted: {reason_of(error)}")
        if outcomes.outage:
            with contextlib.suppress(Unavailable):  # what cannot be written now is the outage itself
                notes.spare(outcomes.waiting)
            raise outcomes.outage

    def _settle(self, session: ImapSession, notes: Notes) -> None:
        """Do with each message what its outcome asks for. What the server refuses is tried again later."""
        waiting = notes.unsettled()
        if waiting and not self._is_stuck("after"):
            try:
                settle(session, notes, self._account, self._folder, waiting)
            except RefusedError as error:
                self._stuck("after", error)
            else:
                self._stuck_until.pop("after", None)

    def _end(self, session: ImapSession) -> None:
        if follows(self._account) and not self._is_stuck("end"):
            try:
                put_away(session, self._rows, self._parts.name, self._account, self._folder)
            except RefusedError as error:
                self._stuck("end", error)
            else:
                self._stuck_until.pop("end", None)

    def _has_ends(self) -> bool:
        """Whether a job has come to its end, so that its message can be moved now."""
        if not follows(self._account) or self._is_stuck("end"):
            return False
        return bool(self._rows.moves(self._parts.name, self._folder, 1))

    def _is_stuck(self, what: str) -> bool:
        return self._clock.monotonic() < self._stuck_until.get(what, 0)

    def _stuck(self, what: str, error: RefusedError) -> None:
        if what not in self._stuck_until:
            self._log.error("imap.stuck", action=what, reason=str(error))
        self._stuck_until[what] = self._clock.monotonic() + STUCK_WAIT

    def _forget(self, notes: Notes, waiting: Sequence[int]) -> None:
        if self._clock.monotonic() >= self._forget_at:
            self._forget_at = self._clock.monotonic() + FORGET_EVERY
            self._rows.forget(notes.place, waiting, self._clock.now_ms() - FORGET_AFTER_MS)

    def _up(self, *, idle: bool) -> None:
        if not self._said_ready:
            how = "idle" if idle else f"poll every {self._account.poll:g} s"
            where = f"{self._account.host}:{self._account.port} {self._folder}"
            self._parts.ready(f"imap {self._parts.name}: {where}, {how}")
            self._said_ready = True
        self._pulse.up()
        if self._down_at:
            self._log.info("imap.up", seconds=round(self._clock.monotonic() - self._down_at, 1))
        self._failures, self._down_at = 0, 0.0

    def _down(self, error: Exception) -> float:
        """Log the first error of an outage; returns the seconds to wait: doubled each time, with jitter."""
        reason = reason_of(error)
        self._pulse.down(reason)
        if not self._down_at:
            self._down_at = self._clock.monotonic()
            self._log.warning("imap.down", reason=reason)
        base = 30.0 if isinstance(error, LoginRefusedError) else 1.0
        self._failures += 1
        wait: float = min(LONGEST_WAIT, base * 2 ** min(self._failures - 1, 10))
        return wait * random.uniform(0.5, 1)  # noqa: S311  # jitter keeps no secret
