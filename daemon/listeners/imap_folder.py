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
from daemon.listeners.imap_doubts import Doubts, UnprovenError
from daemon.listeners.imap_ends import follows, put_away
from daemon.listeners.imap_notes import Notes
from daemon.listeners.imap_resuming import resume
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
STANDBY_WAIT = 5.0
"""Seconds before it is looked again whether the process that reads the folder has ended."""
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
        self._rows = parts.intake.ledger.imap_messages.owned_by(pulse.claim.owner)
        self._acceptor = Acceptor(parts.name, parts.account, parts.intake, parts.pool)
        self._doubts = Doubts(parts.account, folder, parts.clock)
        self._notes: Notes | None = None
        self._restarted = True
        self._said_ready = False
        self._failures = 0
        self._down_at = 0.0
        self._stuck_until: dict[str, float] = {}
        self._refused_until: dict[int, float] = {}
        self._forget_at = 0.0
        self._log = structlog.get_logger("postroom.imap").bind(account=parts.name, folder=folder)

    def run(self) -> None:
        """Connect and watch until told to stop; after an error wait, longer each time, and connect again."""
        while not self._parts.stop.is_set():
            try:
                if not self._is_ours():
                    self._clock.wait(self._parts.stop, STANDBY_WAIT)
                    continue
                with ImapSession(self._account, self._parts.tokens, self._clock) as session:
                    self._watch(session)
            except Exception as error:  # whatever a server does to us ends this connection, never the watching
                self._notes = None  # a broken-off write may have left the copy behind the ledger
                if isinstance(error, UnprovenError):
                    self._doubts.add(error)
                self._clock.wait(self._parts.stop, self._down(error))
        self._pulse.claim.release()

    def _is_ours(self) -> bool:
        """Whether this process reads the folder; says so when another one does, and when it has ended."""
        if other := self._pulse.claim.take():
            if not self._pulse.standby:
                self._pulse.standby = True
                self._log.warning("imap.read_by_another", by=other)
                self._say_ready(f"{self._folder} is read by {other}; this one waits until that ends")
            return False
        if self._pulse.standby:
            self._pulse.take_over()
            self._restarted = True  # what the other one left under way may have ended it
            self._log.info("imap.taken_over")
        return True

    def _watch(self, session: ImapSession) -> None:
        ensure_folders(session, self._account)
        idle = self._account.idle and session.has("IDLE")
        while not self._parts.stop.is_set():
            again = self.round(session)
            self._up(idle=idle)
            if again or session.told_of_more():
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
        self._resume(session, notes, waiting)
        notes.keep(waiting)
        self._settle(session, notes)  # of an earlier round that did not come to its end
        self._give_up(notes)
        self._doubts.judge(session, notes, waiting)
        due = [uid for uid in waiting if notes.is_due(uid)][:ROUND]
        asker = Asker()
        sizes = asker.ask(session.sizes, due, SIZES_AT_ONCE)
        silent = {uid: "the server tells no size" for uid in due if uid not in sizes}
        notes.unanswered(silent | asker.refused())
        self._take(session, notes, self._wanted(session, notes, sizes))
        self._settle(session, notes)
        if not due and notes.all_through():
            self._pulse.caught_up()
            self._forget(notes, waiting)
        return bool(due)

    def _notes_for(self, validity: int) -> Notes:
        """The notes of the folder as it is now. One made anew (another UIDVALIDITY) is looked at from the start."""
        if self._notes is None or self._notes.place.validity != validity:
            if self._pulse.validity not in {0, validity}:
                self._log.warning("imap.uidvalidity", was=self._pulse.validity, now=validity)
                self._refused_until.clear()
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

    def _resume(self, session: ImapSession, notes: Notes, waiting: Sequence[int]) -> None:
        """Bring to its end what was begun, by an earlier run or before the server refused to go on."""
        if not self._is_stuck("resume"):
            try:
                resume(session, notes, self._account, self._folder, waiting, self._stuck_ones())
            except RefusedError as error:
                self._stuck("resume", str(error))
            else:
                self._stuck_until.pop("resume", None)

    def _settle(self, session: ImapSession, notes: Notes) -> None:
        """Do with each message what its outcome asks for. What the server refuses is tried again later."""
        stuck = self._stuck_ones()
        waiting = {mark: [uid for uid in uids if uid not in stuck] for mark, uids in notes.unsettled().items()}
        refused = settle(session, notes, self._account, self._folder, waiting)
        if refused and not self._refused_until:
            self._log.error("imap.stuck", action="after", messages=len(refused), reason=next(iter(refused.values())))
        left = {uid for uids in notes.unsettled().values() for uid in uids}
        until = dict.fromkeys(refused, self._clock.monotonic() + STUCK_WAIT)
        self._refused_until = {uid: at for uid, at in (self._refused_until | until).items() if uid in left}

    def _stuck_ones(self) -> set[int]:
        """Messages that the server refused to move or mark, and is not asked again about yet."""
        now = self._clock.monotonic()
        return {uid for uid, until in self._refused_until.items() if now < until}

    def _end(self, session: ImapSession) -> None:
        if follows(self._account) and not self._is_stuck("end"):
            try:
                refused = put_away(session, self._rows, self._parts.name, self._account, self._folder)
            except RefusedError as error:
                refused = str(error)
            if refused:
                self._stuck("end", refused)
            else:
                self._stuck_until.pop("end", None)

    def _has_ends(self) -> bool:
        """Whether a job has come to its end, so that its message can be moved now."""
        if not follows(self._account) or self._is_stuck("end"):
            return False
        return bool(self._rows.moves(self._parts.name, self._folder, 1))

    def _is_stuck(self, what: str) -> bool:
        return self._clock.monotonic() < self._stuck_until.get(what, 0)

    def _stuck(self, what: str, reason: str) -> None:
        if what not in self._stuck_until:
            self._log.error("imap.stuck", action=what, reason=reason)
        self._stuck_until[what] = self._clock.monotonic() + STUCK_WAIT

    def _forget(self, notes: Notes, waiting: Sequence[int]) -> None:
        if self._clock.monotonic() >= self._forget_at:
            self._forget_at = self._clock.monotonic() + FORGET_EVERY
            self._rows.forget(notes.place, waiting, self._clock.now_ms() - FORGET_AFTER_MS)

    def _up(self, *, idle: bool) -> None:
        how = "idle" if idle else f"poll every {self._account.poll:g} s"
        self._say_ready(f"{self._account.host}:{self._account.port} {self._folder}, {how}")
        self._pulse.up()
        if self._down_at:
            self._log.info("imap.up", seconds=round(self._clock.monotonic() - self._down_at, 1))
        self._failures, self._down_at = 0, 0.0

    def _say_ready(self, how: str) -> None:
        if not self._said_ready:
            self._parts.ready(f"imap {self._parts.name}: {how}")
            self._said_ready = True

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
