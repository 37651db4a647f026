"""Configuration errors: one line each, with file, line and what to write instead."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

_SECRETS = {"secret", "secrets", "password", "passwords", "users", "bearer"}
"""Keys whose values no message repeats."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a configuration."""

    file: str
    line: int | None
    key: str
    what: str
    instead: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        return f"{place}:{key} {self.what}; {self.instead}"

    @classmethod
    def of_toml(cls, file: str, error: tomllib.TOMLDecodeError) -> Problem:
        """A file that is not TOML."""
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        what = re.sub(r" \(at .*\)$", "", str(error))
        return cls(
            file, int(found[1]) if found else None, "", f"is not TOML: {what}", 'write key = value, text in "quotes"'
        )


class ConfigError(Exception):
    """The configuration cannot be used. `problems` are complete: all that is wrong is told at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def problems_of(error: ValidationError, file: str, text: str, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems of `file`, whose content is `text`."""
    return [_problem(item, file, text, model) for item in error.errors()]


def _problem(item: typing.Any, file: str, text: str, model: type[BaseModel]) -> Problem:
    path = tuple(part for part in item["loc"] if not (isinstance(part, str) and part.startswith("function-")))
    key = ".".join(map(str, path))
    if not text or not line_of(text, path):
        variable = "POSTROOM_" + "__".join(str(part).upper() for part in path)
        key = f"{key} ({variable})" if not text else key
    what, instead = _words(item, path, model)
    return Problem(file, line_of(text, path), key, what, instead)


def _words(item: typing.Any, path: tuple[typing.Any, ...], model: type[BaseModel]) -> tuple[str, str]:
    kind = item["type"]
    if kind == "extra_forbidden":
        known = sorted(_keys_at(model, path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, 1)
        return "unknown key", f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}"
    if kind == "missing":
        return "is missing", "add it"
    shown = repr(item.get("input"))
    secret = "Secret" in shown or not _SECRETS.isdisjoint(map(str, path))
    given = "" if len(shown) > 60 or secret else f", not {shown}"
    message = item["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        what, _, instead = message.partition("; ")
        return what, instead or "see docs/configuration.md"
    if message.startswith("Input should be "):
        return f"wrong value{given}", f"write {message.removeprefix('Input should be ')}"
    return f"{message[:1].lower()}{message[1:]}{given}", "see docs/configuration.md"


def _keys_at(model: type[BaseModel], path: tuple[typing.Any, ...]) -> set[str]:
    """The keys that a table knows."""
    current: set[type[BaseModel]] = {model}
    names = list(path)
    while names:
        name = names.pop(0)
        following: set[type[BaseModel]] = set()
        for cls in current:
            field = cls.model_fields.get(str(name)) or next(
                (f for f in cls.model_fields.values() if f.alias == name), None
            )
            if field is None:
                following.add(cls)  # the name of an entry in a dict or its index in a list
            else:
                following.update(_models_in(field.annotation))
        current = following
    return {field.alias or name for cls in current for name, field in cls.model_fields.items()}


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _models_in(part)


def line_of(text: str, path: tuple[typing.Any, ...]) -> int | None:
    """The line of TOML `text` where the value at `path` is set (tomllib keeps no places).

    Counts `[[array]]` headers for list indexes; falls back to the nearest table that is there.
    """
    best: int | None = None
    table: tuple[typing.Any, ...] = ()
    seen: dict[tuple[typing.Any, ...], int] = {}
    best_depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if found := re.match(r"\[\[\s*([^\]]+?)\s*\]\]", stripped):
            name = _split(found[1])
            seen[name] = seen.get(name, -1) + 1
            table = _with_indexes(name, seen)
        elif found := re.match(r"\[\s*([^\[\]]+?)\s*\]", stripped):
            table = _with_indexes(_split(found[1]), seen)
        elif found := re.match(
            r"((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"))*)\s*=", stripped
        ):
            here = (*table, *_split(found[1]))
            depth = len(here)
            if here == path[:depth] and depth > best_depth:
                best, best_depth = number, depth
            continue
        else:
            continue
        if table == path[: len(table)] and len(table) > best_depth:
            best, best_depth = number, len(table)
    return best


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.\s]+", dotted))


def _with_indexes(name: tuple[str, ...], seen: dict[tuple[typing.Any, ...], int]) -> tuple[typing.Any, ...]:
    """`a.b` as the path pydantic gives it, with the index of the last entry after each array of tables."""
    path: tuple[typing.Any, ...] = ()
    for depth in range(1, len(name) + 1):
        path = (*path, name[depth - 1])
        if name[:depth] in seen:
            path = (*path, seen[name[:depth]])
    return path
