"""`postroom` as it is typed, in a process of its own that need not import everything again: for tests, a tenth of the time.

A process that has imported the command line and does nothing else is forked for each command.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
SECONDS = 120

Ended = subprocess.CompletedProcess[str]


def postroom(*arguments: str, state: Path, config: Path | None = None, **variables: str) -> Ended:
    """Run `postroom` to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "OLLAMA_"))}
    environment |= {"POSTROOM_STATE_DIR": str(state), "COLUMNS": "200"}
    environment |= {"POSTROOM_LEDGER_URL": os.environ.get("POSTROOM_TEST_LEDGER_URL", ""), **variables}
    chosen = ["--config", str(config)] if config else []
    return _mould().run([*chosen, *arguments], environment)


class _Mould:
    """The process that is forked."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.commands"]
        self._process = subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()

    def run(self, arguments: list[str], environment: dict[str, str]) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder, self._lock:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"arguments": arguments, "environment": environment, "out": str(out), "err": str(err)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(["postroom", *arguments], status, out.read_text(), err.read_text())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@cache
def _mould() -> _Mould:
    made = _Mould()
    atexit.register(made.end)
    return made


def _serve() -> None:
    """Fork for each line of standard input; answer with the exit status."""
    import daemon.cli  # noqa: F401, PLC0415  # what every command needs, once
    import tasks.ledger.engine  # noqa: F401, PLC0415

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(order: dict[str, Any]) -> None:
    """Be a process that a shell would have started."""
    from daemon.cli import main  # noqa: PLC0415  # only where it is imported already

    for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  # its own, to the end
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["postroom", *order["arguments"]]
    signal.alarm(SECONDS)
    try:
        main()
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
