"""What every stage needs at hand, opened once a process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from config.routes import Route
from config.settings import Settings
from tasks.clock import HOUR_MS, now_ms
from tasks.configured import message_id_secret, own_addresses, passwords_of, routes_of
from tasks.heart import Heart, this_process
from tasks.ledger import Ledger
from tasks.loops import over_cap
from tasks.model import Judge, Models
from tasks.outages import Reporter
from tasks.readers import Known
from tasks.recorder import Recorder
from tasks.review.answers import Answers
from tasks.review.desk import Desk
from tasks.stages.extract import Tools as ExtractTools
from tasks.stages.reply import Answering
from tasks.stores import open_store
from tasks.trust import Believing


def judge_of(settings: Settings) -> Judge:
    """The judge of a process that may not be the only one to ask the model."""
    return Judge(
        settings.model,
        settings.templates_dir,
        calibrations=settings.calibration_file,
        turns=turns_of(settings),
        slots=settings.worker.model_concurrency,
    )


def models_of(settings: Settings) -> Models:
    """The models themselves, under the same turns."""
    return Models(settings.model, turns_of(settings), settings.worker.model_concurrency)


def turns_of(settings: Settings) -> Path:
    """The folder in which the processes of this machine agree whose turn it is."""
    return settings.state_dir / "turns"


class Workshop:
    """Settings, routes, ledger, blobs, the model and this process's heart."""

    def __init__(
        self, settings: Settings, routes: Sequence[Route], ledger: Ledger, judge: Judge, before: Workshop | None = None
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.ledger = ledger
        self.blobs = open_store(settings)
        self.judge = judge
        self.owner = this_process()
        self.heart: Heart = before.heart if before else Heart(ledger, settings.worker.shortest_lease())
        self.reporter: Reporter = before.reporter if before else Reporter(settings, ledger)
        self.recorder: Recorder = before.recorder if before else Recorder(ledger, self.owner)
        self._secret = message_id_secret(settings)
        self.answering = Answering(settings, judge, self._secret, self._over_cap, ledger.deliveries.ordinals)
        self.answers = Answers(settings, ledger, Desk(settings, ledger, self.blobs, lambda: self.routes))
        self._own_addresses = own_addresses(settings)
        self._believing = Believing(settings.trust, ledger.jobs.known)

    @classmethod
    def open(cls, settings: Settings) -> Workshop:
        """With what it counts being written down. Raises ConfigError, Unavailable (ledger) or Permanent (its schema)."""
        shop = cls(settings, routes_of(settings), Ledger.open(settings.ledger), judge_of(settings))
        shop.reporter.start()
        shop.recorder.start()
        return shop

    def again(self, settings: Settings) -> Workshop:
        """A workshop with new settings, routes and templates, and with this one's ledger and threads. Raises ConfigError.

        Where state and ledger lie does not change.
        """
        fixed = {"state_dir": self.settings.state_dir, "ledger_url": self.settings.ledger_url}
        merged = settings.model_copy(update=fixed)
        return Workshop(merged, routes_of(settings), self.ledger, judge_of(merged), self)

    def known(self) -> Known:
        """What was read before, for one message."""
        return Known(self.ledger.readings, self._secret)

    def reading_tools(self) -> ExtractTools:
        """What reading one message needs."""
        passwords = partial(passwords_of, self.settings)
        return ExtractTools(self._own_addresses, self._believing, self.routes, passwords, self.known())

    def close(self) -> None:
        """Stop its threads, and close the ledger."""
        self.reporter.stop()
        self.heart.stop()
        self.recorder.stop()
        self.ledger.close()

    def _over_cap(self, recipient: str) -> str:
        if not recipient:
            return ""
        now = now_ms()
        times = self.ledger.deliveries.sent_to(recipient, now - HOUR_MS)
        return over_cap(times, now, ((self.settings.smtp_out.max_replies_per_hour, HOUR_MS),))
