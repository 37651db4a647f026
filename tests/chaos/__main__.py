"""A campaign: steady traffic through a whole Postroom while everything around and inside it fails; then the reckoning.

    python -m tests.chaos [--minutes 30] [--seed N] [--rate 1] [--keep]

Prints the seed, each fault as it is made, and a table. Exit status 0 when each accepted message ended exactly once and
every repeat at the sinks was recognisable as one, 1 when not, 2 when the campaign could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.disk import Disk, small_disk
from tests.chaos.mischief import Mischief, schedule
from tests.chaos.place import Place
from tests.chaos.reckoning import Reckoning, hook_arrivals, mail_arrivals, reckon, unended
from tests.chaos.table import Run, table
from tests.chaos.traffic import WAYS, Traffic
from tests.integration import dovecot

MEGABYTES, MEGABYTES_A_MESSAGE = 64, 0.06
"""Size of the disk: room for all that comes, and not much more."""
SETTLE, STILL = 300.0, 120.0
"""Seconds after the last fault in which everything has to be acknowledged; then, seconds in which some job has to end."""


def main() -> int:
    """Run one campaign; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long things fail")
    parser.add_argument("--seed", type=int, default=0, help="repeat the schedule of an earlier run")
    parser.add_argument("--rate", type=float, default=1, help="messages a second by each way in")
    parser.add_argument("--keep", action="store_true", help="leave the ledger and the log behind for a look")
    told = parser.parse_args()
    if told.minutes <= 0 or told.rate <= 0:
        parser.error("--minutes and --rate have to be above 0")
    seed = told.seed or time.time_ns() % 1_000_000 + 1
    folder = Path(tempfile.mkdtemp(prefix="postroom-chaos-")).resolve()
    (folder / "state").mkdir()
    room = MEGABYTES + int(told.minutes * 60 * told.rate * len(WAYS) * MEGABYTES_A_MESSAGE)
    disk = small_disk(folder / "state", folder / "postroom.toml", room)  # before any thread: namespaces are theirs
    try:
        run = _campaign(folder, disk, seed, told.minutes * 60, told.rate)
    except pytest.skip.Exception as missing:
        print(f"chaos: {missing}")
        return 2
    finally:
        if told.keep:
            _keep(folder)
        disk.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(table(run))
    return 1 if run.broken else 0


def _campaign(folder: Path, disk: Disk, seed: int, seconds: float, rate: float) -> Run:
    print(f"SEED={seed} MINUTES={seconds / 60:g}", flush=True)
    faults = schedule(seed, seconds)
    with dovecot.running() as mailbox, contextlib.closing(Place(folder, mailbox, random.Random(seed))) as place:
        place.start()
        traffic = Traffic(place, rate, str(seed))
        mischief = Mischief(place, disk, faults, lambda line: print(line, flush=True))
        began = time.monotonic()
        try:
            traffic.start()
            mischief.start()
            time.sleep(seconds)
        finally:
            mischief.stop()
            mischief.finish()
        print(f"{time.monotonic() - began:7.1f} s  everything is whole again", flush=True)
        found, settled = _settled(place, traffic)
        found.broken += [f"the campaign itself: {told}" for told in mischief.broken]
        log = place.log.read_text("utf-8", "replace")
        return Run(seed, seconds, rate, traffic.sent, mischief.done, mischief.missed, found, settled, log)


def _settled(place: Place, traffic: Traffic) -> tuple[Reckoning, float]:
    """The reckoning, once everything is acknowledged and has ended, and the seconds that this took."""
    began, ledger = time.monotonic(), place.state / "ledger.db"
    acknowledged = traffic.stop(SETTLE)
    accepted = {key for sent in traffic.sent.values() for key in sent.accepted}
    left, moved = len(accepted), time.monotonic()
    while left and time.monotonic() < moved + STILL:
        time.sleep(0.2)
        if (now := unended(ledger, len(accepted))) < left:
            left, moved = now, time.monotonic()
    settled = time.monotonic() - began
    time.sleep(2)  # what should not come any more would come now
    hooks = [(one.headers, one.body) for one in list(place.hooks.seen)]
    found = reckon(ledger, accepted, [*mail_arrivals(list(place.mails.mails)), *hook_arrivals(hooks)])
    if not acknowledged:
        found.broken.append(f"not everything was acknowledged {SETTLE:g} s after the last fault")
    return found, settled


def _keep(folder: Path) -> None:
    kept = Path(tempfile.mkdtemp(prefix="postroom-chaos-kept-"))
    for name in ("state/ledger.db", "state/ledger.db-wal", "log", "broker/broker.log"):
        with contextlib.suppress(OSError):
            shutil.copy(folder / name, kept)
    print(f"kept: {kept}")


if __name__ == "__main__":
    raise SystemExit(main())
