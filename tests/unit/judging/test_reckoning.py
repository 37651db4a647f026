"""config/sums.py and tasks/judging/reckoning.py: declared sums, what they may say, and when they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.routes import load_routes
from config.settings import TEMPLATES
from config.sums import parse, problem
from tasks.judging.reckoning import broken
from tasks.models import Field

TYPES = {"net": "decimal", "tax": "decimal", "total": "decimal", "pieces": "integer", "due-date": "date"}


def fields(**values: str) -> list[Field]:
    return [Field(name=name.replace("_", "-"), value=value, supported=True) for name, value in values.items()]


@pytest.mark.parametrize(
    ("check", "values"),
    [
        ("net + tax = total", {"net": "100.00", "tax": "19.00", "total": "119.00"}),
        ("net + tax = total", {"net": "100.84", "tax": "19.16", "total": "120"}),
        ("net + tax = total", {"net": "33.33", "tax": "6.33", "total": "39.67"}),  # rounded lines: a cent is allowed
        ("total - tax = net", {"net": "-100.00", "tax": "-19.00", "total": "-119.00"}),
        ("net * 0.19 = tax", {"net": "100.05", "tax": "19.01"}),
        ("pieces * net = total", {"pieces": "3", "net": "33.34", "total": "100.02"}),
        ("net <= total", {"net": "100.00", "total": "119.00"}),
        ("total >= net + tax", {"net": "100.00", "tax": "19.00", "total": "119.00"}),
        ("net + tax = total", {"net": "0.10", "tax": "0.20", "total": "0.30"}),  # in binary floats 0.30000000000000004
        ("net + tax = total", {"net": "9" * 24 + ".01", "tax": "0.01", "total": "9" * 24 + ".02"}),
    ],
)
def test_sums_that_hold(check: str, values: dict[str, str]) -> None:
    """Exact decimals, one unit in the last place allowed."""
    assert broken([check], fields(**values)) == []


@pytest.mark.parametrize(
    ("check", "values", "told"),
    [
        (
            "net + tax = total",
            {"net": "100.00", "tax": "19.00", "total": "120.00"},
            "net + tax = total does not hold: 119.00 against 120.00 (net 100.00, tax 19.00, total 120.00)",
        ),
        (
            "net + tax = total",
            {"net": "100.00", "tax": "19.00", "total": "119.02"},
            "net + tax = total does not hold: 119.00 against 119.02 (net 100.00, tax 19.00, total 119.02)",
        ),
        ("net <= total", {"net": "100.00", "total": "90.00"}, "net <= total does not hold: 100.00 against 90.00 "
         "(net 100.00, total 90.00)"),
    ],
)  # fmt: skip
def test_sums_that_do_not_hold_are_told_with_their_numbers(check: str, values: dict[str, str], told: str) -> None:
    """The sentence names the fields, so that a reviewer knows where to look."""
    assert broken([check], fields(**values)) == [told]


def test_a_sum_with_a_missing_part_is_left_out() -> None:
    """What was not found in the text cannot be reckoned with, and is told as missing already."""
    unsupported = Field(name="tax", value="19.00")
    assert broken(["net + tax = total"], [*fields(net="1", total="7"), unsupported]) == []


def test_numbers_beyond_all_measure_do_not_stop_the_job() -> None:
    """Values that cannot be multiplied exactly make a sentence, not a traceback."""
    assert "cannot be reckoned" in broken(["net * net = total"], fields(net="9" * 50, total="1"))[0]


@pytest.mark.parametrize(
    "text",
    ["net + tax", "net = tax = total", "", "net + = total", "net / 2 = tax", "__import__('os') = net", "(net) = tax",
     "net ** 2 = tax", "1e9 = net", "net = " + "9" * 300],
)  # fmt: skip
def test_what_is_no_sum_is_refused_with_how_to_write_it(text: str) -> None:
    """Nothing but names, numbers, + - * and a relation is understood."""
    with pytest.raises(ValueError, match="check"):
        parse(text)


def test_a_hyphen_within_a_name_is_no_minus() -> None:
    """Minus stands between spaces."""
    assert parse("a-b - c = d").names() == ("a-b", "c", "d")


def test_fields_that_are_none_or_no_numbers_are_told() -> None:
    """At start, with the names that would do."""
    assert problem("net + tax = total", TYPES) == ""
    assert "names the field 'vat'" in problem("net + vat = total", TYPES)
    assert "fields with numbers: net, tax, total, pieces" in problem("net + vat = total", TYPES)
    assert "due-date, a date" in problem("net = due-date", TYPES)
    assert "names no field" in problem("1 = 1", TYPES)


def test_a_route_with_a_wrong_check_does_not_load(tmp_path: Path) -> None:
    """The error names file and line."""
    route = tmp_path / "10-bills.toml"
    route.write_text(
        '[labels.bill]\nsays = "A bill to pay."\nchecks = ["net + vat = total"]\n'
        '[labels.bill.fields]\nnet = { type = "decimal", description = "net" }\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_routes(tmp_path, TEMPLATES, frozenset())
    [found] = [one for one in caught.value.problems if "vat" in str(one)]
    assert found.file == str(route)
    assert "names the field 'vat'" in found.what
