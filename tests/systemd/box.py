"""A Debian with a real systemd as PID 1, in a container without a network: made once, copied for each run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libnss-systemd",
    "python3",
    "redis-server",
    "postgresql",
    "ca-certificates",
    "iproute2",
    "procps",
)
LANDLOCK = "bpf keyctl add_key landlock_create_ruleset landlock_add_rule landlock_restrict_self"
"""System calls that the units' sandboxes need and systemd-nspawn leaves out."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_PAGER": "cat",
    "SYSTEMD_COLORS": "0",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


class CannotBox(Exception):
    """No container can be had here, and why."""


Ended = subprocess.CompletedProcess[str]


def base() -> Path:
    """The root that all runs begin with, in the user's cache. Raises CannotBox."""
    suite = _release("VERSION_CODENAME")
    if not suite or _release("ID") not in {"debian", "ubuntu"}:
        raise CannotBox("this needs a Debian or Ubuntu, whose packages it can install")
    _needs("systemd-nspawn", "systemd-container")
    _needs("debootstrap", "debootstrap")
    stamp = hashlib.sha256(" ".join((suite, *PACKAGES)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postroom"
    root = cache / f"systemd-{suite}-{stamp}"
    if not (root / "etc/debian_version").exists() or not (root / ".whole").exists():
        shutil.rmtree(root, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        print(f"making {root} with debootstrap, once", flush=True)
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(root), _mirror(suite)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise CannotBox(f"debootstrap failed: {(made.stdout + made.stderr)[-400:]}")
        (root / "etc/hosts").write_text("127.0.0.1 localhost box\n")
        (root / ".whole").touch()
    return root


def _release(key: str) -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith(f"{key}=")), "")


def _needs(program: str, package: str) -> None:
    if shutil.which(program):
        return
    if os.geteuid():
        raise CannotBox(f"{program} is missing; install it with: sudo apt install {package}")
    print(f"installing {package}", flush=True)
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    if subprocess.run(install, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode:
        raise CannotBox(f"{package} cannot be installed")


def _mirror(suite: str) -> str:
    """Where this machine's own apt gets the suite from."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"], capture_output=True, text=True, check=True
    ).stdout
    found = [line.split()[1] for line in targets.splitlines() if line.split()[:1] == [suite]]
    if not found:
        raise CannotBox(f"apt on this machine has no source for {suite}; run apt-get update")
    return found[0]


class Box:
    """A running container."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._log = folder / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Copy the base and boot it. Raises CannotBox when the kernel or the container around us does not allow it."""
        if os.geteuid():
            raise CannotBox("only root may boot a container; run it with sudo")
        made = base()
        subprocess.run(["cp", "-a", "--reflink=auto", str(made), str(self.root)], check=True)
        command = [
            *(
                "systemd-nspawn",
                "-D",
                str(self.root),
                "-M",
                f"postroom-{os.getpid()}",
                "--register=no",
                "--keep-unit",
                "-b",
            ),
            *("--console=pipe", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *("--capability=all", f"--system-call-filter={LANDLOCK}", "systemd.unified_cgroup_hierarchy=1"),
        ]
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
        deadline = time.monotonic() + 180
        while not (
            self._leader()
            and (self.root / "run").exists()
            and self.run("test", "-S", "/run/systemd/private", check=False).returncode == 0
        ):
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                raise CannotBox(f"systemd does not boot in a container here: {self._log.read_text()[-600:].strip()}")
            time.sleep(0.2)
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def run(self, *command: str, check: bool = True, stdin: str = "") -> Ended:
        """Run a command inside. Raises AssertionError when it fails and should not."""
        ended = subprocess.run(
            self._inside(*command), capture_output=True, text=True, env=ENVIRONMENT, input=stdin, check=False
        )
        assert not check or ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return ended

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command inside and go on."""
        return subprocess.Popen(self._inside(*command), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)

    def out(self, *command: str) -> str:
        """What a command inside prints."""
        return self.run(*command).stdout.strip()

    def down(self) -> None:
        """Power off, and wait for the end."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        self.run("systemctl", "poweroff", "--no-block", check=False)
        try:
            self._nspawn.wait(90)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self._leader()), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", *command]

    def _leader(self) -> int:
        """The host's process id of the container's PID 1; 0 while there is none."""
        queue = [self._nspawn.pid] if self._nspawn else []
        while queue:
            pid = queue.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            except OSError:
                continue
            inside = next(line.split() for line in status.splitlines() if line.startswith("NSpid:"))
            if len(inside) > 2 and inside[-1] == "1":
                return pid
            queue += [int(child) for child in children.split()]
        return 0
