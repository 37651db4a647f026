"""The stage the demo plays on: its state folder, its sinks, its secrets and the postroom.toml that joins them."""

from __future__ import annotations

import base64
import fcntl
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parseaddr
from pathlib import Path
from typing import IO

from config.settings import SHIPPED
from daemon.demo.inputs import Input, Mail
from daemon.demo.mailbox import Mailbox
from daemon.demo.sinks import HookSink, MailSink

MARK = ".postroom-demo"
ENDPOINT = "results"
DELIVER = f"""
# Added by the demo: where results go.
[[deliver]]
smtp = "sender"

[[deliver]]
webhook = "{ENDPOINT}"
"""


class SceneError(Exception):
    """The demo cannot be set up here, and what to do about it."""


@dataclass
class Scene:
    """Everything the demo owns besides Postroom itself."""

    state: Path
    lock: IO[str]
    """Held while the demo runs, so that no second one empties the folder."""
    outbox: MailSink
    hooks: HookSink
    mailbox: Mailbox | None
    no_mailbox_because: str
    addresses: tuple[str, ...]
    """Who the inputs are written to; the first is who answers. All are of one domain."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Signing secrets of the webhook sources by name."""

    @property
    def config(self) -> Path:
        """The demo's postroom.toml."""
        return self.state / "postroom.toml"

    @property
    def log(self) -> Path:
        """Where Postroom's log lines go."""
        return self.state / "postroom.log"

    @property
    def drop(self) -> Path:
        """The drop folder."""
        return self.state / "drop"

    def close(self) -> None:
        """Stop the sinks and Dovecot, and let go of the folder."""
        self.outbox.stop()
        self.hooks.stop()
        if self.mailbox:
            self.mailbox.stop()
        self.lock.close()


def build(state: Path, inputs: Sequence[Input]) -> Scene:
    """Empty `state`, start sinks and mailbox, write the configuration. Raises SceneError when `state` is not ours."""
    mails = [item.delivery for item in inputs if isinstance(item.delivery, Mail)]
    addresses = tuple(dict.fromkeys(parseaddr(mail.to)[1] for mail in mails)) or ("office@harbourlane.example",)
    by_imap = [parseaddr(mail.to)[1] for mail in mails if mail.by == "imap"]
    lock = _claim(state)
    scene = Scene(
        state,
        lock,
        MailSink(state / "outbox"),
        HookSink(state / "hooks", standard_secret()),
        None,
        Mailbox.why_not(),
        addresses,
        {"shop": standard_secret(), "github": secrets.token_hex(24)},
    )
    scene.drop.mkdir()
    scene.outbox.start()
    scene.hooks.start()
    if by_imap and not scene.no_mailbox_because:
        mailbox = Mailbox(by_imap[0])
        try:
            mailbox.start()
        except (RuntimeError, OSError) as error:
            scene.no_mailbox_because = str(error)
        else:
            scene.mailbox = mailbox
    scene.config.touch(0o600)
    scene.config.write_text(_toml(scene), "utf-8")
    _copy_routes(state / "routes")
    return scene


def standard_secret() -> str:
    """A new Standard Webhooks secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _claim(state: Path) -> IO[str]:
    """Make `state` an empty folder of ours, unless it holds other things or another demo runs in it; the lock on it."""
    mark = state / MARK
    if state.exists() and any(state.iterdir()) and not mark.exists():
        raise SceneError(f"{state} holds files that no demo made; name another folder with --state")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = mark.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SceneError(f"another demo runs in {state}; stop it or name another folder with --state") from None
    for entry in state.iterdir():
        if entry.name == MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return lock


def _toml(scene: Scene) -> str:
    text = json.dumps  # a JSON string is a TOML basic string
    domain = scene.addresses[0].rpartition("@")[2]
    out = [
        "# Written by the demo at every start.",
        f"state_dir = {text(str(scene.state))}",
        f"routes_dir = {text(str(scene.state / 'routes'))}",
        "inline_limit = 0  # every raw message becomes a file that can be looked at",
        'log_format = "json"',
        "",
        "[smtp]",
        "port = 0",
        "lmtp_port = 0",
        f'recipients = ["@{domain}"]',
        "",
        "[web]",
        "port = 0",
        "",
        "[smtp_out]",
        f"port = {scene.outbox.port}",
        f"sender = {text(scene.addresses[0])}",
        f"domain = {text(domain)}",
        f"own_addresses = {text(scene.addresses)}",
        "",
        "[folder.scans]",
        f"path = {text(str(scene.drop))}",
        "poll = 0.5",
        "settle = 0.5",
        "",
    ]
    for name, secret in scene.secrets.items():
        scheme = "github" if name == "github" else "standard"
        out += [f"[webhook.{name}]", f'scheme = "{scheme}"', f"secrets = [{text(secret)}]", ""]
    out += [f"[endpoint.{ENDPOINT}]", f"url = {text(scene.hooks.url)}", f"secrets = [{text(scene.hooks.secret)}]"]
    out += ["allow_private = true  # the demo's own sink, on loopback", ""]
    if scene.mailbox:
        out += ["[imap.jobs]", 'host = "127.0.0.1"', f"port = {scene.mailbox.port}", 'security = "none"']
        out += [f"user = {text(scene.mailbox.user)}", f"password = {text(scene.mailbox.password)}", "poll = 2", ""]
    return "\n".join(out)


def _copy_routes(folder: Path) -> None:
    """The routes that ship, and where their results go: to the sender and, signed, to the webhook sink."""
    folder.mkdir()
    for path in sorted((SHIPPED / "routes").glob("*.toml")):
        text = path.read_text("utf-8")
        (folder / path.name).write_text(f"{text}{DELIVER}", "utf-8")
