"""A Dovecot for the demo's IMAP input: no root needed, loopback only, all its files in one temporary folder."""

from __future__ import annotations

import grp
import imaplib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 10.0

CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = postroom-demo
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 1
mail_location = maildir:~/Maildir
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class Mailbox:
    """One account on a Dovecot of our own.

    Its files lie in the system's temporary folder: socket paths must be short (unix(7): 107 bytes), and when root
    starts the demo, Dovecot's unprivileged user could not reach a folder below /root.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.folder = Path(tempfile.mkdtemp(prefix="postroom-demo-"))
        self.port = free_port()
        self.password = secrets.token_hex(12)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def why_not() -> str:
        """Why no Dovecot can be started here; empty when one can."""
        path = _dovecot()
        if path is None:
            return "dovecot is not installed"
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        return "" if version.startswith("2.3.") else f"dovecot {version.split(' ')[0].strip()} is not 2.3"

    def start(self) -> None:
        """Start it and wait until it greets. Raises RuntimeError with Dovecot's own words when it does not."""
        program = _dovecot()
        if program is None:
            raise RuntimeError("dovecot is not installed")
        user = _ordinary_user()
        group = grp.getgrgid(user.pw_gid).gr_name
        for name in ("mail", "state", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "users").write_text(f"{self.user}:{{PLAIN}}{self.password}::::::\n")
        config = self.folder / "dovecot.conf"
        config.write_text(CONFIG.format(folder=self.folder, user=user.pw_name, group=group, port=self.port))
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        with (self.folder / "dovecot.out").open("wb") as out:
            self._process = subprocess.Popen([program, "-F", "-c", str(config)], stdout=out, stderr=out)
        self._wait()

    def stop(self) -> None:
        """End Dovecot and its children, and remove its files."""
        if self._process:
            self._process.terminate()
            self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, raw: bytes) -> str:
        """Put one message into INBOX; the server's answer."""
        client = imaplib.IMAP4("127.0.0.1", self.port)
        try:
            client.login(self.user, self.password)
            status, answer = client.append("INBOX", "", "", raw)
            return f"{status} {answer[0].decode() if answer and isinstance(answer[0], bytes) else ''}"
        finally:
            client.logout()

    def _wait(self) -> None:
        assert self._process
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    if connection.recv(100).startswith(b"* OK"):
                        return
            except OSError:
                time.sleep(0.1)
        words = [path.read_text() for name in ("out", "log") if (path := self.folder / f"dovecot.{name}").is_file()]
        self.stop()
        raise RuntimeError(f"dovecot did not start: {' '.join(words)[-500:]}")


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _dovecot() -> str | None:
    return shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _ordinary_user() -> pwd.struct_passwd:
    """Who Dovecot runs as: ourselves, or for root the user that owns nothing (Dovecot refuses uid 0 for mail)."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
