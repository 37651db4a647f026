"""What `postroom imap import` does: take what arrived since a day, without touching the mailbox."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from config.imap import ImapAccount
from config.settings import Settings
from daemon.console import as_owner
from daemon.listeners.imap import ACCEPT_AT_ONCE, tokens_of
from daemon.listeners.imap_accepting import Acceptor
from daemon.listeners.imap_asking import Asker
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_notes import bounded
from daemon.listeners.imap_session import SIZES_AT_ONCE, ImapSession
from daemon.listeners.imap_sorting import sort_out
from daemon.process import open_intake

AT_ONCE = 500


@dataclass
class Told:
    """What became of the messages."""

    taken: int = 0
    repeats: int = 0
    passed_over: int = 0
    failed: int = 0

    def sentence(self) -> str:
        """For the terminal."""
        return (
            f"{self.taken} taken, {self.repeats} were jobs already, {self.passed_over} passed over by size or filter, "
            f"{self.failed} failed"
        )


def run(out: Console, settings: Settings, name: str, account: ImapAccount, folder: str, since: datetime) -> Told:
    """Take the mail, with a bar that shows how far it is. Raises what ImapSession raises, and Unavailable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    told = Told()
    with (
        as_owner(settings),
        open_intake(settings) as intake,
        ThreadPoolExecutor(ACCEPT_AT_ONCE) as pool,
        ImapSession(account, tokens_of(name, account, settings, Clock())) as session,
        Progress(*columns, console=out) as bar,
    ):
        acceptor = Acceptor(name, account, intake, pool)
        session.select(folder, readonly=True)
        uids = session.search(since)
        task = bar.add_task(folder, total=len(uids))
        for start in range(0, len(uids), AT_ONCE):
            some = uids[start : start + AT_ONCE]
            sizes = Asker().ask(session.sizes, some, SIZES_AT_ONCE)
            found = sort_out(session, account, sizes)
            told.failed += len(some) - len(sizes) + len(found.refused)
            told.passed_over += len(found.too_large) + len(found.unwanted)
            bar.advance(task, len(some) - len(found.wanted))
            for bulk in bounded(found.wanted):
                _take(session, acceptor, bulk, told)
                bar.advance(task, len(bulk))
    return told


def _take(session: ImapSession, acceptor: Acceptor, bulk: list[int], told: Told) -> None:
    """Accept some messages. No row is written for them: a listener on the folder goes its own way, at no double's cost."""
    messages = Asker().ask(session.fetch, bulk, len(bulk))
    told.failed += len(bulk) - len(messages)
    outcomes = acceptor.finish(acceptor.start(messages))
    told.taken += len(outcomes.taken) - outcomes.repeats
    told.repeats += outcomes.repeats
    told.failed += len(outcomes.refused) + len(outcomes.faults)
    if outcomes.outage:
        raise outcomes.outage
