"""Does the arithmetic hold that a label declares (config/sums.py)? Decimals are exact: nothing is rounded on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, localcontext

from config.sums import Check, Term, parse
from tasks.models import Field

_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])


def broken(checks: Iterable[str], fields: Iterable[Field]) -> list[str]:
    """One sentence for each of `checks` that does not hold, with the numbers.

    One unit in the last place is allowed, for a document rounds each of its lines: 0.01 where an amount has cents. A
    check with a field that was not found in the text is left out: that it is missing is told elsewhere.
    """
    values = {field.name: Decimal(field.value) for field in fields if field.supported and _is_number(field.value)}
    sentences = (_sentence(parse(text), values) for text in checks)
    return [sentence for sentence in sentences if sentence]


def _is_number(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except DecimalException:
        return False


def _sentence(check: Check, values: Mapping[str, Decimal]) -> str:
    if not all(name in values for name in check.names()):
        return ""
    unit = min((_unit(values[name]) for name in check.names()), default=Decimal(1))
    try:
        with localcontext(_EXACT):
            left, right = _sum(check.left, values), _sum(check.right, values)
            apart = left - right
    except DecimalException:
        return f"{check.text} cannot be reckoned: {_numbers(check, values)}"
    holds = {"=": abs(apart) <= unit, "<=": apart <= unit, ">=": apart >= -unit}[check.relation]
    return "" if holds else f"{check.text} does not hold: {left:f} against {right:f} ({_numbers(check, values)})"


def _unit(value: Decimal) -> Decimal:
    """One unit in the last place that is written: 0.01 for 12.50, 1 for 12."""
    exponent = value.as_tuple().exponent
    return Decimal(1).scaleb(min(0, exponent if isinstance(exponent, int) else 0))


def _sum(terms: Iterable[Term], values: Mapping[str, Decimal]) -> Decimal:
    total = Decimal(0)
    for term in terms:
        product = Decimal(term.sign)
        for factor in term.factors:
            product *= values[factor] if isinstance(factor, str) else factor
        total += product
    return total


def _numbers(check: Check, values: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in check.names())
