"""What `postroom rescue` does about outages: one alert when one lasts, one when it has ended, and their way out.

The alert of an outage of the ledger cannot be written while it lasts: the journal tells it at once, the alert follows
when the ledger is back, with both times. While the broker is away no worker hears of an alert: it is sent from here.
"""

from __future__ import annotations

import threading

import structlog

from config.settings import Settings
from tasks import log, pipeline
from tasks.alerts import alert
from tasks.clock import iso, now_ms
from tasks.errors import Unavailable
from tasks.ledger import Ledger, Outage
from tasks.outages import AGAIN_MS, Reporter, words_for
from tasks.workshop import Workshop, judge_of

MOST_AT_ONCE = 20
"""Alerts sent from here at one look."""
_log = structlog.get_logger("postroom.outages")


class Watcher:
    """Looks at each tick of the rescue. Any number may run: a key is told once."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._after_ms = int(settings.alerts.outage_after * 1000)
        self._silence_ms = int(2000 * max(900, settings.worker.backoff_cap))
        """So long after its last failure nobody can be waiting for it any more."""
        self._ledger_away: tuple[int, str] | None = None
        self._broker_away: int | None = 0
        """Since when; 0 at first: another process may have left it open."""
        self._written = 0
        self._proved = 0
        self._reporter = Reporter(settings, ledger)
        self._carrier = Carrier(settings, ledger, self._reporter)

    def look(self, broker: str) -> None:
        """Tell what is to be told. `broker` says why the broker does not answer; empty when it does. Raises Unavailable."""
        now = now_ms()
        if abs(now - self._proved) >= AGAIN_MS:  # one that only answers takes no message: a full disk, for instance
            self._ledger.database.check_writable()
            self._proved = now
        self._ledger_is_back(now)
        self._look_at_broker(broker, now)
        self._reporter.look()
        for outage in self._ledger.outages.all():
            self._tell(outage, now)
        if broker and self._broker_away and now - self._broker_away >= self._after_ms:
            self._carrier.go()

    def ledger_down(self, error: Unavailable) -> None:
        """The ledger did not answer: one line, however often it is said."""
        if error.dependency != "ledger":
            log.rescue_waits(error.reason)
        elif self._ledger_away is None:
            self._ledger_away = (now_ms(), error.reason)
            log.rescue_waits(error.reason)

    def _ledger_is_back(self, now: int) -> None:
        if self._ledger_away is None:
            return
        since, reason = self._ledger_away
        self._ledger.outages.passed("ledger", since, now, reason)
        self._ledger_away = None
        _log.warning("ledger works again", seconds=round((now - since) / 1000, 1))

    def _look_at_broker(self, reason: str, now: int) -> None:
        if not reason:
            if self._broker_away is not None:
                self._ledger.outages.worked("redis", now)
            self._broker_away = None
        elif not self._broker_away or abs(now - self._written) >= AGAIN_MS:
            self._broker_away = self._broker_away or now
            self._ledger.outages.failed("redis", self._broker_away, now, reason, settle_ms=self._after_ms)
            self._written = now

    def _tell(self, outage: Outage, now: int) -> None:
        lasted = (outage.ended_at or now) - outage.since
        if outage.ended_at is None:
            if now - outage.last_failure_at > self._silence_ms:
                self._ledger.outages.worked(outage.name, outage.last_failure_at)
            elif outage.told_at is None and lasted >= self._after_ms:
                self._begun(outage, now)
        elif outage.end_told_at is None and lasted >= self._after_ms and self._stays(outage.ended_at, outage, now):
            self._ended(outage, outage.ended_at, now)

    def _stays(self, ended_at: int, outage: Outage, now: int) -> bool:
        """What fails again at once has not ended. The ledger has, or nothing could be told."""
        return outage.name == "ledger" or now - ended_at >= self._after_ms

    def _begun(self, outage: Outage, now: int) -> None:
        words = words_for(outage.name)
        text = (
            f"{words[0].upper()}{words[1:]} has not worked since {iso(outage.since)}: {outage.reason}\n\n"
            "Jobs that need it wait and lose no attempt; they go on by themselves when it is back, and you are told.\n"
            "`postroom check` looks at everything that Postroom depends on.\n"
        )
        alert(self._ledger, self._settings, _key(outage), f"{words} does not work", text)
        self._ledger.outages.told(outage, now, end=False)

    def _ended(self, outage: Outage, ended_at: int, now: int) -> None:
        words = words_for(outage.name)
        minutes = (ended_at - outage.since) / 60_000
        text = (
            f"{words[0].upper()}{words[1:]} did not work from {iso(outage.since)} to {iso(ended_at)}"
            f" ({minutes:.0f} minutes), at last because: {outage.reason}\n\n"
            "It has not failed since. What waited for it goes on by itself; nothing has to be done.\n"
        )
        alert(self._ledger, self._settings, f"{_key(outage)}:end", f"{words} works again", text)
        self._ledger.outages.told(outage, now, end=True)


class Carrier:
    """Sends alerts without a broker: the same stage, under the same lease, from a thread of this process."""

    def __init__(self, settings: Settings, ledger: Ledger, reporter: Reporter) -> None:
        self._settings = settings
        self._ledger = ledger
        self._reporter = reporter
        self._shop: Workshop | None = None
        self._thread: threading.Thread | None = None

    def go(self) -> None:
        """Send what is due, unless that is being done already."""
        if self._thread and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            due = self._ledger.backlog.own(MOST_AT_ONCE)
            if due and self._shop is None:
                self._shop = Workshop(self._settings, (), self._ledger, judge_of(self._settings))
                self._shop.reporter = self._reporter
            for job_id in due:
                if self._shop:
                    pipeline.run(self._shop, job_id, pipeline.STAGES[-1])
        except Unavailable:
            return  # the ledger: the rescue tells it, and asks again


def _key(outage: Outage) -> str:
    return f"outage:{outage.name}:{outage.since}"
