"""`make systemd-test`: builds the package, boots a Debian, and tries what an admin relies on; a table at the end.

Ends with status 0 when every trial came out right, with 1 when one did not, and with 0 and a clear message where no
container can be had (POSTROOM_TEST_FULL=1 makes that a failure). `python -m tests.systemd timers PostgreSQL` tries only
these, after the installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.systemd import beside, trials
from tests.systemd.box import Box, CannotBox
from tests.systemd.house import House

REPOSITORY = Path(__file__).resolve().parents[2]


def build(tree: Path, version: str = "") -> Path:
    """The package of a tree."""
    command = [str(REPOSITORY / ".ci/deb"), str(tree), *([version] if version else [])]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return Path(made.stdout.splitlines()[-1])


def former(folder: Path) -> tuple[Path, str]:
    """The package of the last commit before this one that has units, or this tree's own under a lower version."""
    commits = subprocess.run(
        [
            "git",
            "-C",
            str(REPOSITORY),
            "rev-list",
            "HEAD~1",
            "--",
            "systemd/postroom.target",
            "daemon",
            "tasks",
            "config",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for commit in commits[:1]:
        tree = folder / "former"
        tree.mkdir()
        archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", commit], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
        if (tree / "systemd/postroom.target").exists():
            return build(tree, "0.0.1+former"), f"commit {commit[:9]}"
    return build(REPOSITORY, "0.0.1+former"), "this commit, since none before it has units"


def run(house: House, old: Path, new: Path, wanted: list[str]) -> list[tuple[str, bool, float, str]]:
    """All trials, or the installation and those of these names; without an installation none of the others."""
    plan: list[tuple[str, Callable[[], str]]] = [
        ("install", partial(trials.installs, house, old)),
        ("mail and webhook", partial(trials.answers, house)),
        ("upgrade", partial(trials.upgrades, house, new)),
        ("sandbox", partial(trials.is_hardened, house)),
        ("restart under load", partial(trials.restarts, house)),
        ("kill -9", partial(trials.survives_kills, house)),
        ("frozen worker", partial(trials.watches, house)),
        ("reload", partial(trials.reloads, house)),
        ("secret", partial(trials.rotates, house)),
        ("broker away", partial(beside.misses_the_broker, house)),
        ("model and mail away", partial(beside.misses_the_model, house)),
        ("timers", partial(beside.keeps_time, house)),
        ("commands of root", partial(beside.is_run_by_root, house)),
        ("optional units", partial(beside.has_more, house)),
        ("PostgreSQL", partial(beside.lives_on_postgresql, house)),
        ("journal", partial(trials.tells_stories, house)),
        ("stop", partial(trials.stops, house)),
        ("bad configuration", partial(trials.refuses, house)),
        ("nothing lost", partial(trials.loses_nothing, house)),
        ("uninstall", partial(trials.vanishes, house)),
        ("install by itself", partial(beside.installs_itself, house, new)),
    ]
    if unknown := set(wanted) - {name for name, _ in plan}:
        raise SystemExit(f"no trial is called {', '.join(sorted(unknown))}; there are: {', '.join(n for n, _ in plan)}")
    rows = []
    for name, trial in plan:
        if wanted and name not in {"install", *wanted}:
            continue
        began = time.monotonic()
        try:
            seen, well = trial(), True
        except Exception as error:  # the others are tried all the same
            seen, well = f"{type(error).__name__}: {error}", False
        rows.append((name, well, time.monotonic() - began, seen))
        print(f"{'ok    ' if well else 'FAILED'} {name:<20} {rows[-1][2]:5.0f} s  {seen}", flush=True)
        if not well and name == "install":
            break
    return rows


def main(wanted: list[str]) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory(prefix="postroom-systemd-", dir="/var/tmp") as name:
        folder = Path(name)
        box = Box(folder)
        try:
            box.boot()
            print(f"systemd {box.out('systemctl', '--version').split()[1]} runs in a container", flush=True)
            new = build(REPOSITORY)
            old, which = former(folder) if not wanted or "upgrade" in wanted else (new, "itself")
            print(f"packages: {new.name}, {new.stat().st_size >> 20} MB, and before it that of {which}", flush=True)
            rows = run(House(box), old, new, wanted)
            if not all(well for _, well, _, _ in rows):
                (Path("build") / "systemd-test.journal").write_text(
                    box.run("journalctl", "--no-pager", check=False).stdout
                )
        except CannotBox as error:
            print(f"postroom: no container with systemd can be had here: {error}", file=sys.stderr)
            return int(os.environ.get("POSTROOM_TEST_FULL") == "1")
        finally:
            box.down()
    print("\n| trial | | seconds | what was seen |\n|---|---|---|---|")
    for name, well, seconds, seen in rows:
        print(f"| {name} | {'ok' if well else '**failed**'} | {seconds:.0f} | {' '.join(seen.split())[:160]} |")
    return int(not all(well for _, well, _, _ in rows))


sys.exit(main(sys.argv[1:]))
