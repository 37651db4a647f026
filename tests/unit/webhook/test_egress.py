"""Which addresses Postroom connects to."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import Any

import httpcore
import pytest

from tasks import egress

PRIVATE = [
    "127.0.0.1",
    "127.255.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
]
NEVER = [
    "0.0.0.0",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::7f00:1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001::1",
    "2001:db8::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    """Addresses of the Internet pass."""
    egress.check_address(ipaddress.ip_address(address), allow_private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_have_to_be_allowed(address: str) -> None:
    """Our own networks are refused unless the endpoint says otherwise."""
    with pytest.raises(egress.AddressRefused, match="is not public"):
        egress.check_address(ipaddress.ip_address(address), allow_private=False)
    egress.check_address(ipaddress.ip_address(address), allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_special_addresses_are_never_reached(address: str) -> None:
    """Link-local, metadata, translated, multicast and reserved addresses are refused even where private is allowed."""
    for allow_private in (False, True):
        with pytest.raises(egress.AddressRefused):
            egress.check_address(ipaddress.ip_address(address), allow_private=allow_private)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost", "[::1]".strip("[]")])
def test_other_ways_to_write_loopback_are_seen_through(host: str) -> None:
    """What counts is the address that the system would connect to, however the name is written."""
    with pytest.raises(egress.AddressRefused):
        egress.resolve(host, 80, allow_private=False)


def answers(*addresses: str) -> Any:
    """A resolver that knows these addresses; the only fake here, because no real name server can be asked to lie."""

    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        if host in addresses:
            return list(real(host, port, *more, **options))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


def test_one_bad_address_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is not an honest one."""
    monkeypatch.setattr(egress.socket, "getaddrinfo", answers("93.184.216.34", "10.0.0.1"))
    with pytest.raises(egress.AddressRefused, match=r"10\.0\.0\.1"):
        egress.resolve("two-faced.example", 443, allow_private=False)


def test_the_checked_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that turns private after the check (DNS rebinding) is not looked up again for the connection."""
    asked: list[str] = []
    connected: list[str] = []
    turns = iter([["93.184.216.34"], ["127.0.0.1"]])

    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(turns)]

    def connect(self: object, host: str, *_: object) -> httpcore.NetworkStream:
        connected.append(host)
        return httpcore.MockStream([])

    monkeypatch.setattr(egress.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    backend = egress.GuardedBackend(allow_private=False)
    backend.connect_tcp("rebind.example", 80)
    assert (asked, connected) == (["rebind.example"], ["93.184.216.34"])
    with pytest.raises(egress.AddressRefused):
        backend.connect_tcp("rebind.example", 80)
    assert connected == ["93.184.216.34"]


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """A name with several addresses is reachable as long as one of them is."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress.socket, "getaddrinfo", answers("127.0.0.2", "127.0.0.1"))
        stream = egress.GuardedBackend(allow_private=True).connect_tcp("two.example", listener.getsockname()[1], 1)
        stream.close()


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup counts against the whole exchange's time."""
    release = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        release.wait(60)
        return []

    monkeypatch.setattr(egress.socket, "getaddrinfo", getaddrinfo)
    started = time.monotonic()
    with egress.within(0.2), pytest.raises(egress.Deadline, match="looking up slow"):
        egress.resolve("slow.example", 80, allow_private=False)
    release.set()
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("host", ["no.such.name.invalid", "a" * 64 + ".example", "bad\u3002\u3002name"])
def test_names_that_do_not_exist_are_an_os_error(host: str) -> None:
    """Unknown and malformed names are told apart from refused addresses."""
    with pytest.raises(OSError):  # noqa: PT011  (which resolver error it is depends on the machine)
        egress.resolve(host, 80, allow_private=True)


def test_time_left_is_the_smaller_one() -> None:
    """A step may take its own time-out or what the whole exchange has left."""
    assert egress.left(5) == 5
    with egress.within(1):
        assert 0.9 < (egress.left(5) or 0) <= 1
        assert egress.left(0.5) == 0.5
    with egress.within(0), pytest.raises(egress.Deadline):
        egress.left(5)


def test_local_sockets_are_out_of_reach() -> None:
    """No configuration of ours leads to a Unix socket."""
    with pytest.raises(egress.AddressRefused):
        egress.GuardedBackend(allow_private=True).connect_unix_socket("/run/docker.sock")
