"""A process as systemd sees it: sockets handed over, READY, STATUS, reload, restart."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config.settings import load
from daemon import checks
from tests.integration.unit import unit

CONFIG = """
broker_url = "redis://127.0.0.1:1/0"
routes_dir = "{routes}"

[webhook.first]
scheme = "bearer"
secrets = ["a secret that is long enough"]
"""
MORE = """
[webhook.second]
scheme = "bearer"
secrets = ["a secret that is long enough"]
"""
ROUTE = 'labels.other.says = "Anything."\n'
BEARER = {"Authorization": "Bearer a secret that is long enough"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose broker is down, with one route and one source of webhooks."""
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "50-post.toml").write_text(ROUTE)
    file = tmp_path / "postroom.toml"
    file.write_text(CONFIG.format(routes=tmp_path / "routes"))
    return file


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens whoever serves it, as that of a .socket unit."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock


def test_web_under_systemd(tmp_path: Path, config: Path, listening: socket.socket) -> None:
    """READY on the socket that was handed over, STATUS as `postroom check` says it; a good reload is taken over, a bad
    one refused with file and line; who comes during a restart is answered by the next process.
    """
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/hooks"
    with unit(tmp_path, config, "web", sock=listening, name="web") as web:
        assert web.wait_for("X_POSTROOM=").startswith(f"X_POSTROOM=web on {url[:-6]}")
        assert "READY=1" in web.lines
        assert web.wait_for("STATUS=broker") == f"STATUS={checks.broker(load(config)).sentence}"
        assert httpx.post(f"{url}/second", headers=BEARER, content=b"{}").status_code == 404
        good = config.read_text() + MORE
        config.write_text(good)
        web.hang_up()
        web.log_has('"event": "reloaded"')
        assert httpx.post(f"{url}/second", headers=BEARER, content=b"{}").status_code == 202
        config.write_text(good + "[imap.x]\nhots = 1\n")
        web.hang_up()
        refused = web.log_has("did you mean `host`?")
        assert '"event": "reload refused"' in refused
        assert f"{config}:{good.count(chr(10)) + 2}: imap.x.hots" in refused
        assert httpx.post(f"{url}/second", headers=BEARER, content=b'{"after": 1}').status_code == 202
        config.write_text(good)
        web.process.send_signal(signal.SIGTERM)
        web.wait_for("STOPPING=1")
        assert web.process.wait(30) == 0
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            httpx.post(f"{url}/first", headers=BEARER, content=b'{"meanwhile": 1}', timeout=60).status_code
        )
    )
    waiting.start()  # nobody serves the socket at this moment
    with unit(tmp_path, config, "web", sock=listening, name="web"):
        waiting.join(60)
    assert answers == [202]


def test_smtp_under_systemd(tmp_path: Path, config: Path, listening: socket.socket) -> None:
    """A socket called lmtp speaks LMTP, and a reload changes who is a recipient for the next connection."""
    with unit(tmp_path, config, "smtp", sock=listening, name="lmtp") as smtp:
        smtp.wait_for("READY=1")
        smtp.wait_for("WATCHDOG=1")

        def asked() -> str:
            with (
                socket.create_connection(listening.getsockname(), timeout=30) as client,
                client.makefile("rwb") as lines,
            ):
                lines.readline()
                lines.write(b"LHLO x.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nQUIT\r\n")
                lines.flush()
                return lines.read().decode().splitlines()[-2]

        assert asked().startswith("250")
        config.write_text(config.read_text() + '[smtp]\nrecipients = ["@z.test"]\nport = 1\n')
        smtp.hang_up()
        assert "smtp.port" in smtp.log_has('"event": "reloaded"')
        assert asked().startswith("550")


def test_rescue_begins_anew_after_a_reload(tmp_path: Path, config: Path) -> None:
    """The watchdog is fed by its looks, and a reload changes how often it looks."""
    with unit(tmp_path, config, "rescue") as rescue:
        assert rescue.wait_for("X_POSTROOM=").endswith("every 1 s")
        rescue.wait_for("WATCHDOG=1")
        config.write_text(config.read_text() + "[rescue]\ntick = 0.5\n")
        rescue.forget()
        rescue.hang_up()
        assert rescue.wait_for("X_POSTROOM=").endswith("every 0.5 s")
        rescue.wait_for("WATCHDOG=1")
