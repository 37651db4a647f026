"""A real Dovecot from the system's packages, without root's powers, on free loopback ports, with a mailbox for tests.

    with running() as server:
        server.deliver(b"Subject: x\\r\\n\\r\\nhello\\r\\n")     # LMTP
        with server.mailbox() as mailbox: ...                  # IMAP

Skips the test with the name of the package when it is not installed.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from imap_tools import MailBoxUnencrypted

from tests import memory
from tests.ports import free_port

USER = "support@example.test"
PASSWORD = 'sec ret"\\'  # with what has to be quoted in IMAP
PACKAGES = "dovecot-core dovecot-imapd dovecot-lmtpd"

_CONFIGURATION = """
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
instance_name = postroom-test
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
protocols = imap lmtp
listen = 127.0.0.1
disable_plaintext_auth = no
auth_mechanisms = plain login {mechanisms}
auth_failure_delay = 0
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_max_userip_connections = 50
{tls}
{oauth}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {base}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={base}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  user = {user}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
protocol imap {{
  imap_capability = {capability}
}}
"""


@dataclass
class Dovecot:
    """A running server."""

    base: Path
    imap: int
    imaps: int
    lmtp: int
    process: subprocess.Popen[bytes]

    def deliver(self, *messages: bytes, sender: str = "a@x.test") -> None:
        """Put messages into the mailbox over LMTP."""
        with smtplib.LMTP("127.0.0.1", self.lmtp, timeout=20) as client:
            for message in messages:
                client.sendmail(sender, [USER], message)

    def mailbox(self) -> MailBoxUnencrypted:
        """A logged-in client of the tests' own."""
        box = MailBoxUnencrypted("127.0.0.1", self.imap, timeout=20)
        box.login(USER, PASSWORD)
        return box

    def count(self, folder: str) -> int:
        """Messages in a folder that are not marked as deleted; 0 when it is not there."""
        with self.mailbox() as box:
            if not box.folder.exists(folder):
                return 0
            box.folder.set(folder)
            return len(box.uids("UNDELETED"))

    def empty(self) -> None:
        """Remove every folder, and INBOX with its UIDVALIDITY."""
        shutil.rmtree(self.base / "mail" / USER, ignore_errors=True)

    def renumber(self, folder: str = "") -> None:
        """Make INBOX (or `.Name`) anew with the same mail: another UIDVALIDITY, other UIDs."""
        self.stop()
        time.sleep(1.1)  # Dovecot takes the second as UIDVALIDITY
        for path in (self.base / "mail" / USER / "Maildir" / folder).glob("dovecot*"):
            path.unlink()
        self.start()

    def log(self) -> str:
        """What Dovecot logged."""
        path = self.base / "dovecot.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def stop(self) -> None:
        """End it with all its processes, some of which outlive the first; the mail stays."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def kill(self) -> None:
        """End all its processes in the middle of whatever they do."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def start(self) -> None:
        """Start it (again) on the same ports and wait until it answers."""
        self.process = _started(self.base)
        _await_greeting(self.process, self.imap, b"* OK")
        _await_greeting(self.process, self.lmtp, b"220 ")


_OAUTH = """passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {base}/oauth2.conf
}}"""


@contextmanager
def running(
    *, certificate: tuple[Path, Path] | None = None, capability: str = "", introspection: str = ""
) -> Iterator[Dovecot]:
    """Start a Dovecot for the block.

    `certificate` (chain, key) gives it TLS on a port of its own and STARTTLS; `capability` replaces the IMAP
    capabilities it announces after login; `introspection` is a URL at which it asks whether a token is good, and makes
    it offer XOAUTH2.
    """
    program = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"needs Dovecot: apt install {PACKAGES}")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("2.3"):
        pytest.skip(f"the tests' configuration is written for Dovecot 2.3, found {version.split()[0]}")
    base = Path(tempfile.mkdtemp(prefix="pr-dovecot-", dir=memory.folder()))
    try:
        imap, imaps, lmtp = (free_port() for _ in range(3))
        _configure(base, imap, imaps, lmtp, certificate, capability, introspection)
        server = Dovecot(base, imap, imaps, lmtp, None)  # type: ignore[arg-type]  # started in the next line
        server.start()
        try:
            yield server
        finally:
            server.kill()  # what it would still tidy up goes with its folder
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _configure(
    base: Path,
    imap: int,
    imaps: int,
    lmtp: int,
    certificate: tuple[Path, Path] | None,
    capability: str,
    introspection: str,
) -> None:
    user, group = ("nobody", "nogroup") if os.getuid() == 0 else (getpass.getuser(), grp.getgrgid(os.getgid()).gr_name)
    tls = "ssl = no"
    if certificate:
        for source, name in zip(certificate, ("chain.pem", "key.pem"), strict=True):
            shutil.copy(source, base / name)
        tls = f"ssl = yes\nssl_cert = <{base}/chain.pem\nssl_key = <{base}/key.pem"
    text = _CONFIGURATION.format(
        base=base,
        user=user,
        group=group,
        imap=imap,
        imaps=imaps if certificate else 0,
        lmtp=lmtp,
        tls=tls,
        capability=capability,
        mechanisms="xoauth2" if introspection else "",
        oauth=_OAUTH.format(base=base) if introspection else "",
    )
    (base / "oauth2.conf").write_text(
        f"introspection_mode = post\nintrospection_url = {introspection}\nusername_attribute = username\n"
        "active_attribute = active\nactive_value = true\n"
    )
    (base / "dovecot.conf").write_text(text)
    (base / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
    for name in ("run", "state", "mail"):
        (base / name).mkdir()
    if os.getuid() == 0:
        entry = pwd.getpwnam(user)
        base.chmod(0o755)
        for path in (base, *base.iterdir()):
            os.chown(path, entry.pw_uid, entry.pw_gid)


def _started(base: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("dovecot") or "/usr/sbin/dovecot"
    command = [program, "-F", "-c", str(base / "dovecot.conf")]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def _await_greeting(process: subprocess.Popen[bytes], port: int, expected: bytes) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, f"Dovecot ended with status {process.returncode}"
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                if connection.recv(100).startswith(expected):
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"Dovecot does not answer on port {port}"
        time.sleep(0.1)
