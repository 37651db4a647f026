"""Writes docs/configuration.md and config/postroom.toml from the settings' own descriptions; a test keeps them so.

`python -m config.reference` writes both.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.documents import DocumentsSpec
from config.events import EventDocument, EventSpec
from config.models import TaskModel
from config.routes import DeliverSpec, FieldSpec, Label, Match, ReplySpec, Route, RouteModel
from config.settings import SHIPPED, Settings

DOC = SHIPPED.parent / "docs" / "configuration.md"
TOML = SHIPPED / "postroom.toml"
EXAMPLE_NAMES = {"imap": "support", "folder": "scans", "webhook": "shop", "endpoint": "accounting", "passwords": "bank"}
WHERE = "docs/configuration.md tells more; what is commented out has the value shown"


def configuration_md() -> str:
    """The reference of all settings and of the route files."""
    parts = [_INTRODUCTION, "## Settings\n", _table(Settings, "POSTROOM_", skip_tables=True)]
    for name, field in Settings.model_fields.items():
        if model := _table_model(field):
            named = _is_named(field)
            heading = f"[{name}.NAME]" if named else f"[{name}]"
            variable = f"POSTROOM_{name.upper()}__" + ("NAME__" if named else "")
            parts += [f"\n### {heading}\n", f"{_doc(model)}\n", _table(model, variable)]
            for part, inner in _tables_in(model):
                parts += _part(
                    f"{heading.rstrip(']')}.{part}",
                    inner,
                    f"{variable}{part.upper()}__",
                    field_of=model.model_fields[part],
                )
    parts.append(_ROUTES)
    for heading, route_model in _route_tables():
        parts += [f"\n### {heading}\n", f"{_doc(route_model)}\n", _table(route_model, "")]
    return "\n".join(parts).rstrip() + "\n"


def postroom_toml() -> str:
    """The shipped file: every option with one line of comment, commented out at its default."""
    lines = [f"# Postroom's settings. {WHERE}.", ""]
    for name, field in Settings.model_fields.items():
        if not _table_model(field):
            lines += [f"# {field.description}", f"#{name} = {_toml(field)}"]
    for name, field in Settings.model_fields.items():
        if model := _table_model(field):
            named = _is_named(field)
            heading = f"[{name}.{EXAMPLE_NAMES[name]}]" if named else f"[{name}]"
            lines += ["", f"# {_doc(model)}", f"#{heading}" if named else heading]
            for key, option in model.model_fields.items():
                lines += [f"# {option.description}", f"#{key} = {_toml(option)}"]
    return "\n".join(lines) + "\n"


def _part(title: str, model: type[BaseModel], variable: str, field_of: FieldInfo) -> list[str]:
    named = _is_named(field_of)
    heading = f"\n#### {title}{'.NAME' if named else ''}]\n"
    return [heading, f"{_doc(model)}\n", _table(model, variable + ("NAME__" if named else ""))]


def _route_tables() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "top level of a route", Route
    yield "[match]", Match
    yield "[documents]", DocumentsSpec
    yield "[event]", EventSpec
    yield "[[event.documents]]", EventDocument
    yield "[labels.LABEL]", Label
    yield "[labels.LABEL.fields.FIELD]", FieldSpec
    yield "[reply]", ReplySpec
    yield "[[deliver]]", DeliverSpec
    yield "[model]", RouteModel
    yield "[model.classify], [model.fields], [model.reply]", TaskModel


def _table(model: type[BaseModel], variable: str, *, skip_tables: bool = False) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if (skip_tables and _table_model(field)) or not field.description:
            continue
        key = f"`{name}`" + (f"<br>`{variable}{name.upper()}`" if variable else "")
        default = "required" if field.is_required() else f"`{_toml(field)}`"
        rows.append(f"| {key} | {_type(field.annotation)} | {default} | {field.description.replace('|', '&#124;')} |")
    return "\n".join(rows)


def _doc(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _is_named(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is dict


def _table_model(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field of Settings is, or is a dictionary of."""
    annotation = typing.get_args(field.annotation)[1] if _is_named(field) else field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _tables_in(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables inside a section that are worth one of their own in the reference."""
    for name, field in model.model_fields.items():
        if (inner := _table_model(field)) and any(option.description for option in inner.model_fields.values()):
            yield name, inner


def _type(annotation: object) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}
    if annotation in names:
        return names[annotation]
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    if origin is typing.Annotated:
        return _type(arguments[0])
    return "table" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else str(annotation)


def _toml(field: FieldInfo) -> str:
    value = "..." if field.is_required() else field.default
    if value is PydanticUndefined:
        factory = getattr(field.default_factory, "__name__", "")
        return "{}" if factory == "dict" else '"~/.local/state/postroom"'
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, Path):
        return f'"{value.relative_to(SHIPPED.parent) if value.is_relative_to(SHIPPED.parent) else value}"'
    if value is None:
        return '""'
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


_INTRODUCTION = """# Configuration

This page is generated from the settings themselves (`python -m config.reference`).

Settings are read from, the first that has a value wins:

1. the environment: `POSTROOM_` and the key, with two underscores for each dot (`POSTROOM_SMTP_OUT__HOST`)
2. systemd credentials: a file in `$CREDENTIALS_DIRECTORY` named like the key (`smtp_out__password`)
3. the file given with `--config`, else `$POSTROOM_CONFIG`, else `/etc/postroom/postroom.toml`
4. the defaults below

`postroom check` tells what is wrong: file, line, and what to write instead. A wrong configuration ends every process
with exit status 2. `OLLAMA_HOST` is honoured as Ollama's own tools do.
"""

_ROUTES = """
## Routes

One TOML file a route in `routes_dir`, read in order of name; the first whose `[match]` fits is taken. The last one has
no `[match]` and catches the rest. `config/routes/` holds examples that run in `make demo`.
"""


def main() -> None:
    """Write both files."""
    DOC.write_text(configuration_md(), "utf-8")
    TOML.write_text(postroom_toml(), "utf-8")


if __name__ == "__main__":
    main()
