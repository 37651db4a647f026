"""Where the demo's answers end."""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from daemon.demo.scene import SceneError, build, standard_secret
from daemon.demo.sinks import HookSink, MailSink, sign, verify

REPLY = b"Subject: Re: Gr\xc3\xbc\xc3\x9fe\r\nIn-Reply-To: <a@b.example>\r\n\r\nThank you.\r\n"


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[HookSink]:
    """A running webhook sink."""
    sink = HookSink(tmp_path / "hooks", standard_secret())
    sink.start()
    yield sink
    sink.stop()


def test_mail_sink_keeps_the_bytes(tmp_path: Path) -> None:
    """A mail that is sent becomes a file with its bytes, and its envelope and thread are known."""
    sink = MailSink(tmp_path / "outbox")
    sink.start()
    try:
        with smtplib.SMTP("127.0.0.1", sink.port, timeout=10) as client:
            client.sendmail("us@x.example", ["you@y.example"], REPLY)
    finally:
        sink.stop()
    (kept,) = sink.mails
    assert kept.path.read_bytes() == REPLY
    assert kept.recipients == ("you@y.example",)
    assert kept.in_reply_to == "<a@b.example>"


def _post(sink: HookSink, body: bytes, signature: str, stamp: str, ident: str = "job-1") -> int:
    headers = {"webhook-id": ident, "webhook-timestamp": stamp, "webhook-signature": signature}
    return httpx.post(sink.url, content=body, headers=headers, trust_env=False).status_code


def test_hook_sink_accepts_a_right_signature(hooks: HookSink) -> None:
    """One right signature among several is enough; the body is kept as JSON."""
    stamp = str(int(time.time()))
    good = sign(hooks.secret, "job-1", stamp, b'{"job": 1}')
    assert _post(hooks, b'{"job": 1}', f"v1,AAAA {good}", stamp) == 204
    assert hooks.hooks[0].verified
    assert json.loads(hooks.hooks[0].path.read_text())["body"] == {"job": 1}


@pytest.mark.parametrize("wrong", ["body", "id", "stamp", "signature", "old"])
def test_hook_sink_refuses_a_wrong_signature(hooks: HookSink, wrong: str) -> None:
    """Whatever was changed after signing, and a stamp of an hour ago, is answered 401 and kept as not verified."""
    stamp = str(int(time.time()) - (3600 if wrong == "old" else 0))
    signature = sign(hooks.secret, "job-1", stamp, b"{}")
    sent = (
        b"{ }" if wrong == "body" else b"{}",
        "v1,é==" if wrong == "signature" else signature,
        str(int(stamp) + 1) if wrong == "stamp" else stamp,
        "job-2" if wrong == "id" else "job-1",
    )
    if wrong == "signature":  # httpx sends no such header; what came in may hold anything
        headers = {"webhook-id": sent[3], "webhook-timestamp": sent[2], "webhook-signature": sent[1]}
        assert not verify(hooks.secret, headers, sent[0], time.time())
    else:
        assert _post(hooks, *sent) == 401
        assert not hooks.hooks[0].verified


def test_standard_webhooks_vector() -> None:
    """The signature of the specification's own example."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == signature


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """The demo empties no folder that it did not make."""
    (tmp_path / "thesis.txt").write_text("my only copy")
    with pytest.raises(SceneError, match="holds files that no demo made"):
        build(tmp_path, ())
    assert (tmp_path / "thesis.txt").read_text() == "my only copy"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    """While one demo runs in a folder, another is refused; later it may start there, and finds it empty."""
    state = tmp_path / "state"
    scene = build(state, ())
    with pytest.raises(SceneError, match="another demo runs"):
        build(state, ())
    (scene.outbox.folder / "01.eml").write_text("old")
    scene.close()
    again = build(state, ())
    again.close()
    assert not list(again.outbox.folder.iterdir())
