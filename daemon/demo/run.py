"""Plays the demo: starts Postroom on embedded parts, sends it the inputs, shows what came of them.

    python -m daemon.demo [--once] [--inputs DIR] [--state DIR]

Exit status: 0 when every expected outcome came true, 1 when one did not, 2 when the demo could not be set up.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from rich.console import Console

from daemon.demo import scene as scenery
from daemon.demo.expect import checks
from daemon.demo.inputs import Input, InputError, read_inputs
from daemon.demo.scene import Scene, SceneError
from daemon.demo.send import SendError, send
from daemon.demo.service import Service, ServiceError
from daemon.demo.story import report, say, tell
from daemon.demo.watch import Followed, follow

INPUTS = Path(__file__).parent / "inputs"
START_PATIENCE = 300.0
"""Seconds for all parts to be ready, the weights being there."""


def default_state() -> Path:
    """$XDG_STATE_HOME/postroom-demo, by default below ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "postroom-demo"


def main(
    inputs: Path = INPUTS,
    *,
    once: bool = False,
    state: Path | None = None,
    timeout: float = 1200.0,
    console: Console | None = None,
) -> int:
    """Play the demo with the inputs of a folder; the exit status. `timeout` (seconds) is for the jobs together."""
    console = console or _console()
    try:
        items = read_inputs(inputs)
        scene = scenery.build((state or default_state()).absolute(), items)
    except (InputError, SceneError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 2
    service = Service(scene)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        good = _play(items, scene, service, console, timeout)
        if not once:
            _stay(scene, service, console)
    except (SendError, ServiceError) as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopping", highlight=False)
        return 130 if once else 0
    else:
        return 0 if good else 1
    finally:
        signal.signal(signal.SIGTERM, previous)
        service.stop()
        scene.close()


def _console() -> Console:
    """Colours and live lines on a terminal; plain wide lines elsewhere, so that nothing is broken in a log."""
    console = Console()
    return console if console.is_terminal else Console(width=160, no_color=True)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _play(items: tuple[Input, ...], scene: Scene, service: Service, console: Console, timeout: float) -> bool:
    if scene.no_mailbox_because and any(item.by == "imap" for item in items):
        console.print(f"no IMAP in this run: {scene.no_mailbox_because}; its input goes by SMTP", highlight=False)
    started = time.monotonic()
    doors = service.start(START_PATIENCE, lambda line: console.print(line, markup=False, highlight=False))
    console.print(f"ready after {time.monotonic() - started:.0f} s; sending {len(items)} inputs", highlight=False)
    sent_at = time.monotonic()
    followed = [Followed(send(item, doors, scene), time.monotonic()) for item in items]
    follow(followed, service, console, timeout)
    tell(followed, scene, console)
    good = report(checks(followed, scene.outbox, scene.hooks), console)
    took = time.monotonic() - sent_at
    if late := [one.name for one in followed if not one.rested_at]:
        console.print(
            f"not at rest after {took:.0f} s: {', '.join(late)}. {service.trouble}", style="red", markup=False
        )
    console.print(f"{len(items)} inputs in {took:.0f} s; everything is in {scene.state}", highlight=False)
    return good


def _stay(scene: Scene, service: Service, console: Console) -> None:
    """Leave all running until Ctrl-C. Raises ServiceError when Postroom ends before that."""
    console.print()
    for name, address in service.addresses.items():
        say(console, name, address)
    say(console, "drop", str(scene.drop))
    say(console, "outbox", f"{scene.outbox.folder} (smtp on 127.0.0.1:{scene.outbox.port})")
    say(console, "hooks", f"{scene.hooks.folder} ({scene.hooks.url})")
    say(console, "config", str(scene.config))
    console.print("Everything goes on running; Ctrl-C stops it.", highlight=False)
    console.print(f"Look at it in a browser: {service.addresses['web']}/", highlight=False)
    while True:
        service.check_alive()
        time.sleep(1)
