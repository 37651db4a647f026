"""Runs `postroom up` as a child of the demo and asks its HTTP side about the jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from config.engine import ModelSettings
from daemon.demo.scene import Scene
from daemon.demo.send import Doors
from daemon.embedded.catalogue import DEFAULT_MODEL

STOP_PATIENCE = 60.0
MODEL = "POSTROOM_MODEL__"
Json = dict[str, Any]


class ServiceError(Exception):
    """Postroom did not start or ended by itself; the words are the last of its log."""


def environment() -> dict[str, str]:
    """Ours without Postroom's variables, so that no real queue or ledger is touched; the model may be chosen."""
    return {name: v for name, v in os.environ.items() if not name.startswith("POSTROOM_") or name.startswith(MODEL)}


def bring_weights() -> None:
    """Bring the embedded model's weights where no Ollama answers; shows a progress bar. Raises ServiceError."""
    known = environment()
    settings = ModelSettings(host=known.get(f"{MODEL}HOST", ""), name=known.get(f"{MODEL}NAME", DEFAULT_MODEL))
    if settings.host or known.get("OLLAMA_HOST") or _answers(settings.addresses()[0]):
        return
    command = [sys.executable, "-m", "daemon.embedded.weights", "--model", settings.name]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise ServiceError("the model's weights are not here, and without them nothing can be judged")


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/api/version", timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class Service:
    """`postroom up` on the demo's configuration. All that it says goes to the log file."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.addresses: dict[str, str] = {}
        self.trouble = ""
        """Why its HTTP side could not be asked the last time; empty when it could."""
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(timeout=30, trust_env=False)

    def start(self, patience: float, say: Callable[[str], None]) -> Doors:
        """Start all parts and wait until they are ready. Raises ServiceError when they are not within `patience` s."""
        bring_weights()
        say(f"starting postroom --config {self.scene.config} up")
        command = [sys.executable, "-m", "daemon.cli", "--config", str(self.scene.config), "up"]
        with self.scene.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
            )
        file = self.scene.state / "addresses.json"
        deadline = time.monotonic() + patience
        while not file.is_file():
            if self._process.poll() is not None:
                raise ServiceError(f"postroom up ended with status {self._process.returncode}\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"postroom was not ready after {patience:.0f} s\n{self.last_words()}")
            time.sleep(0.2)
        self.addresses = json.loads(file.read_text("utf-8"))
        return Doors(self.addresses["smtp"], self.addresses["lmtp"], self.addresses["web"])

    def check_alive(self) -> None:
        """Raise ServiceError when it ended."""
        if self._process and self._process.poll() is not None:
            raise ServiceError(f"postroom up ended with status {self._process.returncode}\n{self.last_words()}")

    def jobs(self) -> list[Json]:
        """All jobs, newest first."""
        answer = self._get("/jobs?limit=200")
        return list(answer["jobs"] if isinstance(answer, dict) else answer)

    def job(self, job_id: str) -> Json:
        """One job's whole story."""
        return dict(self._get(f"/jobs/{job_id}"))

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what has not gone after a minute."""
        self._client.close()
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_words(self, lines: int = 15) -> str:
        """The end of the log."""
        text = self.scene.log.read_text("utf-8", "replace").splitlines()[-lines:]
        return "\n".join([f"the last lines of {self.scene.log}:", *text])

    def _get(self, path: str) -> Any:
        answer = self._client.get(self.addresses["web"] + path)
        answer.raise_for_status()
        return answer.json()
