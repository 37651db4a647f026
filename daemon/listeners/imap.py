"""Watches mailboxes: every folder of every account in a thread and a connection of its own, and a watchdog over all.

imap_folder.py watches a folder; imap_session.py speaks to the server, imap_changes.py changes the mailbox;
imap_filters.py passes over, imap_notes.py remembers, imap_settling.py and imap_ends.py put away, imap_resuming.py ends what
was broken off, imap_doubts.py tells a bad message from a sick server, imap_owner.py keeps a second process away,
imap_oauth.py brings tokens, imap_watchdog.py looks whether all of them still live, imap_canary.py times the way in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners.each import run_each
from daemon.listeners.imap_canary import Canary
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_folder import FolderWatch, Parts
from daemon.listeners.imap_oauth import AccountTokens
from daemon.listeners.imap_session import Tokens
from daemon.listeners.imap_watchdog import Alert, Pulse, Watchdog
from tasks import alerts
from tasks.intake import Intake

ACCEPT_AT_ONCE = 50
"""Messages that are handed over together: a whole bulk waits for one fsync of the ledger, not for one each."""


def run(
    settings: Settings,
    intake: Intake,
    stop: threading.Event,
    *,
    ready: Callable[[str], None] | None = None,
    alert: Alert | None = None,
    watching: Callable[[Sequence[Pulse]], None] = lambda pulses: None,
) -> None:
    """Watch all folders until `stop` is set. Calls `ready` once for each, when it has been searched.

    `alert` tells a person of an outage and of its end, once each; without it [alerts] says who is told. `watching` is
    given the folders' signs of life.
    """
    clock = Clock()
    tell: Alert = alert or partial(alerts.alert, intake.ledger, settings)
    say = ready or (lambda line: None)
    loops: dict[str, Callable[[], None]] = {}
    pulses: list[Pulse] = []
    with ThreadPoolExecutor(ACCEPT_AT_ONCE, "imap-accept") as pool:
        for name, account in settings.imap.items():
            tokens = tokens_of(name, account, settings, clock)
            canary = Canary(name, account, settings, clock) if account.canary else None
            parts = Parts(name, account, intake, stop, say, tell, tokens, pool, clock, canary)
            mine = [Pulse(intake.ledger.imap_folders, name, account, folder, clock) for folder in account.folders]
            pulses += mine
            for pulse in mine:
                loops[f"{name}/{pulse.folder}"] = FolderWatch(parts, pulse.folder, pulse).run
            if canary:
                loops[f"{name} canary"] = partial(canary.run, stop, partial(_any_is_ours, mine))
        watching(pulses)
        watchdog = Watchdog(pulses, tell, clock)
        loops["watchdog"] = partial(watchdog.run, stop)
        run_each(loops, stop)


def _any_is_ours(pulses: Sequence[Pulse]) -> bool:
    return not all(pulse.standby for pulse in pulses)


def tokens_of(name: str, account: ImapAccount, settings: Settings, clock: Clock) -> Tokens | None:
    """Where an account gets access tokens; None when it logs in with a password."""
    return AccountTokens(name, account, settings.state_dir, clock) if account.oauth.token_url else None
