"""How fast mail is taken out of a mailbox: 1000 mails with a PDF of 50 KiB each, on a real Dovecot.

Compares in one run, each in a process of its own: a bare imap-tools loop that only fetches and parses; Postroom, which
asks the sizes, fetches, commits message and job to disk, writes down what was done, and moves the message. Then the time
from the mail server's 250 to the job on disk, with IDLE.

    python -m benchmarks.inbox [--mails 1000] [--rounds 3] [--latency 50]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imap_tools import MailBoxUnencrypted

from config.imap import ImapAccount
from config.settings import Settings
from daemon.listeners.imap import ACCEPT_AT_ONCE
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_folder import FolderWatch, Parts
from daemon.listeners.imap_session import ImapSession
from daemon.listeners.imap_settling import ensure_folders
from daemon.listeners.imap_watchdog import Pulse
from tasks.intake import Intake
from tests.integration.dovecot import PASSWORD, USER, Dovecot, running

ROOT = Path(__file__).resolve().parents[1]
PDF_BYTES = 51_200


def mail(number: int) -> bytes:
    """A mail with a PDF that is like no other."""
    pdf = b"%PDF-1.7\n" + random.Random(number).randbytes(PDF_BYTES - 9)
    encoded = base64.encodebytes(pdf).replace(b"\n", b"\r\n")
    return (
        (
            f"From: Ann <ann{number}@x.test>\r\nTo: {USER}\r\nMessage-ID: <{number}@x.test>\r\nSubject: invoice {number}\r\n"
            'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
            "Dear team,\r\n\r\nhere is the invoice.\r\n--b\r\nContent-Type: application/pdf; name=invoice.pdf\r\n"
            "Content-Disposition: attachment; filename=invoice.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        ).encode()
        + encoded
        + b"--b--\r\n"
    )


def bare(port: int) -> int:
    """What a script does: fetch in bulks without marking, and read text and attachments."""
    number = 0
    with MailBoxUnencrypted("127.0.0.1", port).login(USER, PASSWORD) as box:
        for message in box.fetch(bulk=50, mark_seen=False):
            number += bool(message.text) and bool(message.attachments[0].payload)
    return number


@contextlib.contextmanager
def postroom(port: int, state: Path) -> Iterator[tuple[FolderWatch, ImapSession, Intake]]:
    """A watcher of INBOX, logged in, that has not looked yet."""
    account = ImapAccount(host="127.0.0.1", port=port, security="none", user=USER, password=PASSWORD)
    settings = Settings(state_dir=state, imap={"support": account}, log_level="error")
    intake = Intake.open(settings)
    clock, stop = Clock(), threading.Event()
    with ThreadPoolExecutor(ACCEPT_AT_ONCE) as pool, ImapSession(account) as session:
        parts = Parts("support", account, intake, stop, lambda _: None, lambda *_: None, None, pool, clock)
        pulse = Pulse(intake.ledger.imap_folders, "support", account, "INBOX", clock)
        pulse.claim.take()
        ensure_folders(session, account)
        yield FolderWatch(parts, "INBOX", pulse), session, intake
    intake.close()


def one(what: str, port: int, state: Path) -> dict[str, float]:
    """One measured run in this process."""
    if what == "bare":
        started = time.perf_counter()
        number = bare(port)
        seconds = time.perf_counter() - started
    else:
        from tasks import log  # noqa: PLC0415  # only here

        log.configure(Settings(state_dir=state, log_level="warning"), "benchmark")
        with postroom(port, state) as (watch, session, intake):
            started = time.perf_counter()
            while watch.round(session):
                pass
            seconds = time.perf_counter() - started
            number = sum(intake.ledger.jobs.counts().values())
    return {
        "number": number,
        "seconds": seconds,
        "cpu": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_process(what: str, port: int, state: Path) -> dict[str, float]:
    """`one` in a process of its own, so that memory and caches are its own."""
    command = [sys.executable, "-m", "benchmarks.inbox", "--one", what, "--port", str(port), "--state", str(state)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr[-2000:])
    told: dict[str, float] = json.loads(ended.stdout)
    return told


def fill(server: Dovecot, template: Path) -> None:
    """Put the mails into an empty INBOX."""
    server.stop()
    server.empty()
    target = server.base / "mail" / USER / "Maildir"
    shutil.copytree(template, target)
    owner = (server.base / "mail").stat()
    for path in [target.parent, target, *target.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    server.start()


def throughput(server: Dovecot, folder: Path, mails: int, rounds: int) -> None:
    """Both in turn; medians."""
    template = folder / "template"
    for name in ("new", "cur", "tmp"):
        (template / name).mkdir(parents=True)
    for number in range(mails):
        (template / "new" / f"1700000000.{number:06}.host").write_bytes(mail(number))
    found: dict[str, list[dict[str, float]]] = {"bare": [], "postroom": []}
    print(f"{'':<10}{'mails/s':>9}{'CPU ms/mail':>13}{'peak MB':>9}")
    for turn in range(rounds):
        for what, runs in found.items():
            fill(server, template)
            told = in_process(what, server.imap, folder / f"state-{turn}")
            if told["number"] != mails:
                raise SystemExit(f"{what} got {told['number']} of {mails} mails")
            runs.append(told)
            cpu = told["cpu"] * 1000 / mails
            print(f"{what:<10}{mails / told['seconds']:>9.0f}{cpu:>13.2f}{told['peak_mb']:>9.0f}", flush=True)
    rates = {what: statistics.median(mails / told["seconds"] for told in runs) for what, runs in found.items()}
    print(
        f"median: {rates['postroom']:.0f}/s, {rates['postroom'] / rates['bare']:.2f} of the bare loop's {rates['bare']:.0f}/s"
    )


def latency(server: Dovecot, folder: Path, mails: int) -> None:
    """From the server's 250 to the job on disk, with `postroom imap` and IDLE."""
    server.empty()
    state = folder / "latency"
    config = folder / "postroom.toml"
    config.write_text(
        f'state_dir = "{state}"\n[imap.support]\nhost = "127.0.0.1"\nport = {server.imap}\nsecurity = "none"\n'
        f'user = "{USER}"\npassword = {json.dumps(PASSWORD)}\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "-c", str(config), "imap"], cwd=ROOT, stderr=log
        )
    try:
        times = []
        for number in range(mails + 1):  # the first waits for the process to start
            server.deliver(mail(100_000 + number))
            times.append(_until_there(state / "ledger.db", number + 1))
            time.sleep(random.uniform(0.1, 1.5))
        shown = sorted(one * 1000 for one in times[1:])
        p99 = shown[min(len(shown) - 1, round(0.99 * len(shown)))]
        print(f"delivered to accepted, {mails} mails: median {statistics.median(shown):.0f} ms, p99 {p99:.0f} ms")
    finally:
        process.terminate()
        process.wait(30)


def _until_there(path: Path, number: int) -> float:
    started = time.perf_counter()
    while time.perf_counter() - started < 60:
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(path, timeout=1)) as ledger,
        ):
            while time.perf_counter() - started < 60:
                if ledger.execute("SELECT count(*) FROM jobs").fetchone()[0] >= number:
                    return time.perf_counter() - started
                time.sleep(0.002)
        time.sleep(0.05)
    raise SystemExit("a mail was not accepted within a minute")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=int, default=50, help="mails for the second part; 0: skip")
    parser.add_argument("--one", choices=["bare", "postroom"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.port, options.state)))
        return
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {len(mail(0))} bytes a mail")
    with tempfile.TemporaryDirectory() as name, running() as server:
        throughput(server, Path(name), options.mails, options.rounds)
        if options.latency:
            latency(server, Path(name), options.latency)


if __name__ == "__main__":
    main()
