"""One message, all the way: the demo on other inputs than its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHORT = (
    "02-invoice-grid",
    "04-beschwerde-text",
    "08-abwesend",
    "09-checkout-event",
    "11-beschwerde-again",
    "12-dropped-text",
)
"""One of each way in and of each kind of end; POSTROOM_TEST_FULL=1 (`make e2e`) plays all."""


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_everything_comes_true_on_other_inputs(tmp_path: Path) -> None:
    """`make demo ONCE=1` on other firms, layouts and languages ends 0, without control codes in what it prints."""
    inputs = HERE / "inputs"
    if "POSTROOM_TEST_FULL" not in os.environ:
        for name in SHORT:
            shutil.copytree(inputs / name, tmp_path / "inputs" / name)
        inputs = tmp_path / "inputs"
    command = [
        sys.executable,
        "-m",
        "daemon.demo",
        "--once",
        "--inputs",
        inputs,
        "--state",
        tmp_path / "state",
    ]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "everything is in" in done.stdout
