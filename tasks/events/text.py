"""The text of an event: a route's template filled with it, or its JSON, indented."""

from __future__ import annotations

import json
import re
import secrets
import traceback
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.errors import Permanent


class _Templates(ImmutableSandboxedEnvironment):
    """Templates in which `event.items` is the event's member of that name, never Python's method."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The member `attribute` of an object; of anything else, as Jinja2 does it."""
        return self._member(obj, attribute) if isinstance(obj, Mapping) else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """The member `argument` of an object; of anything else, as Jinja2 does it."""
        return self._member(obj, argument) if isinstance(obj, Mapping) else super().getitem(obj, argument)

    def _member(self, obj: Mapping[Any, Any], name: Any) -> Any:
        if name in obj:
            return obj[name]
        return self.undefined(f"the event has no member {name!r}", obj=obj, name=name)


def by_template(folder: Path, name: str, event: Any) -> str:
    """`folder`/`name`.txt.j2 filled with `event`. Raises Permanent, with the member that is missing, and the line."""
    templates = _Templates(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_function"] = lambda value, **_: as_json(value)
    file = f"{name}.txt.j2"
    try:
        return templates.get_template(file).render(event=event).strip()
    except jinja2.TemplateNotFound:
        raise Permanent(
            f"the template {folder / file} is missing; put it back, or restart with today's routes"
        ) from None
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise Permanent(
            f"{_place(file, error)}: {error or type(error).__name__}; mend it, then retry the job"
        ) from error


def as_json(value: Any) -> str:
    """`value` as indented JSON, with its numbers as they were written. Raises RecursionError when it is too deep."""
    mark = secrets.token_hex(8)
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda number: f"{mark}{_plain(number)}")
    return re.sub(rf'"{mark}([^"]*)"', r"\1", text)


def put_in(event: Any, instead: Mapping[int, str]) -> Any:
    """`event` with strings, told by their identity (`id`), replaced where they stand."""
    if isinstance(event, str):
        return instead.get(id(event), event)
    waiting = [event] if instead and isinstance(event, dict | list) else []
    while waiting:
        holder = waiting.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, str):
                if id(value) in instead:
                    holder[key] = instead[id(value)]
            elif isinstance(value, dict | list):
                waiting.append(value)
    return event


def _shown(value: Any) -> Any:
    """How a template prints a value: as JSON does; null is nothing."""
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        return as_json(value)
    return _plain(value) if isinstance(value, Decimal) else value


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _place(file: str, error: Exception) -> str:
    """Template and, where it is known, the line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    return f"templates/event/{file}:{line}" if line else f"templates/event/{file}"
