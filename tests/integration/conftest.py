"""What the integration tests share."""

from __future__ import annotations

import pytest

from tasks.transports import webhook


@pytest.fixture
def fresh_endpoints() -> None:
    """No test sees the connections and failures of another."""
    webhook.forget()
