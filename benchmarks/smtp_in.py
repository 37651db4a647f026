"""How fast mail is taken over SMTP, each one durable before its 250, and what hostile clients get.

The door runs in a process of its own with the real intake (SQLite, synchronous=FULL; mails over 64 KiB as files with
fsync). Latency is from MAIL to the reply after the final dot, on a connection that is already there.

    python -m benchmarks.smtp_in [--connections 200] [--mails 4000] [--size 70000] [--folder ON-A-REAL-DISK]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

from config.settings import Settings
from daemon.listeners.smtp import run
from tasks import log
from tasks.intake import Intake

SHORT = 5.0
"""Timeout of the door that slow clients meet."""


def serve(folder: Path, timeout: float) -> None:
    """The door's process: says its port and runs until its standard input closes."""
    door = {"port": 0, "lmtp_port": False, "max_connections": 300, "max_connections_per_address": 0, "timeout": timeout}
    settings = Settings(state_dir=folder, smtp=door, log_level="error")
    log.configure(settings, "smtp")  # at info it would fill the pipe that nobody reads any more
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    intake = Intake.open(settings)
    run(settings, intake, stop, ready=lambda line: print(line, flush=True))
    intake.close()


@contextlib.contextmanager
def running(folder: Path, timeout: float) -> Iterator[tuple[int, int]]:
    """A door in a process of its own: (port, pid)."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.smtp_in", "--serve", str(folder), "--timeout", str(timeout)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True) as door:
        assert door.stdout
        assert door.stdin
        for line in door.stdout:
            if line.startswith("smtp on "):
                yield int(line.rpartition(":")[2]), door.pid
                break
        door.stdin.close()


def megabytes(pid: int, what: str = "VmHWM") -> float:
    """Memory that a process has held at most (VmHWM) or holds (VmRSS)."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def greeted(cls, port: int) -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        await client.reply()
        await client.say(b"EHLO bench.test")
        return client

    async def reply(self) -> str:
        while line := await self.reader.readline():
            if line[3:4] != b"-":
                return line.decode().strip()
        return ""

    async def say(self, line: bytes) -> str:
        self.writer.write(line + b"\r\n")
        return await self.reply()

    async def begin(self) -> None:
        for line in (b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"DATA"):
            await self.say(line)


async def throughput(port: int, connections: int, mails: int, size: int) -> tuple[float, list[float], Counter[str]]:
    """Seconds in all, seconds of each mail, and the replies' codes."""
    body = (b"y" * 74 + b"\r\n") * (size // 76)
    clients = [await Client.greeted(port) for _ in range(connections)]
    numbers = iter(range(mails))
    taken: list[float] = []
    replies: Counter[str] = Counter()

    async def sender(client: Client) -> None:
        for number in numbers:
            start = time.perf_counter()
            await client.begin()
            client.writer.write(b"Message-ID: <%d@x.test>\r\nSubject: bench\r\n\r\n" % number + body + b".\r\n")
            replies[(await client.reply())[:3]] += 1
            taken.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*map(sender, clients))
    seconds = time.perf_counter() - start
    for client in clients:
        client.writer.close()
    return seconds, sorted(taken), replies


async def endless_line(port: int) -> str:
    """400 MB without a line break."""
    client = await Client.greeted(port)
    await client.begin()
    for _ in range(100):
        client.writer.write(b"x" * 4_000_000)
        await client.writer.drain()
    client.writer.write(b"\r\n.\r\n")
    return await client.reply()


async def many_recipients(port: int) -> str:
    """3,000 recipients."""
    client = await Client.greeted(port)
    await client.say(b"MAIL FROM:<a@x.test>")
    client.writer.write(b"".join(b"RCPT TO:<r%d@y.test>\r\n" % number for number in range(3_000)))
    return str(dict(Counter([(await client.reply())[:9] for _ in range(3_000)])))


async def slow_client(port: int) -> str:
    """A byte now and then during DATA."""
    client = await Client.greeted(port)
    await client.begin()
    answer = asyncio.create_task(client.reply())
    while not answer.done():
        client.writer.write(b"x")
        await asyncio.sleep(0.5)
    return answer.result()


async def crowd(port: int) -> str:
    """2,000 connections at once."""
    gates = asyncio.Semaphore(500)

    async def one() -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        async with gates:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            return (await reader.readline()).decode()[:3], reader, writer

    found = await asyncio.gather(*(one() for _ in range(2_000)))
    for _, _, writer in found:
        writer.close()
    return str(dict(Counter(code for code, _, _ in found)))


HOSTILE: tuple[Callable[[int], Coroutine[None, None, str]], ...] = (endless_line, many_recipients, slow_client, crowd)


def fsync_milliseconds(folder: Path, size: int) -> float:
    """What one file of that size with fsync costs here, one after another."""
    start = time.perf_counter()
    for number in range(50):
        with (folder / f"probe-{number}").open("wb") as file:
            file.write(b"y" * size)
            file.flush()
            os.fsync(file.fileno())
    return (time.perf_counter() - start) * 20


def report(folder: Path, connections: int, mails: int, size: int) -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load average {load:.1f}")
    print(f"a file of {size} bytes with fsync in {folder}: {fsync_milliseconds(folder, size):.2f} ms")
    with running(folder / "fast", 300) as (port, pid):
        seconds, taken, replies = asyncio.run(throughput(port, connections, mails, size))
        p50, p99 = (taken[int(len(taken) * share)] * 1000 for share in (0.5, 0.99))
        print(
            f"{mails} mails of {size} bytes over {connections} connections: {mails / seconds:.0f} mails/s, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, replies {dict(replies)}, peak {megabytes(pid):.0f} MB"
        )
    with running(folder / "hostile", SHORT) as (port, pid):
        asyncio.run(throughput(port, 10, 50, size))
        for attack in HOSTILE:
            before, start = megabytes(pid), time.perf_counter()
            answer = asyncio.run(attack(port))
            said = (attack.__doc__ or "").rstrip(".")
            took = time.perf_counter() - start
            print(f"{said}: {answer} after {took:.1f} s; peak memory {before:.0f} -> {megabytes(pid):.0f} MB")


def main() -> None:
    """Measure, or be the door."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--mails", type=int, default=4_000)
    parser.add_argument("--size", type=int, default=70_000)
    parser.add_argument("--folder", type=Path, help="where ledger and blobs lie; default: a temporary folder")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=300, help=argparse.SUPPRESS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8_192), hard), hard))
    if options.serve:
        serve(options.serve, options.timeout)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(Path(folder), options.connections, options.mails, options.size)


if __name__ == "__main__":
    main()
