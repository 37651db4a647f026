"""One message, all the way: the demo on other inputs than its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_everything_comes_true_on_other_inputs(tmp_path: Path) -> None:
    """`make demo ONCE=1` on other firms, layouts and languages ends 0, without control codes in what it prints."""
    command = [
        sys.executable,
        "-m",
        "daemon.demo",
        "--once",
        "--inputs",
        HERE / "inputs",
        "--state",
        tmp_path / "state",
    ]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "everything is in" in done.stdout
