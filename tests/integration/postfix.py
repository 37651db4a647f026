"""A real Postfix from the system's package, configured in a folder of its own, on a free loopback port.

    with running(transport="lmtp:inet:127.0.0.1:8024") as server:
        server.send("invoices@example.com", b"Subject: x\r\n\r\nhello\r\n")

Its master process has to be root's, so the test is skipped for others, and where the package is missing. No mail can leave
it: what is not for the one domain goes nowhere.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import memory
from tests.integration.doors import until
from tests.ports import free_port

COMMAND = "/usr/sbin/postfix"
DOMAIN = "example.com"

_MAIN = """
compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = {base}/log
maillog_file_prefixes = {base}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.{domain}
mydestination =
mynetworks = 127.0.0.1/32
alias_maps =
relay_domains = {domain}
default_transport = error:this server sends nothing away
relay_transport = error:no such mailbox
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = none
recipient_delimiter = +
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
transport_retry_time = 1s
{documented}
"""
_SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running Postfix."""

    base: Path
    port: int

    @property
    def spool(self) -> Path:
        """Its queue directory, from which relative socket paths start."""
        return self.base / "spool"

    def send(self, recipients: list[str], content: bytes, sender: str = "ann@sender.test") -> None:
        """Hand it a mail by SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.sendmail(sender, recipients, content)

    def log(self) -> str:
        """All it has logged."""
        return (self.base / "log").read_text()

    def queued(self) -> int:
        """Mails it has not got rid of yet."""
        queues = (self.spool / name for name in ("incoming", "active", "deferred"))
        return sum(path.is_file() for queue in queues for path in queue.rglob("*"))


@contextmanager
def running(documented: str) -> Iterator[Postfix]:
    """Start a Postfix with the given lines in main.cf, and stop it at the end."""
    if not Path(COMMAND).exists():
        pytest.skip("needs the package postfix")
    if os.getuid() != 0:
        pytest.skip("Postfix can only be started by root")
    base = Path(tempfile.mkdtemp(prefix="postroom-postfix-", dir=memory.folder()))
    try:
        base.chmod(0o755)
        port = free_port()
        for folder in ("config", "spool", "data"):
            (base / folder).mkdir()
        shutil.chown(base / "data", "postfix")
        (base / "config/main.cf").write_text(_MAIN.format(base=base, domain=DOMAIN, documented=documented))
        (base / "config/master.cf").write_text(_SERVICES.format(port=port))
        _run(base, "start")
        try:
            until(lambda: _answers(port), 30)
            yield Postfix(base, port)
        finally:
            _run(base, "stop")
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _run(base: Path, verb: str) -> None:
    command = [COMMAND, "-c", str(base / "config"), verb]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    log = (base / "log").read_text() if (base / "log").exists() else ""
    assert done.returncode == 0, f"postfix {verb}: {done.stdout}{done.stderr}{log}"


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            return client.noop()[0] == 250
    except OSError:
        return False


def documented(page: Path, address: str, transport: str) -> str:
    """The `transport_maps` line of docs/mail.md for `transport`, such as `lmtp:inet:`, with another place in it."""
    found = re.search(
        rf"^transport_maps = inline:{{ [^=]+=({re.escape(transport)}\S+) }}$", page.read_text(), re.MULTILINE
    )
    assert found, f"{page} has no transport_maps line for {transport}"
    return found[0].replace(found[1], address)
