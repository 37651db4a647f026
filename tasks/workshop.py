"""What every stage needs at hand, opened once a process."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from email.utils import parseaddr
from pathlib import Path

from config.routes import Route, load_routes
from config.settings import Settings
from tasks.blobs import Blobs
from tasks.clock import now_ms
from tasks.heart import Heart, this_process
from tasks.ledger import Ledger
from tasks.loops import over_cap
from tasks.model import Judge
from tasks.stages.reply import Answering
from tasks.trust import Believing

HOUR_MS = 3_600_000


class Workshop:
    """Settings, routes, ledger, blobs, the model and this process's heart."""

    def __init__(self, settings: Settings, routes: Sequence[Route], ledger: Ledger, judge: Judge) -> None:
        self.settings = settings
        self.routes = routes
        self.ledger = ledger
        self.blobs = Blobs(settings.blobs_dir)
        self.judge = judge
        self.owner = this_process()
        self.heart = Heart(ledger, settings.worker.shortest_lease())
        self.answering = Answering(settings, judge, message_id_secret(settings), self._over_cap)
        self.own_addresses = own_addresses(settings)
        self.believing = Believing(settings.trust, ledger.jobs.known)

    @classmethod
    def open(cls, settings: Settings) -> Workshop:
        """Raises ConfigError, Unavailable (ledger) or Permanent (its schema)."""
        routes = load_routes(settings.routes_dir, settings.templates_dir, frozenset(settings.endpoint))
        return cls(settings, routes, Ledger.open(settings.ledger), Judge(settings.model))

    def close(self) -> None:
        """Stop the heart and close the ledger."""
        self.heart.stop()
        self.ledger.close()

    def _over_cap(self, recipient: str) -> str:
        if not recipient:
            return ""
        now = now_ms()
        times = self.ledger.deliveries.sent_to(recipient, now - HOUR_MS)
        return over_cap(times, now, ((self.settings.smtp_out.max_replies_per_hour, HOUR_MS),))


def own_addresses(settings: Settings) -> frozenset[str]:
    """The addresses that are ours: mail from them is never answered, mail to them is meant for us."""
    given = [
        *settings.smtp_out.own_addresses,
        parseaddr(settings.smtp_out.sender)[1],
        *(account.address or account.user for account in settings.imap.values()),
    ]
    return frozenset(address.lower() for address in given if "@" in address)


def message_id_secret(settings: Settings) -> bytes:
    """The key of our Message-ID tokens: from the settings, or made once and kept in the state folder."""
    if configured := settings.secret.get_secret_value():
        return configured.encode()
    path = settings.state_dir / "secret"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return _made_once(path)


def _made_once(path: Path) -> bytes:
    """The first process to link its file wins, so that all of them use one secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f".secret-{secrets.token_hex(8)}")
    mine.touch(mode=0o600)
    mine.write_bytes(secrets.token_bytes(32))
    try:
        path.hardlink_to(mine)
    except FileExistsError:
        pass
    finally:
        mine.unlink()
    return path.read_bytes()
