"""The campaign's table, and what of it breaks the promise."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.reckoning import Reckoning
from tests.chaos.traffic import Sent

SHOWN = 30
"""Breaches that are printed; all are counted."""


@dataclass
class Run:
    """One campaign."""

    seed: int
    seconds: float
    rate: float
    sent: Mapping[str, Sent]
    done: Counter[str]
    missed: Counter[str]
    found: Reckoning
    settled: float
    """Seconds from the last fault's end until everything had ended."""
    log: str

    @property
    def bugs(self) -> Counter[str]:
        """What Postroom's log tells of bugs, whatever became of the jobs: tracebacks, and errors that a stage did not expect."""
        ends = re.findall(r"^Traceback .*?^(\w[\w.]*(?:: [^\n]*)?)$", self.log, re.MULTILINE | re.DOTALL)
        lines = [line for line in self.log.splitlines() if '"event": "unexpected error"' in line]
        unexpected = [str(json.loads(line).get("exception")).strip().splitlines()[-1] for line in lines]
        return Counter(line[:120] for line in (*ends, *unexpected))

    @property
    def broken(self) -> list[str]:
        """Each breach of the promise."""
        return self.found.broken


def table(run: Run) -> str:
    """What is printed at the end."""
    found = run.found
    rows = [
        f"SEED={run.seed} MINUTES={run.seconds / 60:g}, {run.rate:g} messages a second by each way in",
        "",
        "way in     due  accepted  refusals  sent again  slowest ack",
    ]
    for way, sent in run.sent.items():
        again = sum(number > 1 for number in sent.accepted.values())
        rows.append(f"{way:8}{sent.due:6}{len(sent.accepted):10}{sent.refused:10}{again:12}{sent.slowest:11.1f} s")
    accepted = sum(len(sent.accepted) for sent in run.sent.values())
    rows += ["", f"faults   {run.done.total()}, and {run.missed.total()} that found nothing to break"]
    rows += [f"  {name:28}{number:5}" for name, number in sorted(run.done.items())]
    ended = sum(number for state, number in found.jobs.items() if state in {"done", "failed", "review", "cancelled"})
    rows += [
        "",
        f"accepted {accepted}, ended {ended}: " + ", ".join(f"{state} {n}" for state, n in sorted(found.jobs.items())),
    ]
    rows += [
        f"lost {found.lost}, doubled {found.doubled}, leases taken back {found.taken_back}, attempts in doubt "
        f"{found.in_doubt}, outages told {found.alerts}",
    ]
    rows += [
        f"effects at the {way} sink {number}, repeats {found.repeats[way]}"
        for way, number in sorted(found.effects.items())
    ]
    rows += [f"longest from accepted to ended {found.longest:.1f} s, time to settle {run.settled:.1f} s"]
    rows += [f"bug in the log, {number} times: {line}" for line, number in run.bugs.most_common(SHOWN)]
    rows += [f"BROKEN: {sentence}" for sentence in run.broken[:SHOWN]]
    rows += [f"the promise {'is BROKEN, ' + str(len(run.broken)) + ' times' if run.broken else 'holds'}"]
    return "\n".join(["", *rows])
