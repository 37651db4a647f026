"""Handing mail to a smarthost: real sockets, aiosmtpd as a well-behaved server, scripts as an ill-behaved one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from config.settings import Settings
from tasks.errors import Permanent, Transient, Unavailable
from tasks.models import Delivery
from tasks.transports.smtp import send
from tests.integration.dovecot import USER, running
from tests.integration.test_smtp_in import certificate
from tests.ports import free_port

BODY = b"From: us@y.test\r\nTo: a@x.test\r\nSubject: Re: hello\r\n\r\nDear Ann\r\n.hidden\r\n..\r\n"


class Sink:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], bytes, list[str]]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content, envelope.mail_options))
        return "250 2.0.0 queued as 4F2"


@contextmanager
def sink(**options: Any) -> Iterator[tuple[Sink, int]]:
    """An aiosmtpd server on a free port, or on `port`."""
    handler = Sink()
    port = options.pop("port", 0) or free_port()
    protocol = options.pop("protocol", SMTP)

    class Host(Controller):
        def factory(self) -> SMTP:
            return protocol(handler, hostname="sink.test", enable_SMTPUTF8=True, **options)

    host = Host(handler, hostname="127.0.0.1", port=port, ready_timeout=60)
    host.start()
    try:
        yield handler, port
    finally:
        host.stop()


Script = list[tuple[bytes, bytes | None]]
"""(what the client's line starts with, the answer); None as an answer closes, an empty one stays silent."""

GREETED: Script = [(b"EHLO", b"250 scripted.test")]
TAKEN: Script = [*GREETED, (b"MAIL", b"250 OK"), (b"RCPT", b"250 OK"), (b"DATA", b"354 go on")]


@contextmanager
def scripted(
    script: Script, greeting: bytes | None = b"220 scripted.test", pause: float = 0
) -> Iterator[tuple[int, list[bytes]]]:
    """A server that follows a script for one connection, for what no real server does on demand.

    It waits `pause` seconds before its answer to the final dot.
    """
    heard: list[bytes] = []
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            return  # nobody came
        with connection, connection.makefile("rb") as lines:
            if greeting is None:
                return
            connection.sendall(greeting + b"\r\n" if greeting else b"")
            for expected, answer in script:
                while not (line := lines.readline()).upper().startswith(expected.upper()):
                    if not line:
                        return
                    heard.append(line)
                heard.append(line)
                if answer is None:
                    return
                done.wait(pause if expected == b".\r\n" else 0)
                connection.sendall(answer + b"\r\n" if answer else b"")
            done.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], heard
        finally:
            done.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def settings(port: int, **options: Any) -> Settings:
    given = {"host": "127.0.0.1", "port": port, "connect_timeout": 2, "command_timeout": 2, "data_timeout": 2}
    return Settings(smtp_out={**given, **options})


def delivery(body: bytes = BODY, target: str = "a@x.test") -> Delivery:
    return Delivery(ordinal=0, transport="smtp", target=target, key="<1@y.test>", body=body)


def test_exact_bytes_from_the_null_sender() -> None:
    """The bytes arrive as stored, dots and all, from <> (RFC 3834 section 3.3), and the answer is the outcome."""
    with sink() as (handler, port):
        outcome = send(delivery(), settings(port))
    assert (outcome.code, outcome.detail) == (250, "250 2.0.0 queued as 4F2")
    sender, recipients, content, options = handler.got[0]
    assert content == BODY
    assert sender in ("", "<>")
    assert recipients == ["a@x.test"]
    assert options == [f"SIZE={len(BODY)}"]


def test_envelope_sender() -> None:
    """A configured envelope sender is where bounces go."""
    with sink() as (handler, port):
        send(delivery(), settings(port, envelope_sender="bounces@y.test"))
    assert handler.got[0][0] == "bounces@y.test"


def test_missing_last_line_end() -> None:
    """A body without a last CRLF gets one, since the final dot needs a line of its own."""
    with sink() as (handler, port):
        send(delivery(b"Subject: x\r\n\r\nhello"), settings(port))
    assert handler.got[0][2] == b"Subject: x\r\n\r\nhello\r\n"


def test_8bit_and_utf8_are_declared() -> None:
    """8-bit bytes and addresses in UTF-8 are announced to a server that knows them (RFC 6152, RFC 6531)."""
    body = "Subject: x\r\nTo: jürgen@x.test\r\n\r\nGrüße\r\n".encode()
    with sink() as (handler, port):
        send(delivery(body, "jürgen@x.test"), settings(port))
    _, recipients, content, options = handler.got[0]
    assert (recipients, content) == (["jürgen@x.test"], body)
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(options)


@pytest.mark.parametrize(
    ("body", "target", "words"),
    [
        ("Subject: x\r\n\r\nGrüße\r\n".encode(), "a@x.test", "offers no 8BITMIME"),
        (BODY, "jürgen@x.test", "offers no SMTPUTF8"),
        (b"Subject: x\r\n\r\na\nb\r\n", "a@x.test", "bare CR or LF"),
        (BODY, "a@x.test>\r\nRCPT TO:<b@x.test", "no single mail address"),
        (BODY, "a@x.test, b@x.test", "no single mail address"),
        (BODY, "nobody", "no single mail address"),
    ],
)
def test_what_cannot_be_sent_is_permanent(body: bytes, target: str, words: str) -> None:
    """A message that this server cannot carry is not tried again, and nothing of it is sent."""
    with scripted([*GREETED, (b"MAIL", b"250 OK")]) as (port, heard), pytest.raises(Permanent, match=words):
        send(delivery(body, target), settings(port))
    assert not [line for line in heard if line.upper().startswith(b"MAIL")]


def test_too_large_for_the_server() -> None:
    """A server's announced limit is told before a byte is sent (RFC 1870)."""
    with (
        sink(data_size_limit=50) as (handler, port),
        pytest.raises(Permanent, match=f"has {len(BODY)} bytes, the server takes 50"),
    ):
        send(delivery(), settings(port))
    assert handler.got == []


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"451 4.7.1 greylisted, come back", Transient),
        (b"452-4.2.2 the box\r\n452 4.2.2 is full", Transient),
        (b"550 5.1.1 no such user", Permanent),
        (b"554 5.7.1 spam", Permanent),
        (b"299 what is this", Transient),
    ],
)
@pytest.mark.fault(number=28)
def test_replies(step: str, answer: bytes, error: type[Exception]) -> None:
    """4yz is transient and 5yz permanent at each step, and the reason carries the server's code and words."""
    script: Script = []
    for command, usual in [*TAKEN, (b".\r\n", b"250 OK")]:
        is_it = command.startswith(step.encode()) or (step == "dot" and command == b".\r\n")
        script.append((command, answer if is_it else usual))
        if is_it:
            break
    with scripted(script) as (port, _), pytest.raises(error) as told:
        send(delivery(), settings(port))
    assert type(told.value) is error
    code, words = answer[:3].decode(), answer.split(b"\r\n")[0][4:].decode()
    assert code in str(told.value)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("script", "greeting", "words"),
    [
        ([], None, "closed the connection"),
        ([], b"", "did not answer in time"),
        ([], b"421 4.3.2 shutting down", "421 4.3.2 shutting down"),
        ([], b"554 no service here", "554 no service here"),
        ([(b"EHLO", None)], b"220 x", "closed the connection"),
        ([(b"EHLO", b"")], b"220 x", "did not answer in time"),
        ([(b"EHLO", b"500 no"), (b"HELO", b"500 no")], b"220 x", "500 no"),
        ([*GREETED, (b"MAIL", None)], b"220 x", "closed the connection"),
        ([*GREETED, (b"MAIL", b"530 5.7.0 authentication required")], b"220 x", "530 5.7.0 authentication required"),
        ([*GREETED, (b"MAIL", b"250 OK"), (b"RCPT", b"")], b"220 x", "did not answer in time"),
        ([*GREETED, (b"MAIL", b"250 OK"), (b"RCPT", b"421 4.3.2 bye")], b"220 x", "421 4.3.2 bye"),
        ([*GREETED, (b"MAIL", b"hello there")], b"220 x", "no SMTP reply"),
        ([*TAKEN[:-1], (b"DATA", None)], b"220 x", "closed the connection"),
    ],
)
def test_server_faults_cost_no_attempt(script: Script, greeting: bytes | None, words: str) -> None:
    """Whatever goes wrong up to DATA is the server's outage, not this mail's failure."""
    with scripted(script, greeting) as (port, _), pytest.raises(Unavailable, match=words) as told:
        send(delivery(), settings(port))
    assert told.value.dependency == f"smtp:127.0.0.1:{port}"


def test_nobody_listens() -> None:
    """A refused connection and an unknown name are outages."""
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}, connecting: Connection refused"):
        send(delivery(), settings(port))
    with pytest.raises(Unavailable, match=r"smarthost\.invalid:25, connecting: "):
        send(delivery(), settings(25, host="smarthost.invalid"))


@pytest.mark.parametrize("answer", [None, b""])
def test_lost_after_the_final_dot_is_in_doubt(answer: bytes | None) -> None:
    """When the answer to the final dot never comes, the mail may have been taken: it is tried again, said as such."""
    with scripted([*TAKEN, (b".\r\n", answer)]) as (port, heard), pytest.raises(Transient, match="in doubt") as told:
        send(delivery(), settings(port))
    assert type(told.value) is Transient
    assert b"".join(heard).endswith(b"..hidden\r\n...\r\n.\r\n")


def test_lost_within_the_message_is_not_in_doubt() -> None:
    """Without the final dot nothing was accepted, and the reason says so."""
    body = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + (b"z" * 998 + b"\r\n") * 20_000
    with scripted([*TAKEN, (b"y", None)]) as (port, _), pytest.raises(Transient, match="nothing was accepted") as told:
        send(delivery(body), settings(port))
    assert "in doubt" not in str(told.value)


def test_waits_longer_after_the_final_dot() -> None:
    """The answer to the final dot has a clock of its own, since a short one makes doubles."""
    late = [*TAKEN, (b".\r\n", b"")]
    with scripted(late) as (port, _), pytest.raises(Transient, match="did not answer in time"):
        send(delivery(), settings(port, connect_timeout=60, command_timeout=60, data_timeout=0.3))
    slow: Script = [*TAKEN, (b".\r\n", b"250 2.0.0 OK"), (b"QUIT", b"221 bye")]
    with scripted(slow, pause=2) as (port, _):
        assert send(delivery(), settings(port, connect_timeout=60, command_timeout=1.5, data_timeout=60)).code == 250


@pytest.fixture
def encrypted(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    chain, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    return chain, context


def knows(login: bytes, password: bytes) -> Callable[..., AuthResult]:
    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (login, password), handled=False)

    return check


def test_starttls_and_login(encrypted: tuple[Path, ssl.SSLContext]) -> None:
    """With STARTTLS the certificate and its name are verified; then comes the login."""
    chain, context = encrypted
    options = {"host": "localhost", "security": "starttls", "user": "us", "password": "secret"}
    host: dict[str, Any] = {"tls_context": context, "require_starttls": True, "auth_required": True}
    with sink(**host, authenticator=knows(b"us", b"secret")) as (handler, port):
        send(delivery(), settings(port, **options, ca_file=chain))
        assert handler.got[0][2] == BODY
        with pytest.raises(Unavailable, match=r"STARTTLS: .*certificate verify failed"):
            send(delivery(), settings(port, **options))
        with pytest.raises(Unavailable, match=r"STARTTLS: .*IP address mismatch"):
            send(delivery(), settings(port, **{**options, "host": "127.0.0.1"}, ca_file=chain))
        with pytest.raises(Unavailable, match="login: the server answered 535") as told:
            send(delivery(), settings(port, **{**options, "password": "wrong"}, ca_file=chain))
        assert "wrong" not in str(told.value)
        assert len(handler.got) == 1


def test_starttls_is_not_dropped() -> None:
    """A server that offers no STARTTLS gets no mail in clear when STARTTLS is asked for."""
    with sink() as (handler, port), pytest.raises(Unavailable, match="offers no STARTTLS; check port and security"):
        send(delivery(), settings(port, host="localhost", security="starttls"))
    assert handler.got == []


def test_login_not_offered() -> None:
    """A login that the server does not know is told as a set-up fault."""
    with sink() as (_, port), pytest.raises(Unavailable, match=r"login: .*AUTH"):
        send(delivery(), settings(port, user="us", password="secret"))


def test_tls_from_the_start(encrypted: tuple[Path, ssl.SSLContext]) -> None:
    """With `tls` the connection is encrypted from its first byte."""
    chain, context = encrypted
    arrived: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        plain, _ = listening.accept()
        with context.wrap_socket(plain, server_side=True) as connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 x\r\n")
            for _command, answer in [*TAKEN, (b"body", b"250 2.0.0 OK"), (b"QUIT", b"221 bye")]:
                arrived.append(lines.readline())
                while answer.startswith(b"250 2") and arrived[-1] != b".\r\n":
                    arrived.append(lines.readline())
                connection.sendall(answer + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        outcome = send(delivery(), settings(port, host="localhost", security="tls", ca_file=chain))
        thread.join(60)
    assert outcome.code == 250
    assert b"Dear Ann\r\n" in arrived


def test_password_is_not_sent_in_clear() -> None:
    """A login without encryption to another machine stops the start."""
    with pytest.raises(ValueError, match="send the password of 'us' in clear"):
        settings(25, host="mail.x.test", user="us")


def test_dovecot_takes_it_by_lmtp() -> None:
    """A real delivery agent takes the reply by LMTP and stores the same bytes under its own trace fields."""
    with running() as server:
        outcome = send(delivery(target=USER), settings(server.lmtp, protocol="lmtp", connect_timeout=10))
        assert outcome.detail.startswith("250 2.0.0 ")
        with server.mailbox() as box:
            status, answer = box.client.fetch("1", "(BODY.PEEK[])")
        assert status == "OK"
        assert isinstance(answer[0], tuple)
        assert answer[0][1].endswith(BODY)
        with pytest.raises(Permanent, match=r"RCPT TO was answered 550 5\.1\.1"):
            send(delivery(target="nobody@example.test"), settings(server.lmtp, protocol="lmtp"))
