"""What the settings stand for: the routes, the addresses that are ours, the secret behind our names."""

from __future__ import annotations

import secrets
from email.utils import parseaddr
from pathlib import Path

from config.routes import Route, load_routes
from config.settings import Settings


def routes_of(settings: Settings) -> tuple[Route, ...]:
    """The routes that the settings name. Raises ConfigError."""
    endpoints, passwords = frozenset(settings.endpoint), frozenset(settings.passwords)
    return load_routes(settings.routes_dir, settings.templates_dir, endpoints, passwords)


def passwords_of(settings: Settings, route: Route) -> tuple[str, ...]:
    """What the route tries on locked documents, in order and each once."""
    lists = (settings.passwords[name].secrets for name in route.documents.passwords)
    return tuple(dict.fromkeys(one.get_secret_value() for secrets in lists for one in secrets))


def own_addresses(settings: Settings) -> frozenset[str]:
    """The addresses that are ours: mail from them is never answered, mail to them is meant for us."""
    given = [
        *settings.smtp_out.own_addresses,
        parseaddr(settings.smtp_out.sender)[1],
        parseaddr(settings.review.sender)[1],
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
