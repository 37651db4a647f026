"""The reference says what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from config.reference import DOC, TOML, configuration_md, postroom_toml
from config.settings import load


def test_the_reference_is_up_to_date() -> None:
    """docs/configuration.md and config/postroom.toml are what `python -m config.reference` writes."""
    assert DOC.read_text("utf-8") == configuration_md()
    assert TOML.read_text("utf-8") == postroom_toml()


def test_the_shipped_file_changes_nothing(tmp_path: Path) -> None:
    """Read as it is, it gives the defaults."""
    path = tmp_path / "postroom.toml"
    path.write_text(postroom_toml())
    assert load(path) == load()


def test_every_line_of_the_shipped_file_can_be_used() -> None:
    """Taken out of its comment, each option is TOML."""
    lines = [line.removeprefix("#") for line in postroom_toml().splitlines() if re.match(r"#?\[|#\w+ = ", line)]
    assert tomllib.loads("\n".join(lines))["web"]["port"] == 8480
