"""The man page and the shells' completions, written from the commands themselves: `python -m daemon.manual FOLDER`."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # its documented place

from config.settings import SYSTEM_FILE
from daemon.cli import cli

PROGRAM = "postroom"
COMPLETIONS = {"bash": "postroom", "zsh": "_postroom", "fish": "postroom.fish"}
"""File names as each shell looks for them."""
PANELS = ("Processes", "Questions", "Actions")
ENVIRONMENT = (
    ("POSTROOM_CONFIG", "Configuration file, where --config names none."),
    (
        "POSTROOM_SECTION__NAME",
        "Any setting: POSTROOM_SMTP_OUT__PASSWORD is password in [smtp_out]. Goes before the file.",
    ),
    ("CREDENTIALS_DIRECTORY", "Folder of systemd credentials; smtp_out__password is the same setting."),
    ("STATE_DIRECTORY", "Folder of ledger and blobs under systemd, where state_dir names none."),
)
EXIT_STATUS = (
    ("0", "All is well."),
    ("1", "Something failed or cannot be reached; one line on standard error says what."),
    ("2", "Configuration or command line are wrong; the message says where, and what to write instead."),
)
FILES = (
    (str(SYSTEM_FILE), "Settings."),
    ("/etc/postroom/routes/*.toml", "Routes, where routes_dir names this folder."),
)


def write(folder: Path) -> list[Path]:
    """Put `man1/postroom.1` and a completion for each shell into `folder`; what was written."""
    texts = {folder / "man1" / "postroom.1": man_page()}
    texts |= {folder / shell / name: completion(shell) for shell, name in COMPLETIONS.items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(texts)


def completion(shell: str) -> str:
    """The script that makes `shell` ask the program itself, which knows its commands and options."""
    script = get_completion_script(prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE", shell=shell)
    return f"{script.strip()}\n"


def man_page() -> str:
    """postroom(1), in the roff of man(7)."""
    group: Any = typer.main.get_command(cli)
    top = group.make_context(PROGRAM, [], resilient_parsing=True)
    version = importlib.metadata.version(PROGRAM)
    lines = [f'.TH POSTROOM 1 "" "Postroom {_text(version)}" "User Commands"', ".SH NAME"]
    lines += [f"{PROGRAM} \\- {_text(_first_sentence(group.help))}", ".SH SYNOPSIS"]
    lines += [f".B {PROGRAM}", _text("[--config FILE] COMMAND [OPTION...] [ARGUMENT...]")]
    lines += [".SH DESCRIPTION", *_paragraphs(group.help), ".SH OPTIONS", *_parameters(group, top)]
    for panel in PANELS:
        lines.append(f".SH {panel.upper()}")
        for name, command in sorted(group.commands.items()):
            if _panel(command) == panel and not command.hidden:
                lines += _command(command, type(top)(command, parent=top, info_name=name))
    for title, pairs in (("EXIT STATUS", EXIT_STATUS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        lines += [f".SH {title}", *(line for pair in pairs for line in _tagged(*pair))]
    lines += [".SH SEE ALSO", ".BR systemctl (1),", ".BR journalctl (1)"]
    return "\n".join(lines) + "\n"


def _command(command: Any, context: Any) -> Iterator[str]:
    """A command with its parameters, then those below it."""
    yield f".SS {_text(context.get_usage().removeprefix('Usage: '))}"
    yield from _paragraphs(command.help or "")
    yield from _parameters(command, context)
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, type(context)(inner, parent=context, info_name=name))


def _parameters(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and "--help" not in record[0]:
            yield from _tagged(*record)


def _panel(command: Any) -> str:
    found = getattr(command, "rich_help_panel", None)
    if found not in PANELS:
        raise ValueError(f"{command.name}: rich_help_panel is {found!r}; write one of {', '.join(PANELS)}")
    return str(found)


def _tagged(term: str, says: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_text(term)}"
    yield _text(" ".join(says.split()) or "-")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _first_sentence(text: str) -> str:
    return text.strip().partition(". ")[0].rstrip(".")


def _text(text: str) -> str:
    """`text` as roff takes it literally; a minus can be copied and pasted as one."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m daemon.manual FOLDER")
    for written in write(Path(sys.argv[1])):
        print(written)
