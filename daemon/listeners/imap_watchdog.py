"""Whether each folder is still searched: told to the ledger (for /readyz), to systemd, and once to a person.

A watcher that hangs or fails says nothing, and a mailbox that nobody reads looks just like one without mail. So each
folder keeps the time of its last whole search, and somebody else looks at it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from config.imap import ImapAccount
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_owner import Claim
from daemon.notify import notify, watchdog_every
from tasks.clock import DAY_MS, iso
from tasks.errors import Unavailable
from tasks.ledger.imap_folders import ImapFolders, Watched

Alert = Callable[[str, str, str], object]
"""Tells a person: key (the same for the same matter), subject, text."""

log = structlog.get_logger("postroom.imap")
WRITE_EVERY_MS = 10_000
LOOK_EVERY = 5.0


class Pulse:
    """Signs of life of one folder. Written by its thread, read by the watchdog."""

    def __init__(self, rows: ImapFolders, name: str, account: ImapAccount, folder: str, clock: Clock) -> None:
        self.name, self.account, self.folder = name, account, folder
        self._rows = rows
        self._clock = clock
        self.heard = False
        """Whether this process has ended a whole round, or failed to."""
        self.claim = Claim(rows, name, folder, clock)
        self.standby = False
        """Another process reads the folder and tells of it; this one waits."""
        self.take_over()

    def take_over(self) -> None:
        """Begin with what is known of the folder, from this process or another. Raises Unavailable."""
        self.standby, self._written = False, 0
        before = self._rows.get(self.name, self.folder)
        self._began = self.searched_at = self._clock.now_ms()
        """When the last whole search ended, or this process began to read."""
        self.down_since = before.down_since
        self.reason = before.reason
        self.validity = before.validity
        self._since = first_cut_off(before, self.account, self._began)
        self._down_written = bool(before.down_since)
        self.alerted = bool(before.alerted)

    @property
    def alive_at(self) -> int:
        """When the folder was last well, for all that this process knows: an outage counts from its first error."""
        return min(self.searched_at, max(self.down_since, self._began)) if self.down_since else self.searched_at

    @property
    def since(self) -> datetime | None:
        """The day from which on mail is looked at, by its arrival; None: all of it.

        It is `max_age_days` ago, or before what arrived while the folder could not be read, however long that was.
        """
        return looked_at_since(self.account, self._since, self._clock.now_ms())

    def caught_up(self) -> None:
        """Nothing in the folder waits any more, so that the cut-off may follow the calendar. Raises Unavailable."""
        now = self._youngest()
        if self.account.max_age_days and now // DAY_MS > self._since // DAY_MS:
            self._update(since=now)
            self._since = now

    def _youngest(self) -> int:
        return self._clock.now_ms() - self.account.max_age_days * DAY_MS

    def searched(self, validity: int) -> None:
        """The whole folder was searched; an outage lasts until what was found is taken as well.

        Raises Unavailable: without the ledger nothing is taken anyway.
        """
        now = self._clock.now_ms()
        if validity != self.validity or now - self._written >= WRITE_EVERY_MS:
            self._update(searched_at=now, validity=validity, **self._cut_off())
            self._written = now
        self.searched_at, self.validity = now, validity

    def up(self) -> None:
        """A whole round came to its end: searched, fetched, accepted. Raises Unavailable."""
        if self.down_since:
            self._update(down_since=0, reason="")
        self.down_since, self.reason, self.heard, self._down_written = 0, "", True, False

    def down(self, reason: str) -> None:
        """The folder cannot be searched now, or what is in it cannot be taken."""
        self.reason, self.heard = reason, True
        self.down_since = self.down_since or self._clock.now_ms()
        if self._down_written:
            return
        with contextlib.suppress(Unavailable):
            self._update(down_since=self.down_since, reason=reason, **self._cut_off())
            self._down_written = True

    def _update(self, **values: int | str) -> None:
        self._rows.update(self.name, self.folder, by=self.claim.owner, **values)

    def _cut_off(self) -> dict[str, int]:
        return {"since": self._since} if self.account.max_age_days else {}

    def timed(self, milliseconds: int) -> None:
        """How long the last mail to ourselves was on its way. Raises Unavailable."""
        self._update(canary_ms=milliseconds, canary_at=self._clock.now_ms())

    def note_alert(self, *, alerted: bool) -> None:
        """Remember over a restart that this outage was told, or that its end was."""
        self.alerted = alerted
        with contextlib.suppress(Unavailable):
            self._update(alerted=int(alerted))


def first_cut_off(before: Watched, account: ImapAccount, now: int) -> int:
    """Since when mail is looked at by who begins now to read a folder, `before` telling how it fared; milliseconds."""
    return before.since or (before.searched_at or now) - account.max_age_days * DAY_MS


def looked_at_since(account: ImapAccount, since: int, now: int) -> datetime | None:
    """The day from which on mail is looked at at `now` (milliseconds), given a folder's cut-off; None: all of it."""
    if not account.max_age_days:
        return None
    return datetime.fromtimestamp(min(since, now - account.max_age_days * DAY_MS) / 1000, UTC)


def summary(pulses: Sequence[Pulse]) -> str:
    """`2 of 3 folders watched`, with those that are not."""
    down = [f"{pulse.name}/{pulse.folder}" for pulse in pulses if pulse.down_since or not pulse.heard]
    told = f"{len(pulses) - len(down)} of {len(pulses)} folders watched"
    return f"{told}, not {', '.join(down)}" if down else told


class Watchdog:
    """Looks at all folders."""

    def __init__(self, pulses: Sequence[Pulse], alert: Alert, clock: Clock) -> None:
        self._pulses = pulses
        self._alert = alert
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Look every few seconds until `stop` is set; feed systemd while every folder is searched, and say that we live.

        READY is said when each folder has been tried: a server that is down is an outage, not a failed start.
        """
        every, ready = watchdog_every(LOOK_EVERY), False
        while not stop.is_set():
            if self.look():
                notify("WATCHDOG=1")
            if not ready and all(pulse.heard for pulse in self._pulses):
                ready = True
                notify("READY=1")
            for pulse in self._pulses[:1]:  # it speaks for the whole process
                pulse.claim.beat()
            self._clock.wait(stop, every)

    def look(self) -> bool:
        """Tell what has to be told; whether every folder was searched lately enough."""
        now = self._clock.now_ms()
        fresh = True
        for pulse in self._pulses:
            if pulse.standby:
                continue
            silence = (now - pulse.alive_at) / 1000
            stale = silence > pulse.account.stale_after
            since = pulse.down_since or pulse.searched_at
            late = (now - since) / 1000 > pulse.account.alert_after
            down = stale or (pulse.heard and pulse.down_since and late)
            if down and not pulse.alerted:
                self._tell_down(pulse, since)
            elif pulse.alerted and not pulse.down_since and not stale and pulse.heard:
                self._tell_up(pulse)
            fresh = fresh and not stale
        return fresh

    def _tell_down(self, pulse: Pulse, since: int) -> None:
        where = f"{pulse.name}/{pulse.folder}"
        reason = pulse.reason or "its search does not come to an end"
        self._say(
            f"imap-down:{where}:{since}",
            f"mailbox {where} is not read",
            f"Since {iso(since)} Postroom cannot read {pulse.folder!r} at {pulse.account.host}: {reason}. "
            "Mail waits there; nothing is lost. One more message comes when it is read again.\n\n"
            f"  postroom imap test {pulse.name}     tries it now and says what is wrong\n\n"
            f"Then mend the server, or [imap.{pulse.name}]; it goes on by itself.",
            pulse,
            alerted=True,
        )

    def _tell_up(self, pulse: Pulse) -> None:
        where = f"{pulse.name}/{pulse.folder}"
        self._say(
            f"imap-up:{where}:{pulse.searched_at}",
            f"mailbox {where} is read again",
            f"Postroom reads {pulse.folder!r} at {pulse.account.host} again since {iso(pulse.searched_at)}. "
            "There is nothing to do.",
            pulse,
            alerted=False,
        )

    def _say(self, key: str, subject: str, text: str, pulse: Pulse, *, alerted: bool) -> None:
        """Tell first, then remember it: what could not be told is told at the next look."""
        try:
            self._alert(key, subject, text)
            pulse.note_alert(alerted=alerted)
        except Exception as error:  # a full disk, say; whoever looks after the others must not end for it
            log.exception("imap.alert_not_told", key=key, reason=str(error))
