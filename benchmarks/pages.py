"""How fast the pages are with a million jobs, and what 200 browsers that watch cost.

    python -m benchmarks.pages [--jobs 1000000] [--state DIR] [--clients 200]

Generates a ledger (kept with --state), starts `postroom web` on it and asks over HTTP. Times are milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tasks.clock import now_ms
from tasks.ids import new_job_id
from tasks.judging.tail import SHOWN
from tasks.ledger import Ledger
from tasks.models import Stage, State

ROUNDS = 15
LABELS = ("invoice", "order", "complaint", "contract", "resume", "newsletter")
NAMES = ("ada", "ben", "carla", "dora", "emil", "frieda", "gustav", "hanna", "ivan", "jana")
WORDS = (
    "paper",
    "tape",
    "pallet",
    "invoice",
    "total",
    "delivery",
    "warehouse",
    "thank",
    "order",
    "payment",
    "ribbon",
    "carton",
)
STEP_MS = 30_000
"""Between two arrivals: a million jobs are a year."""


def rows(number: int) -> Iterator[tuple[dict[str, object], dict[str, object], str, dict[str, object]]]:
    """Job, document, words and judgement, oldest first."""
    begin = now_ms() - number * STEP_MS
    for n in range(number):
        at = begin + n * STEP_MS
        name, label = NAMES[n % 10], LABELS[n % 6]
        state = State.DONE if n % 50 else State.FAILED if n % 100 else State.REVIEW
        if n % 997 == 0:
            state = State.WAITING
        job_id = f"{new_job_id()[:1]}{n:025x}"
        subject, sender = f"{label.capitalize()} {n} from {name}", f"{name}{n % 5000}@sender.example"
        text = " ".join(WORDS[(n * k + k) % 12] for k in range(1, 60)) + f" reference R-{n} total {n % 9999}.50 EUR"
        job: dict[str, object] = {
            "id": job_id, "source": "smtp" if n % 3 else "imap:support", "kind": "mail", "key": f"k{n}", "state": state.value,
            "stage": None if state is State.DONE else "reply", "route": "post", "sender": sender,
            "recipients": "[]", "subject": subject, "message_id": f"<{n}@sender.example>", "thread": "",
            "content_type": "message/rfc822", "name": "", "headers": "{}", "raw_sha256": f"{n:064x}", "raw_size": 300,
            "raw": b"x" * 300, "label": label, "confidence": 0.9, "reason": "" if state is State.DONE else "it says why",
            "approved": 0, "attempts": 0, "outages": 0, "lease_token": 3, "lease_owner": "", "lease_beat": 0, "progress": "{}",
            "due_at": at + 10**12 if state is State.WAITING else None, "received_at": at, "updated_at": at + 40_000,
        }  # fmt: skip
        document: dict[str, object] = {
            "job_id": job_id, "ordinal": 0, "name": "body", "content_type": "text/plain", "size": len(text),
            "sha256": f"{n:064x}", "status": "read", "reason": "", "text": text, "pages": 1, "language": "en", "parent": "",
        }  # fmt: skip
        words = f"{job_id} {subject} {sender} {text}".lower().replace("@", " ").replace(".", " ").replace("-", " ")
        judged: dict[str, object] = {
            "label": label, "confidence": 0.9, "alternatives": {label: 0.9, "other": 0.1}, "model": "none",
            "fields": [{"name": "number", "value": f"R-{n}", "quote": f"reference R-{n}", "document": 0, "page": 1, "line": 1,
                        "supported": True}],
        }  # fmt: skip
        yield job, document, words, judged


def generate(url: str, number: int) -> str:
    """Fill an empty ledger; the id of a job in its middle."""
    ledger, middle, at = Ledger.open(url), "", time.monotonic()
    connection = ledger.database.own_connection()
    connection.execute("PRAGMA synchronous=OFF")
    statements: dict[str, str] = {}

    def insert(table: str, values: list[dict[str, object]]) -> None:
        names = list(values[0])
        made = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
        connection.executemany(statements.setdefault(table, made), values)

    batch: list[tuple[dict[str, object], dict[str, object], str, dict[str, object]]] = []
    done = 0
    for row in rows(number):
        batch.append(row)
        if len(batch) == 20_000 or done + len(batch) == number:
            connection.execute("BEGIN")
            insert("jobs", [job for job, *_ in batch])
            insert("documents", [document for _, document, *_ in batch])
            insert("search_docs", [{"n": done + k, "job_id": job["id"]} for k, (job, *_) in enumerate(batch, 1)])
            insert("search_words", [{"rowid": done + k, "words": words} for k, (_, _, words, _) in enumerate(batch, 1)])
            insert(
                "results",
                [
                    {"job_id": job["id"], "stage": Stage.CLASSIFY.value, "value": json.dumps(judged), "token": 2,
                     "started_at": 0, "ended_at": 1}
                    for job, _, _, judged in batch
                ],
            )  # fmt: skip
            connection.execute("COMMIT")
            done += len(batch)
            middle = middle or (str(batch[-1][0]["id"]) if done >= number // 2 else "")
            print(f"  {done} jobs, {time.monotonic() - at:.0f} s", flush=True)
            batch = []
    connection.close()
    ledger.close()
    return middle


def serve(state: Path) -> tuple[subprocess.Popen[bytes], str]:
    """`postroom web` on the ledger; the process and its address."""
    config = state / "postroom.toml"
    config.write_text(f'state_dir = "{state}"\nlog_format = "json"\n[web]\nport = 0\n')
    log = (state / "web.log").open("wb")
    command = [sys.executable, "-m", "daemon.cli", "--config", str(config), "web"]
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := re.search(r"web on (http://[^\"]+)\"", (state / "web.log").read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit((state / "web.log").read_text())
        time.sleep(0.1)
    return process, found[1]


def cpu(pid: int) -> float:
    """Milliseconds of processor time that a process has used: on a busy machine this tells more than a clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(url: str, middle: str, number: int, pid: int) -> None:
    """Ask for each page ROUNDS times and print the median, the slowest and the server's processor time for each."""
    pages = {
        "list": "/ui/jobs",
        "list, by state": "/ui/jobs?state=failed",
        "list, by label": "/ui/jobs?label=order",
        "list, by way in": "/ui/jobs?source=imap:support",
        "list, far back": f"/ui/jobs?before={now_ms() - number * STEP_MS // 2}-{middle}",
        "search, one word in every job": "/ui/jobs?q=paper",
        "search, a reference": f"/ui/jobs?q=R-{number // 3}",
        "search, a beginning": "/ui/jobs?q=warehou",
        "search, an address": "/ui/jobs?q=ada10@sender.example",
        "search and state": "/ui/jobs?q=paper&state=failed",
        "one job": f"/ui/jobs/{middle}",
        "review": "/ui/review",
        "today": "/ui/",
        "routes": "/ui/routes",
    }
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as http:
        for name, path in pages.items():
            took, used = [], 0.0
            for round_number in range(ROUNDS + 1):
                if round_number == 1:
                    used = cpu(pid)
                begin = time.perf_counter()
                answer = http.get(path)
                took.append((time.perf_counter() - begin) * 1000)
                assert answer.status_code == 200, (path, answer.status_code)
            took, each = took[1:], (cpu(pid) - used) / ROUNDS
            print(
                f"  {name:<32} median {statistics.median(took):6.1f} ms   slowest {max(took):6.1f} ms   processor {each:5.1f} ms",
                flush=True,
            )


def rss(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(url: str, pid: int, clients: int, ledger_url: str) -> None:
    """Open streams, let a job change a few times, and see what each client was told and what all of them cost."""
    before = rss(pid)
    told: list[list[tuple[int, int]]] = [[] for _ in range(clients)]
    opened = threading.Barrier(clients + 1)

    def follow(number: int) -> None:
        """Note the id of each event, and the tokens that it tells."""
        with httpx.stream("GET", f"{url}/ui/live/events", timeout=60, trust_env=False) as answer:
            lines, event = answer.iter_lines(), 0
            next(lines)
            opened.wait()
            for line in lines:
                if line.startswith("id: "):
                    event = int(line[4:])
                elif line.startswith("data: "):
                    tokens = max((job["tokens"] for job in json.loads(line[6:])["jobs"]), default=0)
                    told[number].append((event, tokens))
                    if tokens == 50:
                        return

    threads = [threading.Thread(target=follow, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    opened.wait()
    ledger = Ledger(ledger_url)
    claimed = next(
        found
        for job in ledger.listing.queue(limit=5)
        if ledger.jobs.retry(job.id, Stage.REPLY, why="benchmark")
        and (found := ledger.leases.claim(job.id, Stage.REPLY, State.REPLYING, "benchmark"))
    )
    for tokens in range(10, 51, 10):
        tail = f"{tokens} words ".rjust(SHOWN, "x")
        ledger.leases.beat([(claimed[1], {"phase": "reply", "tokens": tokens, "tail": tail})])
        deadline = time.monotonic() + 60
        while (not told[0] or told[0][-1][1] != tokens) and time.monotonic() < deadline:
            time.sleep(0.05)  # the next change comes when the web process has seen this one
    after = rss(pid)
    for thread in threads:
        thread.join(30)
    whole = sum(_is_whole(one) for one in told)
    print(f"  {clients} clients cost {after - before:.1f} MB; {whole} of them were told each change, in order")
    ledger.jobs.cancel(claimed[0].id, why="benchmark")
    ledger.close()


def _is_whole(told: list[tuple[int, int]]) -> bool:
    """Whether a client got every event since its first one, and each of the five changes."""
    ids = [event for event, _ in told]
    return ids == list(range(ids[0], ids[0] + len(ids))) and {10, 20, 30, 40, 50} <= {tokens for _, tokens in told}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=1_000_000)
    options.add_argument("--clients", type=int, default=200)
    options.add_argument("--state", type=Path, default=None, help="folder whose ledger is made once and used again")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="postroom-pages-") as folder:
        state: Path = given.state or Path(folder)
        state.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{state / 'ledger.db'}"
        if not (state / "middle").exists():
            (state / "middle").write_text(generate(url, given.jobs))
        middle = (state / "middle").read_text()
        print(f"{given.jobs} jobs, ledger {(state / 'ledger.db').stat().st_size / 1e9:.1f} GB")
        process, address = serve(state)
        try:
            measure(address, middle, given.jobs, process.pid)
            watch(address, process.pid, given.clients, url)
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
