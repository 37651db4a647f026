"""Every scheme over real HTTP: what its sender signs is taken, and everything else is 401, never an error of ours."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config.inbound import WebhookSource
from config.settings import Settings
from tasks.signatures import SCHEMES as CONFIGURABLE
from tasks.signatures import Verifier, sign_standard
from tests.integration.webhook_in_parts import SECRET, House, listening
from tests.unit.test_signatures import OTHER, PRIVATE, PUBLIC

PRIVATE_2 = "whsk_" + base64.b64encode(b"TESTSIGNINGKEYNUMBERTWO.........").decode()
PUBLIC_2 = "whpk_X0OQwi2LinmZyVWlWgaO+EyhHSeyeR66+YsXjCjZxEY="
"""Its public half, made once with the cryptography package."""
THIRD = {
    "standard": "whsec_" + base64.b64encode(b"a third secret that nobody used.").decode(),
    "basic": "shop:nobody's secret",
}
HMAC = {
    "header": "X-Sig",
    "prefix": "sig:",
    "signed": "{timestamp}|{id}|{body}",
    "timestamp_header": "X-Time",
    "id_header": "X-Id",
}
numbers = itertools.count(1)


@dataclass(frozen=True)
class Row:
    """A scheme with two secrets: the one that goes and the one that comes."""

    scheme: str
    old: str
    new: str
    listed: dict[str, str] = field(default_factory=dict)
    """What stands in the configuration for a secret, where it is another text."""
    options: dict[str, Any] = field(default_factory=dict)
    bound: bool = True
    """The body is signed."""
    timed: bool = True
    """The time is signed."""

    def source(self, *secrets: str) -> dict[str, Any]:
        return {"scheme": self.scheme, "secrets": [self.listed.get(one, one) for one in secrets], **self.options}

    def signed(self, secret: str, body: bytes, now: float | None = None) -> dict[str, str]:
        """The headers of the scheme's sender who knows `secret`."""
        key, stamp = f"msg_{next(numbers)}", int(time.time() if now is None else now)
        if secret.startswith(("whsec_", "whsk_")):
            return sign_standard(body, [secret], key, stamp)
        headers = Verifier(WebhookSource.model_validate(self.source(secret))).sign(body, key, stamp)
        return headers | {"github": {"x-github-delivery": key}, "shopify": {"x-shopify-webhook-id": key}}.get(
            self.scheme, {}
        )


LONG, LATER = "a long shared secret", "another long shared secret"
ROWS = {
    "standard": Row("standard", SECRET, OTHER),
    "standard-v1a": Row("standard", PRIVATE, PRIVATE_2, {PRIVATE: PUBLIC, PRIVATE_2: PUBLIC_2}),
    "github": Row("github", LONG, LATER, timed=False),
    "gitlab-token": Row("gitlab", LONG, LATER, bound=False, timed=False),
    "gitlab-signed": Row("gitlab", SECRET, OTHER),
    "stripe": Row("stripe", LONG, LATER),
    "slack": Row("slack", LONG, LATER),
    "shopify": Row("shopify", LONG, LATER, timed=False),
    "hmac": Row("hmac", LONG, LATER, options={"hmac": HMAC}),
    "bearer": Row("bearer", LONG, LATER, bound=False, timed=False),
    "basic": Row("basic", f"shop:{LONG}", f"shop:{LATER}", bound=False, timed=False),
    "mtls": Row("mtls", "CN=old", "CN=new", options={"proxies": ["127.0.0.1"]}, bound=False, timed=False),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Of each scheme a source while its secret is changed, and one (`NAME-after`) when the old one is gone."""
    sources = {name: row.source(row.new, row.old) for name, row in ROWS.items()}
    sources |= {f"{name}-after": row.source(row.new) for name, row in ROWS.items()}
    with listening(
        Settings(state_dir=tmp_path_factory.mktemp("house")), {**sources, "open": {"scheme": "none"}}
    ) as made:
        yield made


@dataclass
class Client:
    """Posts with headers as they are, whatever bytes they hold and however often they come."""

    connection: http.client.HTTPConnection

    def post(self, source: str, body: bytes, headers: list[tuple[str, bytes]]) -> tuple[int, dict[str, Any]]:
        self.connection.putrequest("POST", f"/hooks/{source}", skip_accept_encoding=True)
        for name, value in headers:
            self.connection.putheader(name, value)
        self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body)
        answer = self.connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
        if answer.status == 401:
            assert answer.headers["www-authenticate"]
            assert told["type"] == "urn:postroom:problem:bad-signature"
        return answer.status, told


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    host, port = house.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    yield Client(connection)
    connection.close()


def raw(headers: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(name, value.encode("latin-1")) for name, value in headers.items()]


def event() -> bytes:
    """A body of its own, with the keys that Stripe and Slack look for."""
    number = next(numbers)
    return json.dumps({"id": f"evt_{number}", "event_id": f"Ev{number}", "text": "total: 12"}).encode()


def test_no_scheme_is_left_out() -> None:
    """Whatever can be configured stands in the table of these tests."""
    assert {row.scheme for row in ROWS.values()} | {"none"} == set(CONFIGURABLE)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.fault(number=22)
def test_secrets_rotate(client: Client, name: str) -> None:
    """Old and new secret are taken while both are listed; the old one is refused when it is gone (fault 22)."""
    row, body = ROWS[name], event()
    for source, secret, status in (
        (name, row.old, 202),
        (name, row.new, 202),
        (f"{name}-after", row.new, 202),
        (f"{name}-after", row.old, 401),
    ):
        body = event()
        assert client.post(source, body, raw(row.signed(secret, body)))[0] == status, (source, secret)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.bound])
@pytest.mark.fault(number=22)
def test_a_tampered_body_is_refused(client: Client, house: House, name: str) -> None:
    """One changed byte, more of them or none at all: 401, and no job (fault 22)."""
    row, body, before = ROWS[name], event(), house.jobs()
    for other in (body.replace(b"12", b"13"), body + b" ", body[:-1], b""):
        assert client.post(name, other, raw(row.signed(row.new, body)))[0] == 401
    assert house.jobs() == before


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_secret_is_refused(client: Client, house: House, name: str) -> None:
    """Who signs with a secret that is not listed gets 401, and so does who signs nothing."""
    row, body, before = ROWS[name], event(), house.jobs()
    third = THIRD.get("standard" if row.new.startswith("wh") else row.scheme, "nobody's secret")
    assert client.post(name, body, raw(row.signed(third, body)))[0] == 401
    assert client.post(name, body, [])[0] == 401
    assert house.jobs() == before


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.timed])
@pytest.mark.parametrize(("seconds", "said"), [(-310, "too old"), (-86_400, "too old"), (310, "future")])
@pytest.mark.fault(number=22)
def test_a_replay_is_refused(client: Client, name: str, seconds: int, said: str) -> None:
    """What was rightly signed long ago, or by a clock that is far ahead, is 401 (fault 22)."""
    row, body = ROWS[name], event()
    status, told = client.post(name, body, raw(row.signed(row.new, body, time.time() + seconds)))
    assert status == 401
    assert said in told["detail"]


@pytest.mark.parametrize("name", ROWS)
def test_odd_headers_are_refused(client: Client, name: str) -> None:
    """Empty, beyond ASCII, cut, doubled, and very long values of each header that proves something: 401, or still right."""
    row = ROWS[name]
    body = event()
    right = raw(row.signed(row.new, body))
    for at, (header, value) in enumerate(right):
        if header in {"x-github-delivery", "x-shopify-webhook-id"}:
            continue  # keys, which prove nothing
        for odd in (b"", b" ", b"\xff\xfe", "ä€".encode(), value[:-1] + b"\xe4", value[: len(value) // 2], b"=" * 9000):
            assert client.post(name, body, [*right[:at], (header, odd), *right[at + 1 :]])[0] == 401, (header, odd)
        for other in (value, b"nonsense"):
            assert client.post(name, body, [*right, (header, other)])[0] in {202, 401}, (header, other)


ODD = st.binary(max_size=30).map(lambda odd: bytes(byte for byte in odd if byte not in b"\r\n\0"))


@pytest.mark.parametrize("name", [*ROWS, "open"])
@given(data=st.data())
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_headers_are_never_an_error(client: Client, name: str, data: st.DataObject) -> None:
    """Bytes put in, cut out or moved in the headers of a right request: 401; 400 or 422 for a key; 202 where it means nothing."""
    body = event()
    headers = raw(ROWS[name].signed(ROWS[name].new, body)) if name in ROWS else [("idempotency-key", b"k")]
    at = data.draw(st.integers(0, len(headers) - 1))
    header, value = headers[at]
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(value)), st.integers(0, len(value)))))
    damaged = value[:start] + data.draw(ODD) + value[end:]
    more = data.draw(st.sampled_from([[], [(header, damaged)], [(header, value)]]))
    status, _ = client.post(name, body, [*headers[:at], (header, damaged), *headers[at + 1 :], *more])
    assert status in {202, 400, 401, 422}
