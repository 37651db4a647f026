"""Carries what a process counts (tasks/meters.py) to the ledger, so that one scrape tells it of all processes."""

from __future__ import annotations

import threading

from tasks.errors import Unavailable
from tasks.ledger import Ledger
from tasks.meters import METERS, Meters

EVERY = 5.0
"""Seconds between two writes; none is made while nothing changed."""
GAUGES_EVERY = 3
"""At each third one all gauges are told again: those of a process that is silent are forgotten."""


class Recorder:
    """One thread for a process."""

    def __init__(self, ledger: Ledger, owner: str, meters: Meters = METERS) -> None:
        self._ledger = ledger
        self._owner = owner
        self._meters = meters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, write what is left, and take back how this process stood."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write(gauges=False)
        try:
            self._ledger.tallies.forget(self._owner)
        except Unavailable:
            return  # the gauges grow old by themselves

    def write(self, *, gauges: bool = True) -> bool:
        """Carry over what there is; False when the ledger does not answer, and then nothing is lost."""
        taken, standing = self._meters.take(), self._meters.gauges() if gauges else []
        if not taken and not standing:
            return True
        try:
            self._ledger.tallies.add(taken, standing, self._owner)
        except Unavailable:
            self._meters.give_back(taken)
            return False
        return True

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(EVERY):
            self.write(gauges=turn % GAUGES_EVERY == 0)
            turn += 1
