"""Access tokens for a mailbox (RFC 6749 sections 4.4 and 6), renewed before they end and kept over a restart.

A provider may answer a refresh with a new refresh token and forget the old one at once (Microsoft does): the new one is
on disk before the access token that came with it is used. Processes share one file for each account under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from config.imap import ImapAccount
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_session import LoginRefusedError
from tasks.errors import Unavailable

EARLY = 300.0
"""Seconds before its end at which a token is renewed; a tenth of its life when that is less."""
UNTOLD = 3600.0
"""Life of a token whose length the server does not tell."""
LONGEST_ANSWER = 262_144


@dataclass(frozen=True)
class Access:
    """An access token and the time (seconds since the epoch) from which on it is not used any more."""

    token: str
    renew_at: float


class AccountTokens:
    """The tokens of one account; thread-safe. Call it for an access token, naming the one that was refused, if any."""

    def __init__(self, name: str, account: ImapAccount, state_dir: Path, clock: Clock) -> None:
        self._account = account
        self._oauth = account.oauth
        self._clock = clock
        self._path = state_dir / "imap" / f"{quote(name, safe='')}.token"
        self._lock = threading.Lock()
        self._access: Access | None = None
        self._unsaved = ""

    def __call__(self, refused: str) -> str:
        """A token that is good for a while yet.

        Raises LoginRefusedError when the endpoint says no, Unavailable when it cannot be asked.
        """
        with self._lock:
            known = self._access
            if known and self._clock.now() < known.renew_at and known.token != refused:
                return known.token
            self._access = None  # while the endpoint is out, the server is not bothered with a token that it refused
            with self._file_lock():
                self._access = self._taken(self._ask(self._form()))
            return self._access.token

    def _form(self) -> dict[str, str]:
        oauth = self._oauth
        form = {"grant_type": oauth.grant, "client_id": oauth.client_id}
        if secret := oauth.client_secret.get_secret_value():
            form["client_secret"] = secret
        if oauth.scope:
            form["scope"] = oauth.scope
        if oauth.grant == "refresh_token":
            form["refresh_token"] = self._unsaved or self._kept() or oauth.refresh_token.get_secret_value()
        return form

    def _ask(self, form: dict[str, str]) -> dict[str, Any]:
        where = self._oauth.token_url
        try:
            status, body = _post(where, form, self._oauth.timeout)
            answer = json.loads(body)
        except httpx.HTTPError as error:
            raise Unavailable("oauth", f"the token endpoint {where} does not answer: {type(error).__name__}") from error
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        if 400 <= status < 500 and status not in {408, 429}:
            told = " ".join(str(answer.get(key, "")) for key in ("error", "error_description")).strip()
            told = "".join(filter(str.isprintable, told))[:300] or f"status {status}"
            raise LoginRefusedError(
                f"the token endpoint refused {self._account.user!r}: {told}; authorize the mailbox again and set [oauth]"
            )
        if status != 200 or not isinstance(answer.get("access_token"), str):
            raise Unavailable("oauth", f"the token endpoint {where} answered {status} without a token")
        return answer

    def _taken(self, answer: dict[str, Any]) -> Access:
        rotated = answer.get("refresh_token")
        if self._oauth.grant == "refresh_token" and isinstance(rotated, str) and rotated:
            self._unsaved = rotated  # should the disk refuse it, the old one is worth nothing any more
            self._keep(rotated)
            self._unsaved = ""
        try:
            life = float(answer.get("expires_in", UNTOLD))
        except (TypeError, ValueError):
            life = UNTOLD
        return Access(answer["access_token"], self._clock.now() + life - min(EARLY, life / 10))

    def _first(self) -> str:
        """Marks which configured token a kept one descends from: a newly configured one replaces it."""
        return hashlib.sha256(self._oauth.refresh_token.get_secret_value().encode()).hexdigest()

    def _kept(self) -> str:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return ""
        same = isinstance(kept, dict) and kept.get("first") == self._first()
        return str(kept.get("refresh_token", "")) if same else ""

    def _keep(self, token: str) -> None:
        """Write the token durably, readable by us alone. Raises Unavailable: without it the mailbox would be lost."""
        temporary = self._path.with_suffix(".new")
        content = json.dumps({"first": self._first(), "refresh_token": token})
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable("oauth", f"cannot keep the new refresh token in {self._path}: {error.strerror}") from None

    @contextlib.contextmanager
    def _file_lock(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = self._path.with_suffix(".lock").open("w")
        except OSError as error:
            raise Unavailable("oauth", f"cannot write to {self._path.parent}: {error.strerror}") from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _post(url: str, form: dict[str, str], timeout: float) -> tuple[int, bytes]:
    """Status and at most LONGEST_ANSWER bytes of the answer; a redirect is an answer like any other."""
    with (
        httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", url, data=form, headers={"Accept": "application/json"}) as response,
    ):
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > LONGEST_ANSWER:
                break
        return response.status_code, body
