"""What the tests of the IMAP listener share: a watched account, small mails, a look at what stands where."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from daemon.listeners.imap import run
from tests.integration.doors import PATIENCE, Door, opened
from tests.integration.dovecot import PASSWORD, USER, Dovecot


def account(server: Dovecot, **options: Any) -> dict[str, Any]:
    """The section [imap.support] for the server's mailbox."""
    given = {"host": "127.0.0.1", "port": server.imap, "security": "none", "user": USER, "password": PASSWORD}
    return {**given, "poll": 60, "timeout": 10, **options}


def watching(server: Dovecot, home: Path, *, wait: float = PATIENCE, **options: Any) -> AbstractContextManager[Door]:
    """A listener on the server's mailbox until the block ends; ready when every folder was searched, with `lines=0` at once."""
    listener = options.pop("listener", run)
    lines = options.pop("lines", len(options.get("folders", ("INBOX",))))
    return opened(listener, home, lines=lines, wait=wait, imap={"support": account(server, **options)})


def mail(number: int, size: int = 0, **headers: str) -> bytes:
    """A small mail with a Message-ID of its own; `headers` replace or add fields."""
    head = {"From": "Ann <ann@x.test>", "Message-ID": f"<{number}@x.test>", "Subject": f"mail {number}"}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return lines.encode() + b"\r\nDear team\r\n" + b"x" * 76 * (size // 76) + b"\r\n"


def uids(server: Dovecot, folder: str = "INBOX", criteria: str = "ALL") -> list[str]:
    """The UIDs in a folder, as another client sees them."""
    with server.mailbox() as box:
        box.folder.set(folder)
        return box.uids(criteria)


def subjects(server: Dovecot, folder: str) -> list[str]:
    """The subjects in a folder, sorted; none when it is not there."""
    with server.mailbox() as box:
        if not box.folder.exists(folder):
            return []
        box.folder.set(folder)
        return sorted(one.subject for one in box.fetch(mark_seen=False, headers_only=True))
