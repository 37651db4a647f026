"""Plain mails that Postroom writes to its own people: a template, filled with facts that strangers may have written."""

from __future__ import annotations

from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.clock import iso
from tasks.errors import Permanent


def filled(templates: Path, file: str, **facts: object) -> str:
    """The text of `file`, a path below `templates`. Raises Permanent when it is missing or asks for what is not there."""
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # plain text
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"iso": iso, "line": one_line}
    try:
        text = environment.get_template(file).render(**facts)
    except jinja2.TemplateNotFound:
        raise Permanent(
            f"template {templates / file} is missing; copy it from the templates that Postroom ships"
        ) from None
    except jinja2.TemplateError as error:
        raise Permanent(f"template {file}: {error}") from None
    return text.strip()


def one_line(text: str, length: int = 100) -> str:
    """Somebody else's words: on one line, not longer than `length`, nothing that cannot be seen."""
    flat = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
