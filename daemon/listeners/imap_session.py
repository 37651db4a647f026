"""One connection to an IMAP server: imap-tools and imaplib for the wire, never for reading a message.

What the libraries get wrong is put right here: the capabilities are asked again after login (imaplib keeps those from
before, without MOVE), nothing is ever expunged by a plain EXPUNGE (it would remove what other people marked as deleted;
imap-tools does so in `flag`, `delete` and `move`), and IDLE is waited for without reading half a line.
"""

from __future__ import annotations

import contextlib
import re
import select
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from imap_tools import BaseMailBox, ImapToolsError, MailBox, MailBoxStartTls, MailBoxUnencrypted
from imap_tools.errors import (
    MailboxFolderCreateError,
    MailboxFolderSelectError,
    MailboxFolderSubscribeError,
    MailboxLoginError,
)
from imap_tools.utils import encode_folder

from config.inbound import ImapAccount

SIZES_AT_ONCE = 200
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UID = re.compile(rb"\bUID (\d{1,10})\b")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d{1,10})\b")


class LoginRefusedError(Exception):
    """The server does not let us in: nothing that a new connection would mend soon."""


class RefusedError(Exception):
    """The server answered a command with NO."""


class ImapSession:
    """A logged-in connection. After any error but RefusedError it is not to be used again."""

    def __init__(self, account: ImapAccount) -> None:
        self._account = account
        self._mailbox = _connected(account)
        self._client = self._mailbox.client

    def __enter__(self) -> ImapSession:
        try:
            self._login()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out, or just let go when the connection is gone already."""
        with contextlib.suppress(OSError, ImapToolsError, self._client.error):
            self._client.sock.settimeout(2)
            self._mailbox.logout()
        with contextlib.suppress(OSError):
            self._client.shutdown()

    def has(self, capability: str) -> bool:
        """Whether the server has an extension, as it says after login."""
        return capability in self._client.capabilities

    def select(self) -> str:
        """Open the folder anew, so that nothing stale is seen. Returns its UIDVALIDITY."""
        try:
            self._mailbox.folder.set(self._account.folder)
        except MailboxFolderSelectError as error:
            words = _words(error.command_result[1])
            raise RefusedError(f"cannot open folder {self._account.folder!r}: {words}; check `folder`") from None
        _, values = self._client.response("UIDVALIDITY")
        return values[0].decode("ascii", "replace") if values and values[0] else ""

    def search(self) -> list[str]:
        """The UIDs of what waits, oldest first."""
        criteria = ["UNDELETED"] if self._account.done_folder else ["UNSEEN", "UNDELETED"]
        if self._account.max_age_days:
            day = datetime.now(UTC) - timedelta(days=self._account.max_age_days)
            criteria.append(f"SINCE {day.day}-{_MONTHS[day.month - 1]}-{day.year}")
        return sorted(self._mailbox.uids(" ".join(criteria), charset=None), key=int)

    def sizes(self, uids: Sequence[str]) -> dict[str, int]:
        """Bytes of each message; messages that have gone are left out."""
        found: dict[str, int] = {}
        for start in range(0, len(uids), SIZES_AT_ONCE):
            for item in self._fetch(uids[start : start + SIZES_AT_ONCE], "(UID RFC822.SIZE)"):
                line = item if isinstance(item, bytes) else b" ".join(item)
                uid, size = _UID.search(line), _SIZE.search(line)
                if uid and size:
                    found[uid[1].decode()] = int(size[1])
        return {uid: found[uid] for uid in uids if uid in found}

    def fetch(self, uids: Sequence[str]) -> dict[str, bytes]:
        """The raw bytes of each message, without marking it as seen; messages that have gone are left out."""
        found = dict(_bodies(self._fetch(uids, "(UID BODY.PEEK[])")))
        return {uid: found[uid] for uid in uids if uid in found}

    def ensure(self, folder: str) -> None:
        """Create and subscribe a folder when it is not there."""
        if not folder or self._mailbox.folder.exists(folder):
            return
        try:
            self._mailbox.folder.create(folder)
        except MailboxFolderCreateError as error:
            raise RefusedError(
                f"cannot create folder {folder!r}: {_words(error.command_result[1])}; create it, or write the name as "
                f'the server wants it, for example "INBOX.{folder}"'
            ) from None
        with contextlib.suppress(MailboxFolderSubscribeError):  # some servers show every folder anyway
            self._mailbox.folder.subscribe(folder, True)

    def move(self, uids: Sequence[str], folder: str) -> None:
        """Move messages and nothing else (RFC 6851; else COPY, \\Deleted and UID EXPUNGE of RFC 4315).

        A server with neither keeps the originals, marked as deleted, and `search` does not see them again.
        """
        command = "MOVE" if self.has("MOVE") else "COPY"
        try:
            self._uid(command, uids, encode_folder(folder))
        except RefusedError as error:
            if "TRYCREATE" not in str(error):
                raise
            self.ensure(folder)  # somebody removed it
            self._uid(command, uids, encode_folder(folder))
        if command == "COPY":
            self._uid("STORE", uids, "+FLAGS.SILENT", r"(\Seen \Deleted)")
            if self.has("UIDPLUS"):
                self._uid("EXPUNGE", uids)

    def mark_seen(self, uids: Sequence[str]) -> None:
        """Set the flag that keeps `search` from seeing them again when they stay where they are."""
        self._uid("STORE", uids, "+FLAGS.SILENT", r"(\Seen)")

    def idle(self, seconds: float, stop: threading.Event) -> None:
        """Wait until the server says anything, `stop` is set or the time is over (RFC 2177).

        What it says is not read: IDLE is a hint, and the search that follows finds what there is.
        """
        self._mailbox.idle.start()  # type: ignore[no-untyped-call]  # imap-tools' gap
        deadline = time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < deadline:
            if self._has_input() or self._input_within(min(1.0, max(0.0, deadline - time.monotonic()))):
                break
        self._mailbox.idle.stop()  # type: ignore[no-untyped-call]  # the same

    def _login(self) -> None:
        user, password = self._account.user, self._account.password.get_secret_value()
        if self.has("LOGINDISABLED"):
            raise LoginRefusedError('the server takes no password without encryption; write security = "tls"')
        plain = (user + password).isascii()
        login = self._mailbox.login if plain else self._mailbox.login_utf8
        try:
            login(user, password, initial_folder=None)
        except (MailboxLoginError, self._client.error) as error:
            if isinstance(error, self._client.abort):
                raise
            answer = error.command_result[1] if isinstance(error, MailboxLoginError) else error.args
            raise LoginRefusedError(f"login of {user!r} refused: {_words(answer)}") from None
        _, answer = self._client.capability()
        self._client.capabilities = tuple(answer[-1].decode("ascii", "replace").upper().split())

    def _fetch(self, uids: Sequence[str], parts: str) -> list[bytes | tuple[bytes, bytes]]:
        status, answer = self._client.uid("FETCH", ",".join(uids), parts)
        if status != "OK":
            raise RefusedError(f"FETCH refused: {_words(answer)}")
        return [item for item in answer if item is not None]

    def _uid(self, command: str, uids: Sequence[str], *arguments: str | bytes) -> None:
        if not uids:
            return
        status, answer = self._client.uid(command, ",".join(uids), *arguments)  # type: ignore[arg-type]  # takes bytes
        if status != "OK":
            raise RefusedError(f"{command} refused: {_words(answer)}")

    def _has_input(self) -> bool:
        """Whether bytes stand in a buffer above the socket, where waiting for the socket would miss them."""
        sock = self._client.sock
        if hasattr(self._client, "_readbuf"):  # Python 3.14 and later have a buffer of their own
            pending = getattr(sock, "pending", lambda: 0)
            return bool(self._client._readbuf or pending())
        sock.setblocking(False)
        try:
            return bool(self._client.file.peek(1))  # type: ignore[union-attr]  # a BufferedReader in fact
        except OSError:  # TLS wants more of the network before it has a byte for us
            return False
        finally:
            sock.settimeout(self._account.timeout)

    def _input_within(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self._client.sock, select.POLLIN)
        return bool(poller.poll(seconds * 1000))


def _connected(account: ImapAccount) -> BaseMailBox:
    where = (account.host, account.port, account.timeout)
    if account.security == "none":
        return MailBoxUnencrypted(*where)
    trusted = ssl.create_default_context(cafile=str(account.ca_file) if account.ca_file else None)
    if account.security == "starttls":
        return MailBoxStartTls(*where, ssl_context=trusted)
    return MailBox(*where, ssl_context=trusted)


def _bodies(items: Sequence[bytes | tuple[bytes, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Pair each message with its UID, which stands before or after it, as the server likes."""
    for item, following in zip(items, [*items[1:], b""], strict=True):
        if isinstance(item, tuple) and b"BODY[]" in item[0].upper():
            after = following if isinstance(following, bytes) else b""
            uid = _UID.search(item[0]) or _UID.search(after)
            if uid:
                yield uid[1].decode(), item[1]


def _words(answer: Sequence[object]) -> str:
    """A server's answer on one line of at most 200 characters."""
    parts = (part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in answer)
    return "".join(filter(str.isprintable, " ".join(parts)))[:200]
