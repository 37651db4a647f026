"""Sends the inputs over the real protocols, as their senders would."""

from __future__ import annotations

import hashlib
import hmac
import smtplib
import time
from dataclasses import dataclass
from email.utils import getaddresses, parseaddr
from pathlib import Path

import httpx

from daemon.demo.inputs import Drop, Input, Mail, Request
from daemon.demo.scene import Scene
from daemon.demo.sinks import sign

TIMEOUT = 60.0


class SendError(Exception):
    """An input that was not taken over, with the other side's words."""


@dataclass(frozen=True)
class Doors:
    """Where Postroom listens: what `up` wrote into addresses.json."""

    smtp: str
    lmtp: str
    web: str


@dataclass(frozen=True)
class Sending:
    """One input that was taken over."""

    input: Input
    way: str
    """How it went, for a person."""
    answer: str
    """What the other side said."""
    job_id: str = ""
    """Told by the webhook's 202 only; mails and files are found by name."""


def send(item: Input, doors: Doors, scene: Scene) -> Sending:
    """Hand `item` over. Raises SendError when it is refused."""
    try:
        if isinstance(item.delivery, Mail):
            return _mail(item, item.delivery, doors, scene)
        if isinstance(item.delivery, Request):
            return _post(item, item.delivery, doors, scene)
        return _drop(item, item.delivery, scene.drop)
    except (OSError, smtplib.SMTPException, httpx.HTTPError) as error:
        raise SendError(f"{item.name} by {item.by}: {error}") from error


def _mail(item: Input, mail: Mail, doors: Doors, scene: Scene) -> Sending:
    if item.by == "imap" and scene.mailbox:
        return Sending(item, "IMAP (Dovecot)", scene.mailbox.append(item.payload))
    lmtp = item.by == "lmtp"
    host, _, port = (doors.lmtp if lmtp else doors.smtp).rpartition(":")
    recipients = [found for _, found in getaddresses([mail.to, mail.cc]) if found.endswith(f"@{_domain(mail.to)}")]
    with (smtplib.LMTP if lmtp else smtplib.SMTP)(host, int(port), timeout=TIMEOUT) as client:
        client.ehlo_or_helo_if_needed()
        client.mail(parseaddr(mail.from_)[1], ["BODY=8BITMIME"])
        for recipient in recipients:
            code, words = client.rcpt(recipient)
            if code >= 400:
                raise SendError(f"{item.name} by {item.by}: {recipient} was refused: {code} {words.decode()}")
        code, words = client.data(item.payload)
        if code >= 400:
            raise SendError(f"{item.name} by {item.by}: refused: {code} {words.decode()}")
    instead = " (instead of IMAP)" if item.by == "imap" else ""
    return Sending(item, f"{'LMTP' if lmtp else 'SMTP'}{instead}", f"{code} {words.decode()}")


def _domain(address: str) -> str:
    return parseaddr(address)[1].rpartition("@")[2]


def _post(item: Input, request: Request, doors: Doors, scene: Scene) -> Sending:
    secret = scene.secrets[request.source]
    headers = {"content-type": "application/json", **request.headers}
    if request.scheme == "standard":
        stamp = str(int(time.time()))
        headers |= {"webhook-id": request.id, "webhook-timestamp": stamp}
        headers["webhook-signature"] = sign(secret, request.id, stamp, item.payload)
    else:
        digest = hmac.new(secret.encode(), item.payload, hashlib.sha256).hexdigest()
        headers |= {"X-GitHub-Delivery": request.id, "X-Hub-Signature-256": f"sha256={digest}"}
    url = f"{doors.web}/hooks/{request.source}"
    answer = httpx.post(url, content=item.payload, headers=headers, timeout=TIMEOUT, trust_env=False)
    if not answer.is_success:
        raise SendError(f"{item.name}: POST {url} was answered {answer.status_code} {answer.text[:300]}")
    job_id = str(answer.json()["job"])
    return Sending(item, f"webhook ({request.scheme})", f"HTTP {answer.status_code}", job_id)


def _drop(item: Input, drop: Drop, folder: Path) -> Sending:
    """Written under a hidden name and renamed, so that no half of it is ever seen."""
    hidden = folder / f".{drop.file}"
    hidden.write_bytes(item.payload)
    hidden.rename(folder / drop.file)
    return Sending(item, "drop folder", "put there")
