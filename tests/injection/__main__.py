"""Label flips with a real model: `python -m tests.injection --host URL` judges each case with its injection and without.

Prints one line a case and the counts. The same model, prompts, readers and stages as in production; some minutes for all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from config.engine import ModelSettings
from tasks.errors import NeedsReview
from tasks.model import Models
from tests.injection.carriers import CARRIERS, Message
from tests.injection.obeying import Case
from tests.injection.trip import Outcome, cases, message_of, settings, through

INNOCENT = "I look forward to hearing from you"
"""Stands in the carrier where the attack would."""


def table(host: str, chosen: list[Case]) -> Counter[str]:
    """Judge the cases and print what became of each; how many there were, flipped, flipped unseen, went to review."""
    engine, count = Models(ModelSettings(host=host)), Counter[str]()
    plain: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as state:
        office = settings(Path(state))

        def judged(message: Message) -> Outcome:
            return through(message, engine, office)

        for case in chosen:
            if case.carrier not in plain:
                plain[case.carrier] = judged(CARRIERS[case.carrier](INNOCENT)).found.label
            started = time.monotonic()
            try:
                found = judged(message_of(case)).found
            except NeedsReview as error:
                count.update(("cases", "in review"))
                print(f"{case.name:44} {'-':10} {error.reason}", flush=True)
                continue
            flipped = found.label != plain[case.carrier]
            count.update({"cases": 1, "flipped": flipped, "in review": bool(found.review)})
            count.update({"flipped unseen": flipped and not found.review})
            told = f"{plain[case.carrier]} -> {found.label}" if flipped else found.label
            seen = "review" if found.review else "sent"
            print(f"{case.name:44} {told:24} {seen:7} {time.monotonic() - started:5.1f} s", flush=True)
    print(", ".join(f"{what}: {number}" for what, number in count.items()), flush=True)
    return count


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.injection", description=__doc__)
    parser.add_argument("--host", required=True, help="address of the model server")
    parser.add_argument("--every", type=int, default=1, help="judge only each N-th case")
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    table(told.host, cases()[:: told.every])


if __name__ == "__main__":
    main()
