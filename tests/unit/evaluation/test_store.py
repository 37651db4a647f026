"""Runs on disk: going on after a kill, and what a run is compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.evaluation import store
from daemon.evaluation.outcome import Header, Outcome
from tasks.errors import Permanent


def header(fingerprint: str = "f", started: int = 1_700_000_000_000) -> Header:
    return Header(
        fingerprint=fingerprint,
        folder="set",
        half="both",
        models=("m",),
        ways=("postroom",),
        cases=("a", "b"),
        min_confidence=0.5,
        started_at=started,
    )


def outcome(case: str) -> Outcome:
    return Outcome(case=case, model="m", label="bill")


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """What was written is known; a line that was cut off is not, and what comes next stands on a line of its own."""
    run = store.begin(tmp_path, header())
    run.add(outcome("a"))
    with run.path.open("a") as file:
        file.write('{"case": "b", "mod')
    again = store.begin(tmp_path, header(started=1_700_000_009_000))
    assert again.path == run.path
    assert (again.has(("a", "m", "postroom")), again.has(("b", "m", "postroom")), again.is_whole) == (
        True,
        False,
        False,
    )
    again.add(outcome("b"))
    assert [one.case for one in store.Run.read(run.path).outcomes] == ["a", "b"]
    assert store.Run.read(run.path).is_whole


def test_a_whole_run_and_another_question_begin_anew(tmp_path: Path) -> None:
    """Only the same, unfinished run is gone on with; --new goes on with none."""
    first = store.begin(tmp_path, header())
    other = store.begin(tmp_path, header("g"))
    anew = store.begin(tmp_path, header(), anew=True)
    assert len({first.path, other.path, anew.path}) == 3
    for name in ("a", "b"):
        anew.add(outcome(name))
        first.add(outcome(name))
    assert store.begin(tmp_path, header()).path not in {first.path, anew.path}


def test_it_is_compared_with_the_last_whole_run_of_its_cases(tmp_path: Path) -> None:
    """Not with one that was stopped, and not with one that lacks a case."""
    whole = store.begin(tmp_path, header(started=1_700_000_000_000))
    for name in ("a", "b"):
        whole.add(outcome(name))
    store.begin(tmp_path, header("stopped", started=1_700_000_010_000)).add(outcome("a"))
    fewer = header("fewer", started=1_700_000_020_000).model_copy(update={"cases": ("a",)})
    store.begin(tmp_path, fewer).add(outcome("a"))
    now = store.begin(tmp_path, header("now", started=1_700_000_030_000))
    last = store.last(tmp_path, now)
    assert last is not None
    assert last.path == whole.path


def test_another_file_is_refused(tmp_path: Path) -> None:
    """--against wants a run."""
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(Permanent, match=r"is no run of `postroom eval`"):
        store.Run.read(tmp_path / "x.jsonl")
    with pytest.raises(Permanent, match="cannot be read"):
        store.Run.read(tmp_path / "nothing.jsonl")
