"""Runs inside the container: clients that post webhooks until a file is gone, and count what was not answered with 202.

`python3 load.py CLIENTS FILE`; prints a JSON object. Each second request goes over a new connection.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path

clients, flag = int(sys.argv[1]), Path(sys.argv[2])
lock = threading.Lock()
told = {"sent": 0, "refused": 0, "failed": 0, "longest": 0.0, "first_error": ""}
HEADERS = {"Authorization": "Bearer a secret that is long enough", "Content-Type": "application/json"}


def note(began: float, error: str = "", *, refused: bool = False) -> None:
    """Count one request."""
    with lock:
        told["sent"] = int(told["sent"]) + 1
        told["longest"] = max(float(told["longest"]), round(time.monotonic() - began, 3))
        if error:
            told["refused" if refused else "failed"] = int(told["refused" if refused else "failed"]) + 1
            told["first_error"] = told["first_error"] or error


def client(number: int) -> None:
    """Post one webhook after the other."""
    connection: http.client.HTTPConnection | None = None
    count = 0
    while flag.exists():
        began, count = time.monotonic(), count + 1
        if connection is None or count % 2 == 0:
            connection = http.client.HTTPConnection("127.0.0.1", 8480, timeout=60)
        # each event comes many times, as one job: it is the way in that is under load here, not the workers
        key = f"load-{number}-{count // 100}"
        try:
            connection.request("POST", "/hooks/load", json.dumps({"load": key}), {**HEADERS, "Idempotency-Key": key})
            answer = connection.getresponse()
            answer.read()
            note(began, "" if answer.status == 202 else f"HTTP {answer.status}")
            if answer.will_close:
                connection = None
        except ConnectionRefusedError as error:
            note(began, repr(error), refused=True)
            connection = None
        except Exception as error:
            note(began, repr(error))
            connection = None


threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(told))
