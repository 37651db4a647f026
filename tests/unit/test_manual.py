"""The man page and the completions: they tell every command and option, and their readers take them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from daemon import manual
from daemon.cli import cli

REPOSITORY = Path(__file__).resolve().parents[2]
GROUP: Any = typer.main.get_command(cli)


def commands(group: Any = GROUP, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def rendered() -> str:
    """The page as a terminal shows it."""
    return manual.man_page().replace("\\-", "-").replace("\\(dq", '"').replace("\\e", "\\").replace("\\&", "")


def test_each_command_and_option_is_in_the_page() -> None:
    """With what the command line's own help says of it."""
    page = rendered()
    found = list(commands())
    assert len(found) > 30
    for path, command in found:
        assert f".SS postroom {' '.join(path)}" in page
        assert command.help.split("\n")[0] in page
        for parameter in (one for one in command.params if not getattr(one, "hidden", False)):
            names = (
                parameter.opts
                if parameter.param_type_name == "option"
                else [parameter.metavar or parameter.name.upper()]
            )
            assert all(name in page for name in names), (path, names)


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_has_nothing_to_say() -> None:
    """No warning of any kind, and the text comes out."""
    said = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-K", "utf8", "-P-cbu"],
        input=manual.man_page(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    assert "postroom trace" in said.stdout


def test_a_command_without_a_panel_is_refused() -> None:
    """It would be in no section of the page."""
    stray = typer.Typer()

    @stray.command(rich_help_panel="Elsewhere")
    def lost() -> None:
        """Nowhere."""

    with pytest.raises(ValueError, match="rich_help_panel is 'Elsewhere'"):
        manual._panel(typer.main.get_command(stray))


def test_what_stands_for_markup_is_text() -> None:
    """A line that begins with a dot, backslashes and quotes."""
    assert manual._text('.TH "a\\b" --x') == "\\&.TH \\(dqa\\eb\\(dq \\-\\-x"


def test_bash_takes_its_completion_and_gets_the_commands(tmp_path: Path) -> None:
    """A real bash, which asks the program: `postroom en<TAB>` and `postroom endpoints d<TAB>`."""
    written = manual.write(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        "man1/postroom.1",
        "bash/postroom",
        "zsh/_postroom",
        "fish/postroom.fish",
    }
    (tmp_path / "postroom").write_text(f"#!{sys.executable}\nfrom daemon.cli import main\nmain()\n")
    (tmp_path / "postroom").chmod(0o755)
    script = (
        'set -u; source bash/postroom; complete -p postroom >/dev/null; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); '
        "COMP_POINT=99; COMP_LINE=\"$*\"; completer=$(complete -p postroom | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
        '$completer postroom "${@: -1}" ""; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    words = ["bash", "-c", script, "bash", "postroom", "endpoints", "d"]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["disable"]


def test_the_other_shells_get_scripts_of_their_own() -> None:
    """Each names the program and its variable."""
    for shell, sign in (("zsh", "#compdef postroom"), ("fish", "complete --command postroom")):
        script = manual.completion(shell)
        assert script.startswith(sign)
        assert "_POSTROOM_COMPLETE" in script
