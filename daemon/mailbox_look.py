"""What `postroom imap test` does: everything that the listener would, up to the point where something changes."""

from __future__ import annotations

import contextlib
from datetime import datetime

from rich.console import Console
from rich.markup import escape

from config.imap import ImapAccount
from config.settings import Settings
from daemon.console import one_line
from daemon.listeners.imap import tokens_of
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_session import ImapSession, RefusedError
from daemon.listeners.imap_sorting import Sorted, sort_out
from daemon.listeners.imap_watchdog import first_cut_off, looked_at_since
from tasks.clock import now_ms
from tasks.errors import PostroomError
from tasks.ledger import Ledger, Watched
from tasks.ledger.engine import HEAD
from tasks.ledger.imap_messages import FINAL, Place
from tasks.mailhead import first
from tasks.readers.headers import header_text, raw_text

EXTENSIONS = ("IDLE", "MOVE", "UIDPLUS", "SPECIAL-USE", "AUTH=XOAUTH2")
SHOWN = 20
"""Messages of a kind that are listed."""


def look(out: Console, settings: Settings, name: str, account: ImapAccount) -> bool:
    """Print what is found; whether every folder that is to be read can be. Raises what ImapSession raises."""
    with ImapSession(account, tokens_of(name, account, settings, Clock())) as session:
        _say(out, f"logged in at {account.host}:{account.port} as {account.user} ({_how(account)})")
        able = [one for one in EXTENSIONS if session.has(one)]
        _say(out, f"the server can: {', '.join(able) or 'none of ' + ', '.join(EXTENSIONS)}")
        if not session.has("MOVE") and not session.has("UIDPLUS"):
            _say(out, "without MOVE and UIDPLUS, messages that are moved or deleted stay behind, marked as deleted")
        _folders(out, session, account)
        missing = [one for one in account.folders if not _folder(out, settings, session, name, account, one)]
        return not missing


def _how(account: ImapAccount) -> str:
    return f"{'XOAUTH2' if account.oauth.token_url else 'password'}, {account.security}"


def _folders(out: Console, session: ImapSession, account: ImapAccount) -> None:
    names = {one.name for one in session.mailbox.folder.list()}
    for folder in sorted(names):
        _say(out, f"folder {folder}{' (read)' if folder in account.folders else ''}")
    for option in account.targets:
        if (target := getattr(account, option)) not in names:
            _say(out, f"folder {target} ({option}) is not there; the listener will make it")


def _folder(
    out: Console, settings: Settings, session: ImapSession, name: str, account: ImapAccount, folder: str
) -> bool:
    try:
        validity = session.select(folder, readonly=True)
    except RefusedError as error:
        _say(out, str(error), "red")
        return False
    done, since = known_of(settings, Place(name, folder, validity), account)
    present = session.search(since)
    new = [uid for uid in present if uid not in done]
    found = sort_out(session, account, session.sizes(new[-SHOWN * 10 :]))
    _say(out, f"{folder}: {len(present)} messages, {len(new)} not looked at yet")
    if len(new) > SHOWN * 10:
        _say(out, f"  the newest {SHOWN * 10} of them:")
    _list(out, session, found)
    return True


def known_of(settings: Settings, place: Place, account: ImapAccount) -> tuple[set[int], datetime | None]:
    """What the ledger says is done, and from when on the listener looks at mail: a new one's view without a ledger."""
    now = now_ms()
    row, done = Watched(place.account, place.folder), set[int]()
    with contextlib.suppress(PostroomError), contextlib.closing(Ledger(settings.ledger)) as ledger:
        if ledger.database.revision() == HEAD:
            row = ledger.imap_folders.get(place.account, place.folder)
            known = ledger.imap_messages.known(place)
            done = {uid for uid, one in known.items() if one.mark in FINAL}
    return done, looked_at_since(account, first_cut_off(row, account, now), now)


def _list(out: Console, session: ImapSession, found: Sorted) -> None:
    heads = session.heads(list(found.wanted)[-SHOWN:])
    for uid, head in heads.items():
        subject = raw_text((first(head, b"subject") or b"").decode("ascii", "surrogateescape"))
        _say(out, f"  take {uid}, {found.wanted[uid]} bytes: {header_text(subject) or '(no subject)'}", "green")
    if len(found.wanted) > len(heads):
        _say(out, f"  take {len(found.wanted) - len(heads)} more")
    for what, reasons in (
        ("refuse", found.too_large),
        ("pass over", found.unwanted),
        ("cannot look at", found.refused),
    ):
        for uid, reason in list(reasons.items())[-SHOWN:]:
            _say(out, f"  {what} {uid}: {reason}", "yellow")
        if len(reasons) > SHOWN:
            _say(out, f"  {what} {len(reasons) - SHOWN} more")


def _say(out: Console, line: str, colour: str = "") -> None:
    text = escape(one_line(line))
    out.print(f"[{colour}]{text}[/]" if colour else text, highlight=False, soft_wrap=True)
