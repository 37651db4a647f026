"""Workers in processes of their own, as a script of the test's makes them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def begun(script: str, **told: Any) -> subprocess.Popen[str]:
    """Run `script` with `told` as JSON for its argument; it has said that it is ready."""
    command = [sys.executable, "-c", script, json.dumps(told)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    if (said := process.stdout.readline()) != "ready\n":
        process.kill()
        raise AssertionError((said, process.communicate()))
    return process


def ended(processes: Iterable[subprocess.Popen[str]]) -> None:
    """End them all, frozen ones too."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()
