"""A real Exim, unpacked beside whatever mail server the machine has: Debian's packages of Exim and Postfix exclude each other.

    with running(routers, transports) as server:
        server.send(["invoices@example.com"], b"Subject: x\r\n\r\nhello\r\n")

`.ci/packages` unpacks it into the virtual environment. Its user, which nobody made, is told to it by libnss-wrapper. Runs
as root only, as mail servers do, on a loopback port; no mail can leave it: what is not for the one domain is refused.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import memory
from tests.integration.doors import until
from tests.ports import free_port

UNPACKED = Path(sys.prefix) / "exim"
DOMAIN = "example.com"

_CONFIGURATION = """
primary_hostname = mx.{domain}
exim_path = {program}
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
keep_environment = LD_PRELOAD : LD_LIBRARY_PATH : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
deliver_drop_privilege
tls_advertise_hosts =
ignore_bounce_errors_after = 0s
acl_smtp_rcpt = recipient

begin acl
recipient:
  accept domains = {domain}
  deny message = relay not permitted

begin routers
{routers}

begin transports
{transports}

begin retry
* * F,1h,1s
"""


@dataclass(frozen=True)
class Exim:
    """A running Exim."""

    base: Path
    port: int

    def send(self, recipients: list[str], content: bytes, sender: str = "ann@sender.test") -> None:
        """Hand it a mail by SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.sendmail(sender, recipients, content)

    def log(self) -> str:
        """All it has logged."""
        return "".join(path.read_text() for path in sorted((self.base / "log").glob("*log")))

    def queued(self) -> int:
        """Mails it has not got rid of yet."""
        return len(list((self.base / "spool" / "input").rglob("*-H")))


@contextmanager
def running(routers: str, transports: str) -> Iterator[Exim]:
    """Start an Exim with these in its configuration, and stop it at the end."""
    program = UNPACKED / "usr/sbin/exim4"
    if not program.exists():
        pytest.skip("needs Exim, unpacked by .ci/packages")
    if os.getuid() != 0:
        pytest.skip("Exim can only be started by root")
    base = Path(tempfile.mkdtemp(prefix="postroom-exim-", dir=memory.folder()))
    try:
        port = free_port()
        options = {"base": base, "domain": DOMAIN, "port": port, "program": program}
        (base / "exim.conf").write_text(_CONFIGURATION.format(**options, routers=routers, transports=transports))
        environment = _prepared(base)
        told = subprocess.run([str(program), "-bV"], env=environment, capture_output=True, text=True, check=False)
        if told.returncode == 127:
            pytest.skip(f"Exim lacks a library: {told.stderr.strip()}")
        command = [str(program), "-C", str(base / "exim.conf"), "-bdf", "-q1s"]
        with (base / "out").open("wb") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        server = Exim(base, port)
        try:
            until(lambda: _answers(process, server), 30)
            yield server
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _prepared(base: Path) -> dict[str, str]:
    """Folders and the environment in which Exim finds its libraries and its user."""
    nobody = pwd.getpwnam("nobody")
    base.chmod(0o755)
    for name in ("spool", "log"):
        (base / name).mkdir()
        os.chown(base / name, nobody.pw_uid, nobody.pw_gid)
    user = f"Debian-exim:x:{nobody.pw_uid}:{nobody.pw_gid}::/:/bin/false\n"
    (base / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{user}")
    (base / "group").write_text(f"root:x:0:\nmail:x:8:\nDebian-exim:x:{nobody.pw_gid}:\n")
    libraries = sorted({str(path.parent) for path in (UNPACKED / "usr/lib").rglob("lib*.so*")})
    (wrapper,) = (UNPACKED / "usr/lib").rglob("libnss_wrapper.so")
    return {
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": ":".join(libraries),
        "LD_PRELOAD": str(wrapper),
        "NSS_WRAPPER_PASSWD": str(base / "passwd"),
        "NSS_WRAPPER_GROUP": str(base / "group"),
    }


def _answers(process: subprocess.Popen[bytes], server: Exim) -> bool:
    out = (server.base / "out").read_text()
    assert process.poll() is None, f"Exim ended with status {process.returncode}: {out}{server.log()}"
    try:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=5) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def documented(page: Path, port: int) -> tuple[str, str]:
    """Router and transport of docs/mail.md, for a Postroom on another port."""
    found = re.search(
        r"### Behind Exim\n\n```\n# routers[^\n]*\n(.*?)\n# transports\n(.*?)```", page.read_text(), re.DOTALL
    )
    assert found, f"{page} has no router and transport for Exim"
    routers, transports = found[1], found[2].replace("port = 8024", f"port = {port}")
    assert str(port) in transports
    return routers, transports
