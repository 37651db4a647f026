"""From raw bytes to a job: the envelope of a mail out of a mailbox, and many of them handed over at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from config.imap import ImapAccount
from tasks.authres import trusted
from tasks.errors import Permanent, Unavailable
from tasks.intake import Intake
from tasks.ledger.imap_messages import Taken
from tasks.mailhead import sender_of
from tasks.mailkey import mail_key
from tasks.models import Envelope, Kind

UnderWay = dict[int, Future[tuple[Taken, bool] | Exception]]


@dataclass
class Outcomes:
    """What became of some messages, by UID."""

    taken: list[Taken] = field(default_factory=list)
    repeats: int = 0
    """How many of `taken` were jobs already."""
    refused: dict[int, str] = field(default_factory=dict)
    """Never to be accepted, with the reason."""
    faults: dict[int, Exception] = field(default_factory=dict)
    """Errors that nobody expected."""
    outage: Unavailable | None = None
    """The ledger cannot store now."""
    waiting: list[int] = field(default_factory=list)
    """The messages that met the outage."""


class Acceptor:
    """The way of one account's mail into the ledger."""

    def __init__(self, name: str, account: ImapAccount, intake: Intake, pool: ThreadPoolExecutor) -> None:
        self._name = name
        self._account = account
        self._intake = intake
        self._pool = pool

    def start(self, messages: Mapping[int, bytes]) -> UnderWay:
        """Hand messages over, all at once so that they share an fsync, without waiting for it. Raises Unavailable.

        What this account had before is recognised by its key, also when its job was purged since; then it is no new job.
        """
        keys = {uid: mail_key(raw) for uid, raw in messages.items()}
        known = self._intake.ledger.imap_messages.taken_before(self._name, [_short(key) for key in keys.values()])
        return {
            uid: _again(uid, raw, keys[uid], known[_short(keys[uid])])
            if _short(keys[uid]) in known
            else self._pool.submit(self._one, uid, raw, keys[uid])
            for uid, raw in messages.items()
        }

    @staticmethod
    def finish(under_way: UnderWay) -> Outcomes:
        """Wait for all of them. Never raises."""
        outcomes = Outcomes()
        for uid, future in under_way.items():
            told = future.result()
            if isinstance(told, tuple):
                outcomes.taken.append(told[0])
                outcomes.repeats += told[1]
            elif isinstance(told, Unavailable):
                outcomes.outage = told
                outcomes.waiting.append(uid)
            elif isinstance(told, Permanent):
                outcomes.refused[uid] = told.reason
            else:
                outcomes.faults[uid] = told
        return outcomes

    def _one(self, uid: int, raw: bytes, key: str) -> tuple[Taken, bool] | Exception:
        try:
            receipt = self._intake.accept(self._envelope(raw, key), raw)
        except Exception as error:  # a fault of ours with this message must not stop the others
            return error
        return _taken(uid, raw, key, receipt.job_id), receipt.duplicate

    def _envelope(self, raw: bytes, key: str) -> Envelope:
        return Envelope(
            source=f"imap:{self._name}",  # not the folder: the same mail in two folders is one job
            kind=Kind.MAIL,
            key=key,
            sender=sender_of(raw),
            recipients=(self._account.address or self._account.user,),
            content_type="message/rfc822",
            headers=trusted(raw, self._account.authserv_id),
        )


def _again(uid: int, raw: bytes, key: str, job_id: str) -> Future[tuple[Taken, bool] | Exception]:
    known: Future[tuple[Taken, bool] | Exception] = Future()
    known.set_result((_taken(uid, raw, key, job_id), True))
    return known


def _taken(uid: int, raw: bytes, key: str, job_id: str) -> Taken:
    message_id = key.partition(" ")[0] if key.startswith("<") else ""
    return Taken(uid, job_id, message_id, len(raw), _short(key))


def _short(key: str) -> str:
    """A key of a fixed length, for an index that stays small."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
