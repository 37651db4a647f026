"""compose.yaml and Containerfile: checked as files, for no engine is at hand where the tests run.

Where `docker compose` or `hadolint` are installed, they are asked as well.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from config.settings import Settings
from daemon.cli import cli
from tasks.app import QUEUES

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
CONTAINERFILE = (REPOSITORY / "Containerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
GROUP: Any = typer.main.get_command(cli)


def instructions() -> Iterator[tuple[str, str]]:
    """Instruction and arguments, continued lines joined."""
    for line in re.sub(r"\\\n", " ", CONTAINERFILE).splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_limits_and_few_rights(name: str) -> None:
    """Memory, processes and processors bounded, nothing writable but what has to be, no rights beyond a user's."""
    service = SERVICES[name]
    assert {"mem_limit", "pids_limit", "cpus", "tmpfs", "networks", "logging"} <= service.keys()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & service.keys()
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "who wants others to reach it says so"


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_of_postrooms(name: str) -> None:
    """With options that it takes: the command line reads them without running anything."""
    first, *rest = OURS[name]["command"]
    top = GROUP.make_context("postroom", [], resilient_parsing=True)
    command = GROUP.commands[first]
    context = command.make_context(first, list(rest), parent=top)
    assert not context.args


def test_every_queue_is_served_and_the_reader_reaches_no_network() -> None:
    """Each by a service of its own; documents of strangers are read where there is no way out."""
    served = [service["command"][2] for service in OURS.values() if service["command"][0] == "worker"]
    assert sorted(served) == sorted(QUEUES)
    assert SERVICES["extract"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {service["command"][0] for service in OURS.values()} >= {"web", "rescue"}


def test_what_is_set_and_mounted_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings by their names; networks and volumes that are declared."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    for service in OURS.values():
        with monkeypatch.context() as inside:
            for name, value in service["environment"].items():
                inside.setenv(name, value)
            given = {"recipients": ["@team.example"]} if service["command"] == ["smtp"] else {}
            settings = Settings(smtp=given)
        assert (settings.broker, settings.web.host) == ("redis://valkey:6379/0", "0.0.0.0")
        assert (settings.smtp.host == "0.0.0.0") is bool(given)
        volumes = {volume.partition(":")[0] for volume in service["volumes"]}
        assert volumes == {"state", "./postroom.toml"}
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert COMPOSE["volumes"].keys() == {"state"}


def test_the_image_is_built_from_what_is_there() -> None:
    """Each file that is copied exists and is let through; the packages of the wheel are all copied."""
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = set()
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, _ = arguments.split()
            for source in sources:
                assert (REPOSITORY / source).exists() or source == "systemd", source
                assert f"!{source}" in ignored
                copied.add(source)
    wheel = re.search(
        r"\[tool.hatch.build.targets.wheel\]\npackages = (.*)", (REPOSITORY / "pyproject.toml").read_text()
    )
    assert wheel
    assert set(re.findall(r'"(\w+)"', wheel[1])) <= copied


def test_the_image_runs_without_rights() -> None:
    """Not as root, from a base with a version, with the lock's hashes; and each instruction is one that there is."""
    found = list(instructions())
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in found} <= known
    users = [arguments for name, arguments in found if name == "USER"]
    assert users == ["8480:8480"]
    for base in (arguments for name, arguments in found if name == "FROM"):
        assert re.match(r"docker\.io/library/python:3\.\d+-slim-\w+( AS \w+)?$", base)
    assert "--require-hashes" in CONTAINERFILE
    for name, arguments in found:
        if name in {"ENTRYPOINT", "CMD"}:
            assert arguments.startswith("["), "a shell in between would swallow the signals"


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    """The linter that everybody uses."""
    ended = subprocess.run(["hadolint", str(REPOSITORY / "Containerfile")], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_docker_compose_takes_it() -> None:
    """Its own reader, which needs no engine."""
    try:
        there = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        there = False
    if not there:
        pytest.skip("docker compose is not installed")
    command = ["docker", "compose", "--file", str(REPOSITORY / "compose.yaml"), "config", "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
