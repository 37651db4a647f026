"""Finds the formats: every module of this folder that declares `TYPES` and `read`. Adding a file adds a format."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import cast

import tasks.readers
from tasks.readers.content import Reader


@cache
def modules() -> tuple[ModuleType, ...]:
    """The format modules, in the order of their names."""
    found = []
    for entry in pkgutil.iter_modules(tasks.readers.__path__):
        if not entry.ispkg:
            module = importlib.import_module(f"tasks.readers.{entry.name}")
            if hasattr(module, "TYPES"):
                found.append(module)
    return tuple(found)


@cache
def _table() -> dict[str, Reader]:
    table: dict[str, Reader] = {}
    for module in modules():
        for content_type in module.TYPES:
            if content_type in table:
                raise RuntimeError(f"{content_type} is declared by two readers; the second is {module.__name__}")
            table[content_type] = cast(Reader, module.read)
    return table


def reader_for(content_type: str) -> Reader | None:
    """The reader of a content type: the exact one, or that of its family (`text/*`, `image/*`); None for no reader."""
    table = _table()
    family = content_type.partition("/")[0] + "/*"
    return table.get(content_type) or table.get(family)
