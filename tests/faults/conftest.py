"""What stands in this folder is a fault test, with a number of the table or without: `make faults` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that have no number."""
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.fault)
