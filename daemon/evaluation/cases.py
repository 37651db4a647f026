"""A labelled set: files, and beside each NAME.EXT a NAME.expected.toml that says what it is.

    label = "invoice"            the right label
    language = "de"              optional: figures are told by language, too
    source = "webhook:shop"      optional: the way in that it is to have come, where that chooses the route

    [fields]                     what has to be read; of a list, any one is right
    number = "R-1187"
    vendor = ["Lindner & Partner", "Lindner"]

    [may]                        what is right when it is read, and not missed when it is not
    due_date = "2026-06-30"

Values are written in their normal form (docs/model.md): ISO dates, decimals with a point.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from config.errors import ConfigError, Problem, problems_of
from config.inbound import Section
from config.routes import Route

Half = Literal["both", "tuning", "unseen"]
ENDING = ".expected.toml"
ROUTE = "route.toml"
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".heic"})

Values = Mapping[str, tuple[str, ...]]


def _values(given: object) -> object:
    if not isinstance(given, dict):
        return given
    return {name: (value,) if isinstance(value, str) else value for name, value in given.items()}


class Expected(Section):
    """One expected.toml."""

    label: str = Field(min_length=1, description="The right label.")
    language: str = Field("", description="Language, for figures by language.")
    source: str = Field("eval", description="Way in that it is to have come.")
    fields: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="Values that have to be read.")
    may: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="Values that may be read.")

    @field_validator("fields", "may", mode="before")
    @classmethod
    def _one_or_more(cls, given: object) -> object:
        return _values(given)


@dataclass(frozen=True)
class Case:
    """One labelled file."""

    name: str
    path: Path
    label: str
    language: str
    source: str
    fields: Values
    may: Values

    @property
    def half(self) -> Half:
        """`tuning` or `unseen`, by the name alone: so it was fixed before any run, and stays when others are added."""
        return "unseen" if _hash(self.name)[0] % 2 else "tuning"

    @property
    def is_text(self) -> bool:
        """Whether its text can be read without OCR."""
        return self.path.suffix.lower() not in PICTURES


def load_cases(folder: Path, half: Half = "both", only: str = "") -> list[Case]:
    """The cases of `folder`: of one half, and with `only` in their names.

    Their order looks like chance and is always the same, so that a run that ends early has seen some of every kind.
    Raises ConfigError with every file that is wrong, and when there are no cases at all.
    """
    problems: list[Problem] = []
    cases: list[Case] = []
    for path in sorted(folder.glob(f"*{ENDING}")):
        try:
            cases.append(_case(path))
        except ConfigError as error:
            problems += error.problems
    if not problems and not cases:
        problem = "has no labelled files" if folder.is_dir() else "is no folder"
        problems.append(Problem(str(folder), None, "", problem, f"put NAME.eml and NAME{ENDING} into it"))
    if problems:
        raise ConfigError(problems)
    kept = [case for case in cases if half in {"both", case.half} and only in case.name]
    if not kept:
        raise ConfigError([Problem(str(folder), None, "", "has no such case", "choose another --half or --only")])
    return sorted(kept, key=lambda case: _hash(case.name))


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _case(path: Path) -> Case:
    name = path.name.removesuffix(ENDING)
    files = [file for file in path.parent.glob(f"{_literal(name)}.*") if file.stem == name and file.name != path.name]
    if len(files) != 1:
        found = "has no file beside it" if not files else f"has {len(files)} files beside it"
        raise ConfigError([Problem(str(path), None, "", found, f"put one file {name}.EXT there that it tells of")])
    expected = _expected(path)
    return Case(name, files[0], expected.label, expected.language, expected.source, expected.fields, expected.may)


def _literal(name: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)


def _expected(path: Path) -> Expected:
    try:
        text = path.read_text("utf-8")
        return Expected(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem.of_toml(str(path), error)]) from None
    except ValidationError as error:
        raise ConfigError(problems_of(error, str(path), text, Expected)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), None, "", f"cannot be read: {error}", "make it UTF-8 text")]) from None


def check_labels(cases: Iterable[Case], routes: Sequence[Route]) -> None:
    """Every label and field of the cases has to stand in one of the routes. Raises ConfigError naming what does not."""
    known = {(label, field) for route in routes for label, spec in route.labels.items() for field in ("", *spec.fields)}
    names = sorted({label for label, _ in known})
    problems = []
    for case in cases:
        file = str(case.path.with_name(case.name + ENDING))
        if (case.label, "") not in known:
            hint = f"write one of: {', '.join(names)}"
            problems.append(Problem(file, None, "label", f"no route has {case.label!r}", hint))
            continue
        for field in (*case.fields, *case.may):
            if (case.label, field) not in known:
                fields = ", ".join(sorted(name for label, name in known if label == case.label and name))
                problem = f"label {case.label} has no field {field!r}"
                problems.append(Problem(file, None, field, problem, f"write one of: {fields or '(it has none)'}"))
    if problems:
        raise ConfigError(problems)
