"""Prints the part of requirements.lock that Postroom and its optional units need, with its hashes: no tools of development.

Run it with the development environment's Python, whose packages tell what needs what:
`runtime_requirements.py TREE PYTHON-VERSION`, the version being that of the Python which the packages are for.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(wanted: list[str], version: str) -> set[str]:
    """The names of `wanted` and of all that they need on Python `version`, extras included."""
    there = {"python_full_version": version, "python_version": ".".join(version.split(".")[:2])}
    found: set[str] = set()
    queue = [(Requirement(line), "") for line in wanted]
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement, for_extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({**there, "extra": for_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found.add(name)
            with contextlib.suppress(
                PackageNotFoundError
            ):  # needed there and not here: a backport, which needs nothing
                queue += [(Requirement(line), extra) for line in requires(name) or ()]
    return found


def main(tree: Path, version: str) -> None:
    """Print the blocks of the lock file, each a name with its hashes."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    names = closure([*project["dependencies"], *project["optional-dependencies"]["flower"]], version)
    block = re.compile(r"(?m)^([A-Za-z0-9._-]+)(?:==| @).*\n(?:[ \t].*\n)*")
    for found in block.finditer((tree / "requirements.lock").read_text()):
        if canonicalize_name(found[1]) in names:
            print(found[0], end="")


main(Path(sys.argv[1]), sys.argv[2])
