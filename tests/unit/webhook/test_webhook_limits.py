"""Rates and addresses of webhook senders."""

from __future__ import annotations

import ipaddress

import pytest

from config.inbound import WebhookSource
from daemon.listeners import webhook_limits
from daemon.listeners.webhook_limits import Bucket, is_in, peer_of, sender_of
from daemon.listeners.webhook_problems import Refused

PROXIES = WebhookSource.model_validate({"scheme": "none", "proxies": ["127.0.0.1", "10.0.0.0/8", "::1"]}).proxies
LOCAL = ipaddress.ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "192.0.2.1", "198.51.100.7"),  # the peer is no proxy: its claim is worth nothing
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "203.0.113.9, 192.0.2.1", "192.0.2.1"),  # what stands left is the client's claim
        ("127.0.0.1", "203.0.113.9, 192.0.2.1, 10.1.2.3", "192.0.2.1"),  # two proxies
        ("127.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),  # a v4 peer on a v6 socket
        ("127.0.0.1", "unknown", None),
        ("127.0.0.1", "10.0.0.1, , ", None),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_the_sender_is_the_last_address_that_no_proxy_of_ours_wrote(
    peer: str, forwarded: str, sender: str | None
) -> None:
    """X-Forwarded-For is believed from the right, as far as trusted proxies wrote it."""
    found = sender_of(peer_of((peer, 1)), forwarded, PROXIES)
    assert found == (ipaddress.ip_address(sender) if sender else None)


def test_an_unknown_address_is_in_no_network() -> None:
    """A Unix socket's peer or a broken entry is not let in by any allow-list."""
    assert peer_of(None) is None
    assert peer_of(("", 0)) is None
    assert not is_in(None, PROXIES)
    assert is_in(LOCAL, PROXIES)


def test_a_bucket_gives_its_quota_and_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten requests a second pass at once, the eleventh gets 429 with the wait; half a second later five more pass."""
    now = [1000.0]
    monkeypatch.setattr(webhook_limits.time, "monotonic", lambda: now[0])
    bucket = Bucket(10, 1.0)
    assert bucket.take() == {"RateLimit-Policy": '"default";q=10;w=1', "RateLimit": '"default";r=9;t=1'}
    for _ in range(9):
        bucket.take()
    with pytest.raises(Refused) as refused:
        bucket.take()
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "1"
    assert refused.value.headers["RateLimit"] == '"default";r=0;t=1'
    now[0] += 0.5
    for _ in range(5):
        bucket.take()
    with pytest.raises(Refused):
        bucket.check()
    now[0] += 3600
    assert bucket.take()["RateLimit"] == '"default";r=9;t=1'
