"""The trials, in the order in which they run. Each returns what it saw, and raises AssertionError when that is not right."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from tests.systemd.house import MAIL_ROUTE, SECRET, SERVICES, House, until

MOST_EXPOSED = 1.5
BESIDE = tuple(
    f"postroom-{name}.service" for name in ("broker", "backup", "digest", "folder", "flower", "worker@model-gpu")
)
"""Services that are started when they are wanted."""


def installs(house: House, deb: Path) -> str:
    """dpkg -i, and the target starts: every process READY, with a status line."""
    shutil.copy(deb, house.box.root / "srv" / deb.name)
    began = time.monotonic()
    house.box.run("dpkg", "-i", f"/srv/{deb.name}")
    installed = time.monotonic() - began
    house.furnish()
    began = time.monotonic()
    house.box.run("systemctl", "start", "postroom.target")
    until(house.active, 120, f"processes of {deb.name}")
    took = time.monotonic() - began
    lines = {unit: house.status(unit) for unit in SERVICES}
    assert all(lines.values()), lines
    return f"dpkg {installed:.0f} s, all READY {took:.0f} s later; web says: {lines['postroom-web.service']}"


def answers(house: House) -> str:
    """A mail is answered by mail, a webhook by a webhook."""
    house.mail("first")
    assert house.hook() == 202
    took = until(lambda: house.sent[-1] in house.replies() and house.hooks[-1] in house.delivered(), 120, "answers")
    return f"both answered in {took:.1f} s"


def upgrades(house: House, deb: Path) -> str:
    """dpkg -i of the next version with jobs open and clients posting: nothing refused, nothing lost."""
    (house.town / "slow").write_text("3")
    for number in range(4):
        house.mail(f"before the upgrade {number}")
    shutil.copy(deb, house.box.root / "srv" / deb.name)
    waiting = sum(count for state, count in house.counts().items() if state != "done")
    assert waiting, "no job was open"
    told = _under_load(house, lambda: house.box.run("dpkg", "-i", f"/srv/{deb.name}"), clients=2)
    (house.town / "slow").unlink()
    until(house.active, 120, "processes after the upgrade")
    house.settled()
    missing = [one for one in house.sent if house.replies().count(one) != 1]
    assert not missing, f"not answered once: {missing}"
    for page in ("man/man1/postroom.1.gz", "bash-completion/completions/postroom", "doc/postroom/copyright"):
        assert (house.box.root / "usr/share" / page).stat().st_size, page
    return f"{waiting} open jobs went on; {_requests(told)}"


def restarts(house: House) -> str:
    """systemctl restart under load: no connection refused, no request failed."""

    def thrice() -> None:
        for _ in range(3):
            house.box.run("systemctl", "restart", "postroom-web.service")
            time.sleep(1)

    return f"3 restarts, {_requests(_under_load(house, thrice, clients=6))}"


def _under_load(house: House, act: object, clients: int) -> dict[str, float | str]:
    flag = house.town / "posting"
    flag.touch()
    load = house.box.start("/opt/postroom/bin/python3", "/srv/town/load.py", str(clients), "/srv/town/posting")
    time.sleep(1)
    try:
        assert callable(act)
        act()
        time.sleep(1)
    finally:
        flag.unlink()
        out, _ = load.communicate(timeout=120)
    told: dict[str, float | str] = json.loads(out)
    assert told["sent"], told
    assert (told["refused"], told["failed"]) == (0, 0), told
    return told


def _requests(told: dict[str, float | str]) -> str:
    return f"{told['sent']} requests, 0 refused, 0 failed, longest {told['longest']} s"


def survives_kills(house: House) -> str:
    """kill -9 of each process: back by itself, and what was accepted is answered once."""
    times = []
    for unit in (*SERVICES, "postroom-broker.service"):
        house.mail(f"while {unit} is killed")
        before = house.pid(unit)
        house.box.run("kill", "-9", before)
        times.append(
            until(
                lambda unit=unit, before=before: house.pid(unit) not in {before, "0"} and house.active([unit]), 90, unit
            )
        )
    house.settled()
    wrong = [one for one in house.sent if one not in house.replies()]
    assert not wrong, f"never answered: {wrong}"
    return f"{len(times)} processes, back after {min(times):.0f} to {max(times):.0f} s; nothing lost"


def watches(house: House) -> str:
    """A worker that is frozen is killed by its watchdog, and the next one does its work."""
    unit = "postroom-worker@extract.service"
    before = house.pid(unit)
    house.box.run("kill", "-STOP", before)
    house.mail("to a frozen worker")
    took = until(lambda: house.pid(unit) not in {before, "0"} and house.active([unit]), 150, "the watchdog")
    result = [one["MESSAGE"] for one in house.journal(f"UNIT={unit}") if "atchdog" in str(one["MESSAGE"])]
    assert result, "the journal does not tell of the watchdog"
    until(lambda: house.sent[-1] in house.replies(), 120, "the mail's answer")
    return f"back after {took:.0f} s; {result[0]}"


def reloads(house: House) -> str:
    """A good route is in force after systemctl reload; a bad one is refused, and the old stays. No process ends."""
    before = {unit: house.pid(unit) for unit in SERVICES}
    route = MAIL_ROUTE.replace('template = "default"', 'template = "default"\nwhen = ["note"]').replace(
        "Somebody tells", "Anybody tells"
    )
    house.write("routes/05-mail.toml", route.replace("[match]", 'name = "renamed"\n\n[match]'))
    for unit in SERVICES:
        house.box.run("systemctl", "reload", unit)
    until(lambda: len(house.journal("POSTROOM_EVENT=reloaded")) >= len(SERVICES), 60, "reloads")
    house.mail("by the new route")
    until(lambda: house.sent[-1] in house.replies(), 120, "an answer by the new route")
    assert house.journal("POSTROOM_ROUTE=renamed"), "the new route was not taken"
    house.write("routes/05-mail.toml", '[match]\nsuorce = "smtp"\n')
    refused = house.box.run("systemctl", "reload", "postroom-worker@model.service", check=False)
    assert refused.returncode, "a bad route was taken"
    house.box.run("kill", "-HUP", house.pid("postroom-worker@model.service"))  # past the check in ExecReload=
    until(lambda: house.journal("POSTROOM_EVENT=reload refused"), 60, "the refusal")
    (entry, *_) = house.journal("POSTROOM_EVENT=reload refused")
    assert "05-mail.toml:2" in entry["POSTROOM_REASON"], entry
    assert entry["PRIORITY"] == "3"
    house.mail("by the old route")
    until(lambda: house.sent[-1] in house.replies(), 120, "an answer by the old route")
    house.write("routes/05-mail.toml", MAIL_ROUTE)
    assert before == {unit: house.pid(unit) for unit in SERVICES}
    return f"{len(SERVICES)} processes took it, none ended; refused: {entry['POSTROOM_REASON']}"


def rotates(house: House) -> str:
    """A new secret in /etc/postroom/credentials is in force after a reload, in the same process."""
    before = house.pid("postroom-web.service")
    fresh = "another secret, also long enough"
    house.write("credentials/webhook__load__secrets", json.dumps([fresh]), private=True)
    house.box.run("systemctl", "reload", "postroom-web.service")
    until(lambda: house.hook(fresh) == 202, 30, "the new secret")
    assert house.hook() == 401
    house.write("credentials/webhook__load__secrets", json.dumps([SECRET]), private=True)
    house.box.run("systemctl", "reload", "postroom-web.service")
    until(lambda: house.hook() == 202, 30, "the old secret again")
    assert house.pid("postroom-web.service") == before
    return "new secret 202, old one 401, same process"


def tells_stories(house: House) -> str:
    """journalctl POSTROOM_JOB= has a job's whole way over all units, with fields, numbers and priorities."""
    job = house.journal("POSTROOM_EVENT=accepted", "POSTROOM_SOURCE=smtp")[-1]["POSTROOM_JOB"]
    entries = house.journal(f"POSTROOM_JOB={job}")
    stages = {one["POSTROOM_STAGE"] for one in entries if "POSTROOM_STAGE" in one}
    units = {one["_SYSTEMD_UNIT"] for one in entries}
    assert stages >= {"extract", "classify", "reply", "deliver"}, stages
    assert len(units) >= 4, units
    explained = house.box.out("journalctl", "-x", "--no-pager", "POSTROOM_EVENT=reload refused")
    assert "the old one stays in force" in explained, explained
    traced = house.box.out("postroom", "trace", house.sent[0])
    missing = [word for word in ("accepted", "classify", "sent", "postroom-worker@deliver") if word not in traced]
    assert not missing, f"{missing} not in {traced}"
    assert "without the journal" not in traced, traced
    return (
        f"{len(entries)} entries of {len(units)} units; journalctl -x explains; trace {len(traced.splitlines())} lines"
    )


def is_hardened(house: House) -> str:
    """systemd-analyze security of every unit, and the reader's worker sees no network."""
    scores = {unit: house.exposure(unit) for unit in (*SERVICES, *BESIDE)}
    assert max(map(float, scores.values())) <= MOST_EXPOSED, scores
    pid = house.pid("postroom-worker@extract.service")
    links = house.box.out("nsenter", "-t", pid, "-n", "ip", "-o", "link").splitlines()
    assert len(links) == 1, links
    return (
        f"{len(scores)} units, {min(scores.values())} to {max(scores.values())}; extract has only {links[0].split()[1]}"
    )


def stops(house: House) -> str:
    """Stopped with work in hand: no process has to be killed, and the work is done after the next start."""
    (house.town / "slow").write_text("5")
    house.mail("in hand")
    time.sleep(3)
    began = time.monotonic()
    house.box.run("systemctl", "stop", "postroom.target", *SERVICES)
    took = time.monotonic() - began
    results = {unit: house.show(unit, "Result")[0] for unit in SERVICES}
    assert set(results.values()) == {"success"}, results
    (house.town / "slow").unlink()
    house.box.run("systemctl", "start", "postroom.target")
    until(lambda: house.sent[-1] in house.replies(), 120, "the answer")
    return f"stopped in {took:.0f} s, answered after the start"


def refuses(house: House) -> str:
    """A wrong configuration ends a start with status 2, and systemd does not try again."""
    good = (house.box.root / "etc/postroom/postroom.toml").read_text()
    house.write("postroom.toml", good + "[web]\nprot = 1\n")
    house.box.run("systemctl", "restart", "postroom-rescue.service", check=False)
    until(lambda: house.show("postroom-rescue.service", "ActiveState")[0] == "failed", 30, "the end")
    status, restarts_ = house.show("postroom-rescue.service", "ExecMainStatus", "NRestarts")
    time.sleep(5)
    assert (status, house.show("postroom-rescue.service", "ActiveState")[0]) == ("2", "failed")
    entries = house.journal("POSTROOM_EVENT=configuration refused")
    assert "did you mean `port`?" in entries[-1]["POSTROOM_REASON"]
    house.write("postroom.toml", good)
    house.box.run("systemctl", "restart", "postroom-rescue.service")
    return f"status {status}, {restarts_} restarts; {entries[-1]['POSTROOM_REASON']}"


def loses_nothing(house: House) -> str:
    """After all of it every message has its answer, and no job failed."""
    counts = house.settled(600)
    assert set(counts) == {"done"}, counts
    replies = house.replies()
    twice = [one for one in house.sent if replies.count(one) > 1]
    missing = [one for one in house.sent if one not in replies]
    out = house.delivered()
    unheard = [one for one in house.hooks if one not in out]
    assert not missing, missing
    assert not unheard, unheard
    mails = f"{len(house.sent)} mails answered ({len(twice)} twice, by a kill)"
    return f"{counts['done']} jobs done; {mails}, {len(house.hooks)} hooks delivered"


def vanishes(house: House) -> str:
    """dpkg --purge leaves no file, no account, no unit."""
    house.box.run("systemctl", "stop", "town")
    house.box.run("dpkg", "--purge", "postroom")
    return house.nothing_left()
