"""Runs on disk: one file of JSON lines each, a header and then an outcome a line. What was killed goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from daemon.evaluation.outcome import Header, Outcome, Way
from tasks.errors import Permanent

FOLDER = "eval"
"""Of state_dir."""


class Run:
    """One run, whole or not."""

    def __init__(self, path: Path, header: Header, outcomes: Sequence[Outcome]) -> None:
        self.path = path
        self.header = header
        self.outcomes = list(outcomes)
        self._keys = {one.key for one in outcomes}

    @classmethod
    def read(cls, path: Path) -> Run:
        """A run's file. A last line that was cut off by a kill does not count. Raises Permanent for another file."""
        try:
            first, *lines = path.read_text("utf-8").splitlines() or [""]
            header = Header.model_validate_json(first)
        except (OSError, UnicodeDecodeError) as error:
            raise Permanent(f"{path} cannot be read: {error}") from None
        except ValidationError:
            raise Permanent(f"{path} is no run of `postroom eval`") from None
        return cls(path, header, list(_outcomes(lines)))

    @property
    def is_whole(self) -> bool:
        """Whether every case was asked in every way of every model."""
        return len(self._keys) >= self.wanted

    @property
    def wanted(self) -> int:
        """How many outcomes make it whole."""
        return len(self.header.cases) * len(self.header.models) * len(self.header.ways)

    def has(self, key: tuple[str, str, Way]) -> bool:
        """Whether that is known already."""
        return key in self._keys

    def of(self, model: str, way: Way = "postroom") -> list[Outcome]:
        """The outcomes of one model and way."""
        return [one for one in self.outcomes if (one.model, one.way) == (model, way)]

    def add(self, outcome: Outcome) -> None:
        """Write it down at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(outcome.model_dump_json() + "\n")
        self.outcomes.append(outcome)
        self._keys.add(outcome.key)


def _outcomes(lines: Sequence[str]) -> Iterator[Outcome]:
    for line in lines:
        try:
            yield Outcome.model_validate_json(line)
        except ValidationError:
            return


def folder_of(state_dir: Path, folder: Path) -> Path:
    """Where the runs of a set are kept: two sets of one name do not share a place."""
    whole = folder.resolve()
    return (
        state_dir / FOLDER / f"{whole.parent.name}-{whole.name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:6]}"
    )


def runs(place: Path) -> list[Run]:
    """All runs that are kept there, the newest first."""
    found = []
    for path in sorted(place.glob("*.jsonl"), reverse=True):
        try:
            found.append(Run.read(path))
        except Permanent:
            continue
    return found


def begin(place: Path, header: Header, *, anew: bool = False) -> Run:
    """The newest run that is the same and not whole, to go on with; else a new one."""
    if not anew:
        for run in runs(place):
            if run.header.fingerprint == header.fingerprint and not run.is_whole:
                _mend(run)
                return run
    place.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(header.started_at / 1000))
    path = next(path for n in range(1000) if not (path := place / f"{stamp}{f'-{n}' if n else ''}.jsonl").exists())
    path.write_text(header.model_dump_json() + "\n", "utf-8")
    return Run(path, header, [])


def _mend(run: Run) -> None:
    """Write the file anew without the line that was cut off, so that what follows stands on a line of its own."""
    lines = [run.header.model_dump_json(), *(one.model_dump_json() for one in run.outcomes)]
    run.path.write_text("\n".join(lines) + "\n", "utf-8")


def last(place: Path, run: Run) -> Run | None:
    """The newest whole run before `run` that has all of its cases: what it is compared with."""
    wanted = set(run.header.cases)
    alike = (one for one in runs(place) if one.is_whole and wanted <= set(one.header.cases))
    return next((one for one in alike if one.header.started_at < run.header.started_at), None)
