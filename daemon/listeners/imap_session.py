"""One connection to an IMAP server: imap-tools and imaplib for the wire, never for reading a message.

What the libraries get wrong is put right here: the capabilities are asked again after login (imaplib keeps those from
before, without MOVE), a refused XOAUTH2 is ended as the mechanism wants it, and IDLE is waited for without reading half
a line. What changes the mailbox is in imap_changes.py.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from imap_tools import BaseMailBox, ImapToolsError, MailBox, MailBoxStartTls, MailBoxUnencrypted
from imap_tools.errors import MailboxFolderSelectError, MailboxFolderStatusError, MailboxLoginError

from config.imap import ImapAccount
from daemon.listeners.imap_clock import Clock
from tasks.ledger.imap_messages import Spot

SEARCH_AT_ONCE = 50_000
"""Messages in one SEARCH: its answer is one line, which is read whole and has a limit (imaplib: a million bytes)."""
SIZES_AT_ONCE = 200
HEAD_BYTES = 65_536
"""Of a header that is looked at before its message is fetched; what filters compare stands far before."""
SLICE = 1.0
"""Seconds after which IDLE looks whether it has been told to stop."""
LOOK_UP_EVERY = 5.0
"""Seconds between two looks at what may end IDLE besides the server."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UID = re.compile(rb"\bUID (\d{1,10})\b")
_BUSY = re.compile(r"\[(?:UNAVAILABLE|INUSE|LIMIT|OVERQUOTA|THROTTLED)\b|throttl", re.IGNORECASE)
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d{1,10})\b")

Item = bytes | tuple[bytes, bytes]
Tokens = Callable[[str], str]
"""Gives an access token: another one than its argument, which the server refused (or is empty)."""


class LoginRefusedError(Exception):
    """The server does not let us in: nothing that a new connection would mend soon."""


class RefusedError(Exception):
    """The server answered a command with NO, or a FETCH with BAD, as some do for a message that they cannot read."""


class ImapSession:
    """A logged-in connection. After any error but RefusedError it is not to be used again."""

    def __init__(self, account: ImapAccount, tokens: Tokens | None = None, clock: Clock | None = None) -> None:
        self._account = account
        self._tokens = tokens
        self._clock = clock or Clock()
        self.mailbox = _connected(account)
        self._client = self.mailbox.client
        self._exists = 0

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
            self.mailbox.logout()
        with contextlib.suppress(OSError):
            self._client.shutdown()

    def has(self, capability: str) -> bool:
        """Whether the server has an extension, as it says after login."""
        return capability in self._client.capabilities

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the server can do, as it says after login."""
        return tuple(self._client.capabilities)

    def select(self, folder: str, *, readonly: bool = False) -> int:
        """Open a folder anew, so that nothing stale is seen. Returns its UIDVALIDITY; 0 when the server tells none."""
        try:
            _, count = self.mailbox.folder.set(folder, readonly)
        except MailboxFolderSelectError as error:
            raise RefusedError(f"cannot open folder {folder!r}: {words(error.command_result[1])}") from None
        self._exists = int(count[-1] or 0)
        self._client.response("EXISTS")  # known now: what `told_of_more` finds came later
        _, values = self._client.response("UIDVALIDITY")
        text = values[0] if values and values[0] else b""
        return int(text) if isinstance(text, bytes) and text.isdigit() else 0

    def status(self, folder: str) -> Spot | None:
        """The lowest UID that a message can get which is put into a folder now; None when there is no such folder."""
        try:
            found = self.mailbox.folder.status(folder, ["UIDVALIDITY", "UIDNEXT"])
        except MailboxFolderStatusError:
            return None
        return Spot(folder, found.get("UIDVALIDITY", 0), found.get("UIDNEXT", 0))

    def search(self, since: datetime | None = None) -> list[int]:
        """The UIDs of the whole folder but what is marked as deleted, oldest first; `since`: by day of arrival."""
        criteria = ["UNDELETED"]
        if since:
            criteria.append(f"SINCE {since.day}-{_MONTHS[since.month - 1]}-{since.year}")
        return self._search(*criteria)

    def search_from(self, uid: int) -> list[int]:
        """The UIDs from this one on, but what is marked as deleted, oldest first."""
        found = self._search("UNDELETED", "UID", f"{max(uid, 1)}:*")
        return [one for one in found if one >= uid]  # `n:*` names the last message even when it is lower

    def find(self, message_id: str) -> list[int]:
        """The UIDs of messages with this Message-ID (with its angle brackets), oldest first."""
        return self._search("UNDELETED", "HEADER", "Message-ID", quoted(message_id)) if message_id else []

    def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """Bytes of each message; messages that have gone are left out."""
        found: dict[int, int] = {}
        for start in range(0, len(uids), SIZES_AT_ONCE):
            for item in self._fetch(uids[start : start + SIZES_AT_ONCE], "(UID RFC822.SIZE)"):
                line = item if isinstance(item, bytes) else b" ".join(item)
                uid, size = _UID.search(line), _SIZE.search(line)
                if uid and size:
                    found[int(uid[1])] = int(size[1])
        return {uid: found[uid] for uid in uids if uid in found}

    def heads(self, uids: Sequence[int]) -> dict[int, bytes]:
        """The start of each message's header, at most HEAD_BYTES, without marking it as seen."""
        return self._texts(uids, f"BODY.PEEK[HEADER]<0.{HEAD_BYTES}>", b"BODY[HEADER]<0>")

    def structures(self, uids: Sequence[int]) -> dict[int, bytes]:
        """The BODYSTRUCTURE of one message as the server wrote it, literals in place; left out when the server tells none."""
        (uid,) = uids
        parts = [b" ".join(item) if isinstance(item, tuple) else item for item in self._fetch(uids, "(BODYSTRUCTURE)")]
        return {uid: b" ".join(parts)} if parts else {}

    def fetch(self, uids: Sequence[int]) -> dict[int, bytes]:
        """The raw bytes of each message, without marking it as seen; messages that have gone are left out."""
        return self._texts(uids, "BODY.PEEK[]", b"BODY[]")

    def told_of_more(self) -> bool:
        """Whether the server has told of new messages, once, since the folder was opened: in the answer to a command.

        IDLE does not tell of them again, and a search before that answer's end has not seen them (RFC 3501, 7.3.1).
        """
        _, counts = self._client.response("EXISTS")
        return any(counts)

    def idle(self, seconds: float, stop: threading.Event, wanted: Callable[[], bool] | None = None) -> None:
        """Wait until the server says anything, `stop` is set, `wanted` is true or the time is over (RFC 2177).

        What it says is not read: IDLE is a hint, and the search that follows finds what there is.
        """
        self.mailbox.idle.start()  # type: ignore[no-untyped-call]  # imap-tools' gap
        now = self._clock.monotonic()
        deadline, look = now + seconds, now + LOOK_UP_EVERY
        while not stop.is_set() and now < deadline:
            if self._has_input() or self._clock.readable(self._client.sock, min(SLICE, deadline - now)):
                break
            now = self._clock.monotonic()
            if wanted and now >= look:
                if wanted():
                    break
                look = now + LOOK_UP_EVERY
        self.mailbox.idle.stop()  # type: ignore[no-untyped-call]  # the same

    def uid(self, command: str, uids: Sequence[int], *arguments: str | bytes) -> None:
        """A UID command whose answer is only yes or no. Raises RefusedError for no."""
        if not uids:
            return
        status, answer = self._client.uid(command, uid_set(uids), *arguments)  # type: ignore[arg-type]  # takes bytes
        if status != "OK":
            raise RefusedError(f"{command} refused: {words(answer)}")

    def code(self, name: str) -> bytes:
        """The last response code of this name, such as COPYUID, once; empty when there was none."""
        _, values = self._client.response(name)
        found = values[-1] if values else None
        return found if isinstance(found, bytes) else b""

    def _login(self) -> None:
        if self._account.oauth.token_url and self._tokens:
            self._authenticate(self._tokens)
        else:
            self._plain_login()
        _, answer = self._client.capability()
        self._client.capabilities = tuple(answer[-1].decode("ascii", "replace").upper().split())

    def _plain_login(self) -> None:
        user, password = self._account.user, self._account.password.get_secret_value()
        if self.has("LOGINDISABLED"):
            raise LoginRefusedError('the server takes no password without encryption; write security = "tls"')
        plain = (user + password).isascii()
        login = self.mailbox.login if plain else self.mailbox.login_utf8
        try:
            login(user, password, initial_folder=None)
        except (MailboxLoginError, self._client.error) as error:
            if isinstance(error, self._client.abort):
                raise
            answer = error.command_result[1] if isinstance(error, MailboxLoginError) else error.args
            raise LoginRefusedError(f"login of {user!r} refused: {words(answer)}") from None

    def _authenticate(self, tokens: Tokens) -> None:
        """XOAUTH2, once more with a new token when the first is refused: it may have been revoked or just expired."""
        token = tokens("")
        try:
            self._xoauth2(token)
        except LoginRefusedError:
            self._xoauth2(tokens(token))

    def _xoauth2(self, token: str) -> None:
        answers = [f"user={self._account.user}\1auth=Bearer {token}\1\1".encode()]
        told: list[bytes] = []

        def answer(challenge: bytes) -> bytes:
            if answers:
                return answers.pop()
            told.append(challenge)  # the reason, as JSON; the mechanism wants an empty line before the server says NO
            return b""

        try:
            self._client.authenticate("XOAUTH2", answer)
        except self._client.error as error:
            if isinstance(error, self._client.abort):
                raise
            reason = words([*told, *error.args])
            raise LoginRefusedError(f"login of {self._account.user!r} with a token refused: {reason}") from None

    def _search(self, *criteria: str) -> list[int]:
        """Asked in portions by position, the last ones first.

        What is expunged in between moves later messages down, into portions that are still to come: a message may be
        found twice, and is never passed over.
        """
        found: set[int] = set()
        high = self._exists
        while high > SEARCH_AT_ONCE:
            low = high - SEARCH_AT_ONCE + 1
            found |= self._portion(f"{low}:{'*' if high == self._exists else high}", *criteria)
            high = low - 1
        portion = () if high == self._exists else (f"1:{high}",)
        return sorted(found | self._portion(*portion, *criteria))

    def _portion(self, *criteria: str) -> set[int]:
        status, answer = self._client.uid("SEARCH", *criteria)
        if status != "OK":
            raise RefusedError(f"SEARCH refused: {words(answer)}")
        return {int(word) for item in answer if item for word in item.split() if word.isdigit()}

    def _texts(self, uids: Sequence[int], part: str, name: bytes) -> dict[int, bytes]:
        found = dict(_bodies(self._fetch(uids, f"(UID {part})"), name))
        return {uid: found[uid] for uid in uids if uid in found}

    def _fetch(self, uids: Sequence[int], parts: str) -> list[Item]:
        if not uids:
            return []
        try:
            status, answer = self._client.uid("FETCH", uid_set(uids), parts)
        except self._client.error as error:
            if isinstance(error, self._client.abort) or "got more than" in str(error):  # the rest of that line follows
                raise
            status, answer = "BAD", list(error.args)
        if status != "OK":
            self._client.untagged_responses.pop("FETCH", None)  # or imaplib adds them to the next answer
            raise RefusedError(f"FETCH refused: {words(answer)}")
        return [item for item in answer if item is not None]

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


def is_busy(error: Exception) -> bool:
    """Whether a server tells by its code (RFC 5530, section 3) or in words that it will not now, whatever it is asked."""
    return bool(_BUSY.search(str(error)))


def uid_set(uids: Sequence[int]) -> str:
    """UIDs as RFC 9051 writes a set, neighbours as a range: `4:6,9`. No UID is in it that was not given."""
    parts: list[list[int]] = []
    for uid in sorted(uids):
        if parts and parts[-1][1] == uid - 1:
            parts[-1][1] = uid
        else:
            parts.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in parts)


def quoted(text: str) -> str:
    """An IMAP quoted string; what may not stand in one is left out (RFC 9051 section 4.3)."""
    clean = "".join(one for one in text if " " <= one <= "~")
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def words(answer: Sequence[Any]) -> str:
    """A server's answer on one line of at most 200 characters."""
    parts = (part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in answer)
    return "".join(filter(str.isprintable, " ".join(parts)))[:200]


def _connected(account: ImapAccount) -> BaseMailBox:
    where = (account.host, account.port, account.timeout)
    if account.security == "none":
        return MailBoxUnencrypted(*where)
    trusted = ssl.create_default_context(cafile=str(account.ca_file) if account.ca_file else None)
    if account.security == "starttls":
        return MailBoxStartTls(*where, ssl_context=trusted)
    return MailBox(*where, ssl_context=trusted)


def _bodies(items: Sequence[Item], name: bytes) -> Iterator[tuple[int, bytes]]:
    """Pair each text with its UID, which stands before or after it, as the server likes."""
    for item, following in zip(items, [*items[1:], b""], strict=False):  # no items: nothing follows
        if isinstance(item, tuple) and name in item[0].upper():
            after = following if isinstance(following, bytes) else b""
            uid = _UID.search(item[0]) or _UID.search(after)
            if uid:
                yield int(uid[1]), item[1]
