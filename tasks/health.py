"""When an endpoint has failed for too long: it is disabled, with one alert, and its deliveries end without a request."""

from __future__ import annotations

from config.settings import Settings
from tasks.alerts import alert
from tasks.clock import DAY_MS, iso, now_ms
from tasks.errors import TargetGone, Transient, Unavailable
from tasks.ledger import Endpoint, Ledger
from tasks.models import Delivery


def refusal(ledger: Ledger, delivery: Delivery) -> str:
    """Why `delivery` is not even tried: its endpoint is disabled. Empty when it may go."""
    if delivery.transport != "webhook":
        return ""
    endpoint = ledger.endpoints.get(delivery.target)
    return _closed(endpoint) if endpoint and endpoint.disabled_at else ""


def succeeded(ledger: Ledger, delivery: Delivery) -> None:
    """The other side took it."""
    if delivery.transport == "webhook":
        ledger.endpoints.succeeded(delivery.target, now_ms())


def failed(ledger: Ledger, settings: Settings, delivery: Delivery, error: Exception) -> None:
    """The other side did not take it. What it refuses as wrong, and what is our own fault, says nothing about it."""
    if delivery.transport != "webhook" or not isinstance(error, Transient | TargetGone):
        return
    if isinstance(error, Unavailable) and not error.asked:
        return
    now = now_ms()
    endpoint = ledger.endpoints.failed(delivery.target, error.reason, now)
    because = _enough(settings, endpoint, error, now)
    if because and endpoint.disabled_at is None:
        # the alert first: should we die in between, the next failure finds it written and disables
        _tell(ledger, settings, endpoint, because)
        ledger.endpoints.disable(endpoint.name, because, now)


def _enough(settings: Settings, endpoint: Endpoint, error: Transient | TargetGone, now: int) -> str:
    """Why the endpoint has to be disabled; empty when not."""
    if isinstance(error, TargetGone):
        return error.reason
    config = settings.endpoint.get(endpoint.name)
    days = config.disable_after_days if config else 0
    since = endpoint.failing_since
    if not days or since is None or now - since < days * DAY_MS:
        return ""
    return f"every attempt since {iso(since)} has failed, the last with: {error.reason}"


def _closed(endpoint: Endpoint) -> str:
    name = endpoint.name
    return (
        f"endpoint {name} is disabled since {iso(endpoint.disabled_at)} ({endpoint.disabled_because}); "
        f"`postroom endpoints enable {name}` lets it go on, then `postroom redeliver --endpoint {name}`"
    )


def _tell(ledger: Ledger, settings: Settings, endpoint: Endpoint, because: str) -> None:
    name, success = endpoint.name, iso(endpoint.last_success_at) or "never"
    text = (
        f"The webhook endpoint {name} is disabled: {because}.\n"
        f"Last success: {success}.\n\n"
        "What waits for it and what comes for it fails at once, without a request. Everything else goes on.\n\n"
        "When the receiver works again:\n\n"
        f"  postroom endpoints enable {name}\n"
        f"  postroom redeliver --endpoint {name} --since {iso(endpoint.failing_since)}\n"
    )
    key = f"endpoint:{name}:{endpoint.failing_since}"
    alert(ledger, settings, key, f"endpoint {name} is disabled", text, about_endpoint=name)
