"""The text of an event."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import Permanent
from tasks.events.paths import event_of
from tasks.events.text import as_json, by_template, put_in


def filled(tmp_path: Path, template: str, event: Any) -> str:
    (tmp_path / "t.txt.j2").write_text(template)
    return by_template(tmp_path, "t", event)


def test_a_template_says_what_the_event_holds(tmp_path: Path) -> None:
    """Members, loops and conditions; numbers as they were written."""
    event = event_of("", b'{"order": {"id": 12, "total": 120.00}, "paid": true, "note": null}')
    said = filled(
        tmp_path, "Order {{ event.order.id }}: {{ event.order.total }} paid={{ event.paid }}{{ event.note }}", event
    )
    assert said == "Order 12: 120.00 paid=true"


def test_items_are_the_members_of_that_name(tmp_path: Path) -> None:
    """`items`, `keys` and `values` are everyday names in events and no methods of Python here."""
    event = {"items": [{"sku": "T1", "values": [1, 2]}], "keys": "k", "get": "g"}
    template = (
        "{% for item in event.items %}{{ item.sku }} {{ item['values'] }}{% endfor %} {{ event.keys }}{{ event.get }}"
    )
    assert filled(tmp_path, template, event).split() == ["T1", "[", "1,", "2", "]", "kg"]


def test_an_object_is_printed_as_json(tmp_path: Path) -> None:
    """Nobody wants Python's quotes in a text for a model."""
    event = {"customer": {"name": "Zoë", "vip": False, "credit": Decimal("1.50"), "x": None}}
    assert json.loads(filled(tmp_path, "{{ event.customer }}", event)) == {
        "name": "Zoë",
        "vip": False,
        "credit": 1.5,
        "x": None,
    }
    assert '"credit": 1.50' in filled(tmp_path, "{{ event.customer|tojson }}", event)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a\n{{ event.order.total }}", "templates/event/t.txt.j2:2: the event has no member 'total'"),
        ("{{ event['total'] }}", "the event has no member 'total'"),
        ("{% for x in event.items %}{{ x }}{% endfor %}", "the event has no member 'items'"),
        ("{{ event.order.id + 1 }}", "templates/event/t.txt.j2:1: "),
        ("{{ event.order.id|nosuchfilter }}", "No filter named 'nosuchfilter'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ event.__class__ }}", "the event has no member '__class__'"),
        ("{{ event.order.id.__class__.__mro__ }}", "templates/event/t.txt.j2:1: "),
    ],
)
def test_what_a_template_cannot_have_ends_the_job(tmp_path: Path, template: str, said: str) -> None:
    """The reason names the member, the template and the line."""
    with pytest.raises(Permanent) as raised:
        filled(tmp_path, template, {"order": {"id": "7"}})
    assert said in raised.value.reason
    assert raised.value.reason.endswith("mend it, then retry the job")


def test_a_template_that_is_gone_is_said(tmp_path: Path) -> None:
    """It was there when the process started."""
    with pytest.raises(Permanent, match="is missing"):
        by_template(tmp_path, "t", {})


def test_an_event_is_no_template(tmp_path: Path) -> None:
    """What a sender writes is printed, never run."""
    assert filled(tmp_path, "{{ event.a }}", {"a": "{{ 7 * 7 }}{% include 'x' %}"}) == "{{ 7 * 7 }}{% include 'x' %}"


def test_json_keeps_the_spelling_of_numbers() -> None:
    """As the general rendering does."""
    assert (
        as_json({"total": Decimal("120.00"), "tiny": Decimal("0.0000001")})
        == '{\n  "total": 120.00,\n  "tiny": 0.0000001\n}'
    )


def test_strings_are_replaced_where_they_stand_and_nowhere_else() -> None:
    """An equal text elsewhere stays."""
    event = json.loads('{"file": "same text", "other": "same text", "list": [{"f": "x y z"}]}')
    put_in(event, {id(event["file"]): "[file]", id(event["list"][0]["f"]): "[f]"})
    assert event == {"file": "[file]", "other": "same text", "list": [{"f": "[f]"}]}
    whole = "a text of its own"
    assert put_in(whole, {id(whole): "[file]"}) == "[file]"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.decimals(allow_nan=False, allow_infinity=False, places=2),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=15,
    )
)
def test_any_value_is_printed_as_json_that_reads_the_same(value: Any) -> None:
    """Whatever quotes and marks stand in its strings."""
    assert json.loads(as_json(value), parse_float=Decimal, parse_int=Decimal) == value
