"""Sums that a label's fields have to keep, as a route declares them: `checks = ["net + tax = total"]`.

A check is two sides with `=`, `<=` or `>=` between them; a side is terms with ` + ` or ` - ` between them; a term is
names of fields and plain numbers with `*` between them. Nothing else can be said, so nothing else can be run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

LONGEST = 200
"""Characters of one check."""
NUMERIC = frozenset({"decimal", "integer"})
"""Types of fields that can be reckoned with."""

_RELATION = re.compile(r"\s*(<=|>=|=)\s*")
_PLUS = re.compile(r"\s+([+-])\s+")  # with spaces: `due-date` is one name
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")

Factor = str | Decimal
"""A field's name, or a number."""


@dataclass(frozen=True)
class Term:
    """Factors to multiply; `sign` is 1 or -1."""

    sign: int
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class Check:
    """One declared sum; `relation` is `=`, `<=` or `>=`."""

    text: str
    left: tuple[Term, ...]
    relation: str
    right: tuple[Term, ...]

    def names(self) -> tuple[str, ...]:
        """The fields that it speaks of, each once."""
        factors = (factor for term in (*self.left, *self.right) for factor in term.factors)
        return tuple(dict.fromkeys(factor for factor in factors if isinstance(factor, str)))


def parse(text: str) -> Check:
    """Read one check. Raises ValueError with what is wrong and what to write."""
    if len(text) > LONGEST:
        raise ValueError(f"a check has at most {LONGEST} characters; write several")
    sides = _RELATION.split(text.strip())
    if len(sides) != 3:
        raise ValueError(f'{text!r} is no check: it needs one = (or <=, >=); write it like "net + tax = total"')
    return Check(text, _side(sides[0], text), sides[1], _side(sides[2], text))


def _side(written: str, text: str) -> tuple[Term, ...]:
    first, *rest = _PLUS.split(written)
    signed = [("+", first), *zip(rest[::2], rest[1::2], strict=True)]
    return tuple(
        Term(-1 if sign == "-" else 1, tuple(_factor(one.strip(), text) for one in term.split("*")))
        for sign, term in signed
    )


def _factor(written: str, text: str) -> Factor:
    if _NUMBER.fullmatch(written):
        return Decimal(written)
    if _NAME.fullmatch(written):
        return written
    raise ValueError(
        f"{text!r} is no check: {written or 'nothing'!r} is neither a field's name nor a number; join them with + and - "
        'between spaces, or *: "net + tax = total"'
    )


def problem(text: str, types: Mapping[str, str]) -> str:
    """What keeps `text` from being a check of fields with these types, with what to write instead; else empty."""
    try:
        names = parse(text).names()
    except ValueError as error:
        return str(error)
    if unknown := [name for name in names if name not in types]:
        known = ", ".join(name for name, kind in types.items() if kind in NUMERIC) or "none"
        return f"{text!r} names the field {unknown[0]!r}, which the label does not have; fields with numbers: {known}"
    if others := [name for name in names if types[name] not in NUMERIC]:
        return f"{text!r} reckons with {others[0]}, a {types[others[0]]}; only decimal and integer fields are numbers"
    return "" if names else f"{text!r} names no field"
