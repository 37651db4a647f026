"""Trials of what stands beside the target: dependencies that go away, timers, optional units, PostgreSQL as the ledger."""

from __future__ import annotations

import json
from pathlib import Path

from tests.systemd.house import PYTHON, SERVICES, House, until

OPTIONAL = tuple(f"postroom-{name}.service" for name in ("folder", "worker@model-gpu", "flower"))
IN_POSTGRESQL = 'ledger_url = "postgresql+psycopg:///postroom?host=/run/postgresql"\n'
COUNT = (
    "import json, psycopg; print(json.dumps(dict(psycopg.connect('dbname=postroom host=/run/postgresql user=postgres')"
    ".execute('select state, count(*) from jobs group by state').fetchall())))"
)


def misses_the_broker(house: House) -> str:
    """With Redis down, a unit's status and `postroom check` say the same, a mail tells the admin, and all goes on."""
    house.box.run("systemctl", "stop", "redis-server")
    told = _told_alike(house, "postroom-rescue.service", "broker: ")
    house.mail("while the broker is down")
    until(lambda: house.told("(Redis) does not work"), 120, "the alert")
    house.box.run("systemctl", "start", "redis-server")
    until(lambda: house.sent[-1] in house.replies(), 180, "the answer after the outage")
    until(lambda: "open jobs" in house.status("postroom-rescue.service"), 60, "the status afterwards")
    return told


def misses_the_model(house: House) -> str:
    """With model and mail relay away, their workers' status and `postroom check` say so alike, and /metrics of another
    process tells since when; a person is told when all of it is back, and nothing was lost.
    """
    failing = 'postroom_dependency_failing_seconds{dependency="ollama:http://127.0.0.1:11434"}'
    breaker = 'postroom_breaker_open{dependency="ollama:http://127.0.0.1:11434"}'
    assert (house.figure(failing), house.figure(breaker)) == (0, 0)
    house.box.run("systemctl", "stop", "town")
    for number in range(4):
        house.mail(f"while the model is away {number}")
    told = _told_alike(house, "postroom-worker@model.service", "model: ")
    _told_alike(house, "postroom-worker@deliver.service", "smtp_out ")
    until(lambda: house.figure(breaker) == 1 and (house.figure(failing) or 0) > 1, 180, "the breaker in /metrics")
    house.open_town()
    until(lambda: set(house.sent[-4:]) <= set(house.replies()), 300, "the answers after the outage")
    until(lambda: house.figure(breaker) == house.figure(failing) == 0, 60, "the end in /metrics")
    until(lambda: house.told("the model server http://127.0.0.1:11434 works again"), 180, "the alert")
    return f"{told}; breaker and duration in /metrics"


def _told_alike(house: House, unit: str, begin: str) -> str:
    """The status of a unit once it tells of what is broken: one line, which `postroom check` prints as well."""
    until(lambda: house.status(unit).startswith(begin), 90, f"the status of {unit}")
    told = house.status(unit)
    checked = house.box.run("postroom", "check", check=False)
    assert checked.returncode == 1, checked.stdout
    for sentence in told.split(" | "):
        assert f"failed  {sentence}\n" in checked.stdout, f"{sentence!r} is not in {checked.stdout!r}"
    return told


def keeps_time(house: House) -> str:
    """The timers are set; what they start works in its sandbox: two backups that can be read, and one mail of the day."""
    timers = house.box.out("systemctl", "list-timers", "--all", "--no-legend", "postroom-*")
    assert all(f"postroom-{name}.timer" in timers for name in ("backup", "digest")), timers
    for unit in ("backup", "backup", "digest", "digest"):
        house.box.run("systemctl", "start", f"postroom-{unit}.service")
    for name in ("postroom.tar", "postroom.1.tar"):
        inside = house.box.out("tar", "-tf", f"/var/lib/postroom/backup/{name}").splitlines()
        assert any("ledger" in one for one in inside), inside
    until(lambda: house.told(" came, "), 120, "the digest")
    (digest,) = [one for one in house.mails() if " came, " in one["Subject"]]
    return f"2 backups of {len(inside)} files; {digest['Subject']}"


def is_run_by_root(house: House) -> str:
    """What a command of root's makes is the processes' own, so that a look before the first start spoils nothing."""
    house.box.run("install", "-d", "-o", "postroom", "-g", "postroom", "/srv/fresh")
    house.box.run("env", "POSTROOM_STATE_DIR=/srv/fresh", "postroom", "check", check=False)
    house.box.run("env", "POSTROOM_STATE_DIR=/srv/fresh", "postroom", "jobs")
    made = house.box.out("find", "/srv/fresh", "-printf", "%u %f\\n").splitlines()
    assert len(made) > 1, made
    assert all(one.startswith("postroom ") for one in made), made
    return f"{len(made)} files, all of the account postroom"


def has_more(house: House) -> str:
    """Units that are not part of the target: a drop folder, a second worker for the model, Flower."""
    scans = house.box.root / "srv/scans"
    scans.mkdir()
    house.box.run("chown", "postroom:postroom", "/srv/scans")
    edited = house.box.root / "etc/systemd/system/postroom-folder.service.d"
    edited.mkdir()
    (edited / "override.conf").write_text("[Service]\nReadWritePaths=/srv/scans\n")
    house.box.run("systemctl", "daemon-reload")
    house.box.run("systemctl", "start", *OPTIONAL)
    until(lambda: house.active(OPTIONAL), 120, "the optional units")
    (scans / "note.txt").write_text("Somebody left a note.")
    until(lambda: house.journal("POSTROOM_EVENT=accepted", "POSTROOM_SOURCE=folder:scans"), 60, "the file")
    job = house.journal("POSTROOM_EVENT=accepted", "POSTROOM_SOURCE=folder:scans")[0]["POSTROOM_JOB"]
    until(lambda: job in house.delivered(), 120, "what becomes of the file")
    until(lambda: house.get("http://127.0.0.1:5555/workers"), 60, "Flower's page")
    until(lambda: house.figure('postroom_queue_workers{queue="model"}') == 2, 90, "the second worker in /metrics")
    house.box.run("systemctl", "stop", *OPTIONAL)
    return f"{len(OPTIONAL)} units; a file in the folder became a job; 2 workers serve model"


def lives_on_postgresql(house: House) -> str:
    """Another ledger by one line and a restart, reached from every sandbox; while it is away status and check say so
    alike, senders are told to come again, and afterwards all goes on.
    """
    as_postgres = ("runuser", "-u", "postgres", "--")
    house.box.run(*as_postgres, "createuser", "postroom")
    house.box.run(*as_postgres, "createdb", "-O", "postroom", "postroom")
    before = (house.box.root / "etc/postroom/postroom.toml").read_text()
    house.write("postroom.toml", IN_POSTGRESQL + before)
    house.box.run("systemctl", "restart", *SERVICES)
    until(house.active, 180, "processes on PostgreSQL")
    house.mail("into PostgreSQL")
    assert house.hook() == 202
    until(lambda: house.sent[-1] in house.replies() and house.hooks[-1] in house.delivered(), 180, "answers")
    house.box.run("systemctl", "stop", "postgresql@*")
    assert house.hook() == 503
    told = _told_alike(house, "postroom-rescue.service", "ledger: ")
    house.box.run("systemctl", "start", "postgresql")
    until(lambda: house.hook() == 202, 120, "the ledger's return")
    until(lambda: house.hooks[-1] in house.delivered(), 180, "an answer after the outage")
    until(lambda: "open jobs" in house.status("postroom-rescue.service"), 60, "the status afterwards")
    house.box.run("systemctl", "start", "postroom-backup.service")
    assert house.active(), "a process has ended"
    counts = json.loads(house.box.out(*as_postgres, PYTHON, "-c", COUNT))
    assert counts["done"] >= 3, counts
    house.write("postroom.toml", before)
    house.box.run("systemctl", "restart", *SERVICES)
    until(house.active, 180, "processes on SQLite again")
    return told


def installs_itself(house: House, deb: Path) -> str:
    """Without the package, `postroom systemd install` in a virtual environment below /opt: the shipped settings are
    enough for every process to be READY; an upgrade restarts them, and `uninstall --purge` leaves nothing.
    """
    program = "/opt/mine/bin/postroom"
    house.box.run("dpkg-deb", "-x", f"/srv/{deb.name}", "/srv/unpacked")
    house.box.run("mkdir", "-p", "/opt")  # dpkg takes it away when it is empty
    house.box.run("mv", "/srv/unpacked/opt/postroom", "/opt/mine")
    house.box.run("sed", "-i", "1s|/opt/postroom|/opt/mine|", program)
    shown = house.box.out(program, "systemd", "install", "--dry-run")
    assert "+++ /etc/systemd/system/postroom-web.service" in shown, shown
    house.nothing_left("/opt/mine")
    assert house.box.out(program, "systemd", "install").startswith(shown)
    house.box.run("systemctl", "start", "postroom.target")
    until(house.active, 180, "processes with the shipped settings")
    before = house.pid("postroom-web.service")
    again = house.box.out(program, "systemd", "upgrade")
    assert again == "", again
    until(lambda: house.pid("postroom-web.service") not in {before, "0"} and house.active(), 180, "the upgrade")
    told = house.status("postroom-web.service")
    house.box.run(program, "systemd", "uninstall", "--purge")
    house.nothing_left("/opt/mine")
    return f"{len(shown.splitlines())} lines shown, all READY; {told}; {len(SERVICES)} processes gone again"
