"""Postroom inside the container: its configuration, what is sent to it, and what became of it."""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Callable, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

from tests.systemd.box import Box

HERE = Path(__file__).resolve().parent
PYTHON = "/opt/postroom/bin/python3"
SECRET = "a secret that is long enough"
CONFIG = """
state_dir = "/var/lib/postroom"
broker_url = "redis://127.0.0.1:6379/0"
routes_dir = "/etc/postroom/routes"

[model]
host = "http://127.0.0.1:11434"
name = "stand-in"

[smtp_out]
port = 2525
sender = "Box <box@box.example>"
domain = "box.example"
max_replies_per_hour = 1000

[webhook.load]
scheme = "bearer"

[endpoint.town]
url = "http://127.0.0.1:8900/hook"
allow_private = true

[alerts]
mail = ["admin@box.example"]
outage_after = 5

[folder.scans]
path = "/srv/scans"
"""
ROUTE = """
[match]
source = "{source}"

[reply]
template = "{template}"

{deliver}
[labels.note]
says = "Somebody tells something."

[labels.other]
says = "Anything else."
"""
MAIL_ROUTE = ROUTE.format(source="smtp", template="default", deliver="")
TO_TOWN = '[[deliver]]\nwebhook = "town"\n'
HOOK_ROUTE = ROUTE.format(source="webhook:*", template="", deliver=TO_TOWN)
FOLDER_ROUTE = ROUTE.format(source="folder:*", template="", deliver=TO_TOWN)
SERVICES = tuple(
    f"postroom-{name}.service"
    for name in ("web", "smtp", "imap", "rescue", "worker@fetch", "worker@extract", "worker@model", "worker@deliver")
)
OPEN = "received extracting classifying replying delivering fetching waiting"


def until(look: Callable[[], Any], seconds: float, what: str) -> float:
    """Seconds until `look` gave something true. Raises AssertionError when it does not."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.25)
    return time.monotonic() - began


class House:
    """One installation, and how many messages it was given."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.town = box.root / "srv/town"
        self.sent: list[str] = []
        self.hooks: list[str] = []
        """Their jobs."""

    def furnish(self) -> None:
        """The stand-ins, and the configuration that an admin would write."""
        self.town.mkdir(parents=True)
        for name in ("town.py", "load.py", "send.py"):
            (self.town / name).write_text((HERE / name).read_text())
        self.box.run("systemctl", "start", "redis-server")
        self.open_town()
        self.write("postroom.toml", CONFIG)
        self.write("credentials/webhook__load__secrets", json.dumps([SECRET]), private=True)
        self.write("routes/05-mail.toml", MAIL_ROUTE)
        self.write("routes/06-hook.toml", HOOK_ROUTE)
        self.write("routes/07-folder.toml", FOLDER_ROUTE)

    def open_town(self) -> None:
        """Start the stand-ins; `systemctl stop town` ends them."""
        options = ("--quiet", "--unit=town", "--service-type=notify", "-p", "Restart=always")
        self.box.run("systemd-run", *options, PYTHON, "/srv/town/town.py")

    def write(self, name: str, text: str, *, private: bool = False) -> None:
        """A file in /etc/postroom."""
        (self.box.root / "etc/postroom" / name).write_text(text)
        self.box.run("chown", "root:root" if private else "root:postroom", f"/etc/postroom/{name}")
        self.box.run("chmod", "600" if private else "640", f"/etc/postroom/{name}")

    def mail(self, subject: str) -> None:
        """Send a mail to the SMTP socket; it has to be answered with 250."""
        number = f"{len(self.sent)}-{time.time_ns()}"
        self.box.run(PYTHON, "/srv/town/send.py", "mail", f"<{number}@x.test>", f"ada{number}@x.test", subject)
        self.sent.append(f"<{number}@x.test>")

    def hook(self, secret: str = SECRET) -> int:
        """Post a webhook; the status of the answer."""
        body = json.dumps({"name": time.time_ns()})
        status, _, job = self.box.out(PYTHON, "/srv/town/send.py", "hook", secret, body).partition(" ")
        if status == "202":
            self.hooks.append(job)
        return int(status)

    def mails(self) -> list[Message]:
        """All mails that came out."""
        files = (self.town / "mails").glob("*.eml")
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in files]

    def replies(self) -> list[str]:
        """Message-IDs that were answered, one for each reply."""
        return [one["In-Reply-To"].strip() for one in self.mails() if one["In-Reply-To"]]

    def told(self, words: str) -> bool:
        """Whether a mail to the admin has these words in its subject."""
        return any(words in str(one["Subject"]) for one in self.mails() if "admin@box.example" in str(one["To"]))

    def delivered(self) -> str:
        """All webhooks that came out, as text."""
        return "\n".join(path.read_text() for path in (self.town / "hooks").glob("*.json"))

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        script = (
            "import json, sqlite3; print(json.dumps(dict(sqlite3.connect('file:/var/lib/postroom/ledger.db?mode=ro', uri=True)"
            ".execute('select state, count(*) from jobs group by state').fetchall())))"
        )
        found: dict[str, int] = json.loads(self.box.out(PYTHON, "-c", script))
        return found

    def settled(self, seconds: float = 300) -> dict[str, int]:
        """Wait until no job is open; jobs by state."""
        until(lambda: not any(state in OPEN.split() for state in self.counts()), seconds, "open jobs")
        return self.counts()

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit."""
        return [self.box.out("systemctl", "show", "-P", name, unit) for name in names]

    def pid(self, unit: str) -> str:
        """The main process, as the container counts."""
        return self.show(unit, "MainPID")[0]

    def active(self, units: Sequence[str] = SERVICES) -> bool:
        """Whether all of them are at work."""
        told = self.box.run("systemctl", "is-active", *units, check=False).stdout.split()
        return bool(told) and set(told) == {"active"}

    def status(self, unit: str) -> str:
        """What `systemctl status` calls its status."""
        return self.show(unit, "StatusText")[0]

    def get(self, url: str) -> str:
        """What a page inside says; empty when nobody answers."""
        script = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=60).read().decode())"
        return self.box.run(PYTHON, "-c", script, url, check=False).stdout

    def figure(self, series: str) -> float | None:
        """One sample of /metrics; None when it is not there."""
        lines = self.get("http://127.0.0.1:8480/metrics").splitlines()
        found = [line.removeprefix(series).strip() for line in lines if line.startswith(f"{series} ")]
        return float(found[0]) if found else None

    def exposure(self, unit: str) -> str:
        """What `systemd-analyze security` says of a unit."""
        told = self.box.out("systemd-analyze", "security", "--no-pager", unit)
        return told.rpartition("Overall exposure level")[2].partition(": ")[2].split()[0]

    def nothing_left(self, besides: str = "/srv") -> str:
        """Raises AssertionError when there is a file, an account or a unit of Postroom's, but for what is in `besides`."""
        hidden = [part for folder in ("/srv", "/proc", "/sys", besides) for part in ("-not", "-path", f"{folder}/*")]
        found = self.box.out("find", "/", "-xdev", "-iname", "*postroom*", *hidden)
        assert found == "", found
        account = self.box.run("getent", "passwd", "postroom", check=False)
        assert account.returncode, account.stdout
        units = self.box.out("systemctl", "list-units", "--all", "--plain", "--no-legend", "postroom*")
        assert units == "", units
        return "no file, no account, no unit"

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Journal entries with these fields."""
        told = self.box.out("journalctl", "-o", "json", "--no-pager", *matches)
        return [json.loads(line) for line in told.splitlines()]
