"""One file from a URL in a message, over real sockets: what is fetched, and what each way of misleading us comes to."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from config.fetching import FetchPolicy
from tasks import egress
from tasks.download import Download, download, host_of
from tasks.errors import Permanent, PostroomError, Transient, Unavailable
from tests.integration.webhook_parts import Answer, Seen, Sink, replies, sink
from tests.ports import free_port

HERE = {"hosts": ("127.0.0.1:*",), "allow_private": True}
SIGNED = "?X-Signature=s3cr3t"


def get(receiver: Sink, most: int = 1000, **policy: Any) -> Download:
    return download(receiver.url, FetchPolicy.model_validate({**HERE, **policy}), most)


def refused(url: str, **policy: Any) -> str:
    """Why `url` is refused for good."""
    with pytest.raises(Permanent) as caught:
        download(url, FetchPolicy.model_validate(policy), 1000)
    return caught.value.reason


def test_a_file_is_fetched_with_its_claimed_type() -> None:
    """One GET, with the query, without a fragment, and nothing that tells more of us than our name."""
    with sink(replies("200 OK", "Content-Type: application/pdf", body=b"%PDF-1.7")) as receiver:
        got = download(f"{receiver.url}{SIGNED}#page=2", FetchPolicy.model_validate(HERE), 1000)
    assert got == Download(b"%PDF-1.7", "application/pdf")
    (seen,) = receiver.seen
    assert seen.line == f"GET /in{SIGNED} HTTP/1.1"
    assert seen.headers["user-agent"].startswith("Postroom")
    assert seen.headers["accept-encoding"] == "identity"
    assert set(seen.headers) == {"host", "user-agent", "accept", "accept-encoding"}


def test_headers_go_to_the_named_hosts_only() -> None:
    """A token is sent where an admin said so; another host is not even connected to."""
    with sink(replies("200 OK")) as ours, sink(replies("200 OK")) as other:
        policy = FetchPolicy.model_validate(
            {"hosts": [ours.url.split("/")[2]], "allow_private": True, "headers": {"Authorization": "Bearer t0ken"}}
        )
        download(ours.url, policy, 1000)
        with pytest.raises(Permanent, match="not among the `hosts`"):
            download(other.url, policy, 1000)
        assert ours.seen[0].headers["authorization"] == "Bearer t0ken"
        assert other.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """Not to the metadata service, nor anywhere else (fault 24)."""
    with sink(replies("200 OK")) as inner:
        for there in ("http://169.254.169.254/latest/meta-data/", inner.url):
            with (
                sink(replies(f"{status} Found", f"Location: {there}")) as receiver,
                pytest.raises(Permanent, match=f"HTTP {status}: redirects are not followed"),
            ):
                get(receiver)
        assert inner.connections == 0


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410, 451])
def test_most_refusals_stay(status: int) -> None:
    """Only 200 brings a whole file; the server's words are nobody's business."""
    with sink(replies(f"{status} No", body=b"" if status == 204 else b"internal")) as receiver:
        assert refused(receiver.url, **HERE) == f"127.0.0.1: HTTP {status}"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_some_refusals_pass(status: int) -> None:
    """They are tried again, after the wait that the server asks for."""
    with sink(replies(f"{status} Later", "Retry-After: 7")) as receiver, pytest.raises(Transient) as caught:
        get(receiver)
    assert not isinstance(caught.value, Unavailable)
    assert (caught.value.reason, caught.value.retry_after) == (f"127.0.0.1: HTTP {status}", 7)


def test_private_addresses_are_refused() -> None:
    """Whatever they are called; the reason does not tell which address a name has."""
    with sink(replies("200 OK")) as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        for host in ("127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]"):
            said = refused(f"http://{host}:{port}/in{SIGNED}", hosts=["*:*"])
            assert said.endswith(": its address is not public")
            assert "s3cr3t" not in said
        assert receiver.connections == 0
    assert refused("http://169.254.169.254/latest/", **HERE | {"hosts": ("*",)}).endswith("its address is not public")


def test_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name that leads inside, alone or beside a public address."""
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.1.2.3")]
    monkeypatch.setattr(egress.socket, "getaddrinfo", lambda *_, **__: inside)
    assert refused("http://files.example/a") == "files.example: its address is not public"


def test_a_name_that_turns_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the connection goes to the address that was checked, by its number (fault 25)."""
    asked: list[str] = []
    turns = iter(["93.184.216.34", "127.0.0.1"])

    def lie(host: str, port: int, *_: Any, **__: Any) -> Any:
        asked.append(host)
        if host == "rebind.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(turns), port))]
        raise ConnectionRefusedError(host)

    monkeypatch.setattr(egress.socket, "getaddrinfo", lie)
    with sink(replies("200 OK")) as receiver:
        url = receiver.url.replace("127.0.0.1", "rebind.example")
        policy = FetchPolicy(hosts=("rebind.example:*",))
        with pytest.raises(Unavailable):
            download(url, policy, 1000)
        with pytest.raises(Permanent, match="not public"):
            download(url, policy, 1000)
        assert (asked, receiver.connections) == (["rebind.example", "93.184.216.34", "rebind.example"], 0)


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard sees the real address."""
    with sink(replies("200 OK")) as receiver, sink(replies("200 OK")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        get(receiver)
        assert (len(receiver.seen), proxy.connections) == (1, 0)


def endless(connection: socket.socket, _: Seen) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")


def drip(head: bytes) -> Answer:
    """Send `head`, then a byte every 50 ms."""

    def answer(connection: socket.socket, _: Seen) -> None:
        connection.sendall(head)
        while True:
            time.sleep(0.05)
            connection.sendall(b"z")

    return answer


def test_an_endless_body_is_cut_at_the_cap() -> None:
    """No more than the cap and one read is ever held (fault 26)."""
    with sink(endless) as receiver, pytest.raises(Permanent, match="larger than 100000 bytes"):
        get(receiver, most=100_000)


def test_a_body_that_says_its_size_is_refused_unread() -> None:
    """Its length is believed only to refuse it."""
    with sink(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")) as receiver:
        assert refused(receiver.url, **HERE) == "127.0.0.1: it is larger than 1000 bytes"
    with sink(replies("200 OK", body=b"x" * 1000)) as receiver:
        assert len(get(receiver).data) == 1000


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["body", "header", "body without an end"],
)
def test_a_dripping_answer_ends_at_the_deadline(head: bytes) -> None:
    """One byte at a time passes every read time-out; the whole exchange has its time (fault 26)."""
    begin = time.monotonic()
    with sink(drip(head)) as receiver, pytest.raises(Transient, match="no answer in time"):
        get(receiver, timeout=0.7)
    assert time.monotonic() - begin < 10


def test_a_body_that_breaks_off_is_no_file() -> None:
    """Half a PDF is not taken for a whole one."""

    def half(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    with sink(half) as receiver, pytest.raises(Transient, match="the connection broke"):
        get(receiver)


def test_an_outage_is_waited_out_only_for_named_hosts() -> None:
    """A sender's made-up host must not keep a job alive for ever."""
    port = free_port()
    with pytest.raises(Unavailable) as caught:
        download(f"http://127.0.0.1:{port}/", FetchPolicy.model_validate(HERE), 1000)
    assert caught.value.dependency == "fetch:127.0.0.1"
    with pytest.raises(Transient) as other:
        download("http://no.such.name.invalid/", FetchPolicy(), 1000)
    assert not isinstance(other.value, Unavailable)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://files.example/a", "no http:// or https:// address"),
        ("file:///etc/passwd", "no http:// or https:// address"),
        ("//files.example/a", "no http:// or https:// address"),
        ("http:///a", "no http:// or https:// address"),
        ("files.example/a", "no http:// or https:// address"),
        ("http://user:s3cr3t@files.example/a", "files.example: its URL holds a user or password"),
        ("http://files.example@127.0.0.1/", "127.0.0.1: its URL holds a user or password"),
        ("http://files.example:8080/a", "files.example: the host with port 8080 is not among the `hosts`"),
        ("http://files.example:22/a", "with port 22 is not among"),
        ("http://files.example:99999/", "cannot be understood"),
        ("http://files.example\r\nX: y/", "cannot be understood"),
        ("http://[::1/", "cannot be understood"),
        ("http://\udc00/", "cannot be understood"),
        ("http://files.example/" + "a" * 9000, "longer than 8192 characters"),
    ],
)
def test_urls_that_nobody_should_fetch(url: str, said: str) -> None:
    """Refused before any name is looked up; the reason holds neither path nor password."""
    reason = refused(url)
    assert said in reason
    assert "s3cr3t" not in reason
    assert "/a" not in reason


@given(st.text(max_size=80) | st.from_regex(r"https?://[^/]{0,30}(:\d{0,6})?(/.{0,20})?", fullmatch=True))
def test_any_text_is_a_url_or_refused(url: str) -> None:
    """What a sender writes ends in a host or in a reason, nothing else."""
    with contextlib.suppress(Permanent):
        assert host_of(url, FetchPolicy(hosts=("*", "*:*")))


@pytest.mark.parametrize(
    ("pattern", "url", "taken"),
    [
        ("files.example", "https://files.example/x", True),
        ("Files.Example", "https://FILES.example./x", True),
        ("files.example", "https://files.example:443/x", True),
        ("files.example", "https://files.example:8443/x", False),
        ("files.example:8443", "https://files.example:8443/x", True),
        ("files.example:8443", "https://files.example/x", False),
        ("*.files.example", "https://a.files.example/x", True),
        ("*.files.example", "https://files.example/x", False),
        ("*.files.example", "https://files.example.evil.example/x", False),
        ("files.*", "https://files.example:8443/x", False),
        ("bücher.example", "https://xn--bcher-kva.example/x", True),
        ("xn--bcher-kva.example", "https://bücher.example/x", True),
    ],
)
def test_hosts_are_matched_by_name_and_port(pattern: str, url: str, taken: bool) -> None:
    """Shell patterns over the whole host; another port than the usual one has to be named."""
    policy = FetchPolicy(hosts=(pattern,))
    if taken:
        assert host_of(url, policy)
    else:
        with pytest.raises(Permanent, match="not among the `hosts`"):
            host_of(url, policy)


def test_headers_are_not_sent_in_the_clear() -> None:
    """A sender could write http:// to have a token read on the way."""
    policy: dict[str, Any] = {"hosts": ["files.example"], "headers": {"Authorization": "Bearer t0ken"}}
    assert "only https is fetched" in refused("http://files.example/x", **policy)


def test_no_log_line_and_no_reason_holds_the_query() -> None:
    """A signed link is a key to the file."""
    answers: list[Answer] = [replies("404 No"), replies("302 Found", "Location: /x"), replies("503 Later"), endless]
    with capture_logs() as lines:
        for answer in answers:
            with sink(answer) as receiver, pytest.raises(PostroomError) as caught:
                download(f"{receiver.url}{SIGNED}", FetchPolicy.model_validate(HERE), 1000)
            assert "s3cr3t" not in caught.value.reason
            assert "/in" not in caught.value.reason
    assert "s3cr3t" not in str(lines)


def test_a_ca_file_that_cannot_be_used_is_tried_again() -> None:
    """A person mends it, and no document is given up for it."""
    with pytest.raises(Transient, match="ca_file /nowhere"):
        download("https://127.0.0.1/", FetchPolicy.model_validate({"hosts": ["127.0.0.1"], "ca_file": "/nowhere"}), 10)
