"""One delivery, one try: the transport's file by its name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from config.settings import Settings
from tasks.models import Delivery, Outcome

Send = Callable[[Delivery, Settings], Outcome]


def deliver(delivery: Delivery, settings: Settings) -> Outcome:
    """Hand `delivery` to its transport. Raises what the transport raises: Transient, Unavailable or Permanent."""
    module = importlib.import_module(f"tasks.transports.{delivery.transport}")
    return cast(Send, module.send)(delivery, settings)
