"""What goes wrong, and when: a schedule that follows from the seed, in lanes that run beside each other."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.disk import Disk
from tests.chaos.place import Place
from tests.chaos.wrecking import Wrecking

PARTS = ("worker", "worker", "model worker", "rescue", "web", "smtp", "imap")
LANES: dict[str, tuple[float, dict[str, int]]] = {
    "parts": (
        4,
        {
            "kill": 20,
            "terminate": 6,
            "freeze": 8,
            "kill in delivery": 6,
            "kill reader": 4,
            "kill up": 1,
            "terminate up": 1,
        },
    ),
    "broker": (20, {"kill": 4, "flush": 4, "fill": 3, "freeze": 3, "pause clients": 2}),
    "network": (25, {"cut": 3, "part": 3, "forget": 2}),
    "model": (30, {"kill": 2, "freeze": 2}),
    "disk": (40, {"fill": 3, "lock ledger": 2}),
}
"""Lane: seconds between two faults on average, and how often each kind comes beside the others."""
LONGEST = {
    "freeze": 12.0,
    "pause clients": 8.0,
    "fill": 8.0,
    "part": 12.0,
    "cut": 8.0,
    "kill": 4.0,
    "lock ledger": 17.0,
}
"""Seconds that a fault lasts at the most: `kill` of broker and model, until they are started again."""
AT_ONCE = 0.2


@dataclass(frozen=True)
class Fault:
    """One entry of the schedule; times are seconds, `at` since the start."""

    at: float
    lane: str
    kind: str
    seconds: float
    part: str = ""

    @property
    def name(self) -> str:
        """What the table counts."""
        return f"{self.part or self.lane}: {self.kind}"


def schedule(seed: int, seconds: float) -> list[Fault]:
    """Every fault of a run, in order: the same for the same seed and length."""
    faults = []
    for lane, (gap, kinds) in LANES.items():
        dice = random.Random(f"{seed} {lane}")
        at = dice.uniform(0, gap)
        while at < seconds:
            kind = dice.choices(list(kinds), list(kinds.values()))[0]
            single = lane == "parts" and kind in {"kill", "terminate", "freeze"}
            lasts = kind in LONGEST and not (single and kind == "kill")
            lasting = dice.uniform(AT_ONCE, LONGEST[kind]) if lasts else AT_ONCE
            faults.append(Fault(at, lane, kind, lasting, dice.choice(PARTS) if single else ""))
            at += lasting + dice.uniform(0.2, 2 * gap)
    return sorted(faults, key=lambda fault: fault.at)


class Mischief:
    """Carries a schedule out, each lane in a thread of its own."""

    def __init__(self, place: Place, disk: Disk, faults: list[Fault], told: Callable[[str], None]) -> None:
        self._wrecking = Wrecking(place, disk)
        self._faults, self._told = faults, told
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        """Faults that found nothing to break: the part was being started again."""
        self.broken: list[str] = []
        """What failed in the campaign itself."""
        lanes = [[fault for fault in faults if fault.lane == lane] for lane in LANES]
        self._threads = [threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in lanes]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait for the last fault's end, and leave everything whole."""
        for thread in self._threads:
            thread.join()
        if self._wrecking.up_has_ended():
            self.broken.append("postroom up ended by itself")
        self._wrecking.mend()

    def stop(self) -> None:
        """Begin no further fault."""
        self._stop.set()

    def _run(self, lane: list[Fault]) -> None:
        began = time.monotonic()
        for fault in lane:
            if self._stop.wait(max(0.0, began + fault.at - time.monotonic())):
                return
            lasting = f" for {fault.seconds:.1f} s" if fault.seconds > AT_ONCE else ""
            self._told(f"{fault.at:7.1f} s  {fault.name}{lasting}")
            try:
                happened = self._wrecking.do(fault.lane, fault.kind, fault.part, fault.seconds)
            except Exception:  # the campaign's own fault: told, and the run counts as broken
                self.broken.append(f"{fault.name}: {traceback.format_exc()}")
                with contextlib.suppress(Exception):
                    self._wrecking.mend()
                continue
            (self.done if happened else self.missed)[fault.name] += 1
