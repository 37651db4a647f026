"""The table of faults in docs/guarantees.md and the tests say the same: every fault has one, and names it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FAULTS = range(1, 31)
_ROW = re.compile(r"^\| (\d+) \|(.*)\|$", re.MULTILINE)


def shown_by(folder: Path) -> dict[int, set[str]]:
    """Fault to the files below `folder` with a test that is marked with its number."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                [number] = [ast.literal_eval(given.value) for given in node.keywords if given.arg == "number"]
                found[number].add(str(path.relative_to(folder.parent)))
    return dict(found)


def told_by(table: str) -> dict[int, set[str]]:
    """Fault to the test files that its row of the table names."""
    return {int(row[1]): set(re.findall(r"`(tests/[\w/]+\.py)`", row[2])) for row in _ROW.finditer(table)}


def problems(shown: Mapping[int, set[str]], told: Mapping[int, set[str]]) -> list[str]:
    """What is missing, on either side."""
    wrong = [f"fault {number}: no test is marked with it" for number in FAULTS if not shown.get(number)]
    wrong += [f"fault {number}: no row tells of it" for number in FAULTS if number not in told]
    for number in sorted({*shown, *told}):
        wrong += [f"fault {number}: the list ends at {FAULTS[-1]}"] if number not in FAULTS else []
        wrong += [
            f"fault {number}: its row leaves out {one}" for one in shown.get(number, set()) - told.get(number, set())
        ]
        wrong += [f"fault {number}: {one} shows it not" for one in told.get(number, set()) - shown.get(number, set())]
    return wrong


def test_every_fault_is_shown_and_told() -> None:
    """Thirty numbers, each with a row, and each row with all the files whose tests are marked with it."""
    table = (REPO / "docs" / "guarantees.md").read_text("utf-8")
    assert problems(shown_by(REPO / "tests"), told_by(table)) == []


@pytest.mark.parametrize(
    ("source", "row", "said"),
    [
        ("", "| 7 | x | y | `tests/test_it.py` |", "fault 7: no test is marked with it"),
        ("@pytest.mark.fault(number=7)\ndef test(): ...", "", "fault 7: no row tells of it"),
        (
            "@pytest.mark.fault(number=7)\ndef test(): ...",
            "| 7 | x | y | by hand |",
            "fault 7: its row leaves out tests/test_it.py",
        ),
        ("", "| 7 | x | y | `tests/test_it.py` |", "fault 7: tests/test_it.py shows it not"),
        ("@pytest.mark.fault(number=31)\ndef test(): ...", "", "fault 31: the list ends at 30"),
    ],
)
def test_what_is_missing_is_noticed(tmp_path: Path, source: str, row: str, said: str) -> None:
    """A fault without a test or a row, a row without its file, a file without its test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(source)
    assert said in problems(shown_by(tmp_path / "tests"), told_by(row))


def test_all_in_order_is_no_problem(tmp_path: Path) -> None:
    """The check does not complain about everything."""
    (tmp_path / "tests").mkdir()
    marks = "".join(f"@pytest.mark.fault(number={number})\n" for number in FAULTS)
    (tmp_path / "tests" / "test_it.py").write_text(f"{marks}def test(): ...")
    table = "\n".join(f"| {number} | x | y | `tests/test_it.py` |" for number in FAULTS)
    assert problems(shown_by(tmp_path / "tests"), told_by(table)) == []
