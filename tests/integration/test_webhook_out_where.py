"""Webhooks out: which address is connected to, whatever redirects, names and the environment say, and TLS to it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import egress
from tasks.errors import Permanent, Transient, Unavailable
from tasks.transports import webhook
from tests.integration.webhook_out_parts import BODY, delivery, post, settings_for
from tests.integration.webhook_parts import replies, sink

pytestmark = pytest.mark.usefixtures("fresh_endpoints")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.fault(number=24)
def test_a_redirect_is_not_followed(status: int) -> None:
    """Neither to a metadata address nor to an honest one: the address is the configuration's business (fault 24)."""
    with sink(replies("200 OK")) as elsewhere:
        for location in ("http://169.254.169.254/latest/meta-data/", elsewhere.url):
            answer = replies(f"{status} Moved", f"Location: {location}")
            with sink(answer) as receiver, pytest.raises(Permanent, match="redirects are not followed"):
                post(receiver)
            assert len(receiver.seen) == 1
        assert elsewhere.connections == 0


def test_private_addresses_are_refused_unless_allowed() -> None:
    """Without allow_private nothing is connected, and the reason says what to set."""
    with sink(replies("200 OK")) as receiver:
        for host in ("127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"):
            url = receiver.url.replace("127.0.0.1", host)
            with pytest.raises(Permanent, match=r"is not public; set allow_private in \[endpoint\.books\]"):
                webhook.send(delivery(), settings_for(url, allow_private=False))
        assert receiver.connections == 0


@pytest.mark.fault(number=25)
def test_a_name_that_turns_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: each new connection goes where the check looked, and nowhere else (fault 25)."""
    real = socket.getaddrinfo
    turns = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[str] = []

    def lie(host: str, port: int, *more: Any, **options: Any) -> Any:
        if host == "rebind.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(turns), port))]
        connected.append(host)
        raise (
            ConnectionRefusedError(host)
            if host == "93.184.216.34"
            else AssertionError(real(host, port, *more, **options))
        )

    monkeypatch.setattr(egress.socket, "getaddrinfo", lie)
    with sink(replies("200 OK")) as receiver:
        settings = settings_for(receiver.url.replace("127.0.0.1", "rebind.example"), allow_private=False)
        with pytest.raises(Unavailable):
            webhook.send(delivery(), settings)
        with pytest.raises(Permanent, match="not public"):
            webhook.send(delivery(), settings)
        assert (connected, receiver.connections) == (["93.184.216.34"], 0)


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment cannot turn our requests over to somebody else, and the guard keeps seeing the real address."""
    with sink(replies("200 OK")) as receiver, sink(replies("200 OK")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        post(receiver)
        assert (len(receiver.seen), proxy.connections) == (1, 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hook.test and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hook.test"
    command += f" -addext subjectAltName=DNS:hook.test -keyout {folder / 'key.pem'} -out {folder / 'cert.pem'}"
    subprocess.run(command.split(), check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[str]]]:
    """An HTTPS receiver that asks for a client certificate, known as hook.test and other.test; port and SNI names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    names: list[str] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as stream:
                    read = b""
                    while BODY not in read:
                        read += stream.recv(65_536)
                    shown = dict(part for rdn in (stream.getpeercert() or {}).get("subject", ()) for part in rdn)  # type: ignore[union-attr]
                    names.append(f"client {shown.get('commonName', 'nobody')}")
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    real = socket.getaddrinfo
    monkeypatch.setattr(
        egress.socket,
        "getaddrinfo",
        lambda host, *more, **options: real("127.0.0.1" if host.endswith(".test") else host, *more, **options),
    )
    yield listener.getsockname()[1], names
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_tls_uses_the_name_though_it_connects_to_the_address(secure: tuple[int, list[str]], certificate: Path) -> None:
    """SNI and the certificate check use the URL's host name; another name's is refused; ours is shown when set."""
    port, names = secure
    good = settings_for(f"https://hook.test:{port}/", ca_file=str(certificate))
    assert webhook.send(delivery(), good).code == 200
    assert names == ["hook.test", "client nobody"]
    names.clear()
    showing = settings_for(f"https://hook.test:{port}/", ca_file=str(certificate), client_cert=str(certificate))
    assert webhook.send(delivery(), showing).code == 200
    assert names == ["hook.test", "client hook.test"]
    with pytest.raises(Transient, match=r"TLS failed.*Hostname mismatch"):
        webhook.send(delivery(), settings_for(f"https://other.test:{port}/", ca_file=str(certificate)))
    with pytest.raises(Transient, match=r"TLS failed.*self-signed"):
        webhook.send(delivery(), settings_for(f"https://hook.test:{port}/"))


def test_a_certificate_file_that_cannot_be_used_is_told() -> None:
    """A wrong path or content is a permanent failure that names the endpoint."""
    with pytest.raises(Permanent, match=r"certificate file of \[endpoint\.books\]"):
        webhook.send(delivery(), settings_for("https://hook.example/", ca_file="/no/such/file.pem"))
