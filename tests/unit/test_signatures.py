"""Who sent a webhook: published vectors, and everything that must not pass."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from config.inbound import WebhookSource
from tasks.signatures import SCHEMES, BadSignature, Presented, Verifier, sign_standard

NOW = 1_614_265_330
BODY = b'{"test": 2432232314}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret, 32 bytes long...").decode()
SEED = base64.b64decode("VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")
PRIVATE = "whsk_" + base64.b64encode(SEED).decode()
PUBLIC = "whpk_" + base64.b64encode(
    Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
).decode()  # fmt: skip

SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
    b".803a0bc887a14d10d2c447fce8b6703c"
)


def source(scheme: str, *secrets: str, **more: object) -> WebhookSource:
    return WebhookSource.model_validate({"scheme": scheme, "secrets": secrets, **more})


def check(config: WebhookSource, headers: dict[str, str], body: bytes, now: float = NOW, **more: bool) -> None:
    Verifier(config).check(Presented(headers, body, now, **more))


PUBLISHED = {
    "Standard Webhooks v1, the specification's libraries": (
        source("standard", SECRET),
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        BODY,
        1_614_265_330,
    ),
    "Standard Webhooks v1a, the specification's Go library": (
        source("standard", PUBLIC),
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5"
            "WqyeFiL8Ag==",
        },
        BODY,
        1_614_265_330,
    ),
    "GitHub, Validating webhook deliveries": (
        source("github", "It's a Secret to Everybody"),
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        b"Hello, World!",
        NOW,
    ),
    "Slack, Verifying requests": (
        source("slack", "8f742231b10e8888abcd99yyyzzz85a5"),
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        SLACK_BODY,
        1_531_420_618,
    ),
    "GitLab signs as Standard Webhooks does": (
        source("gitlab", SECRET),
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        BODY,
        1_614_265_330,
    ),
    "GitLab's older token": (
        source("gitlab", "a long shared secret"),
        {"x-gitlab-token": "a long shared secret"},
        BODY,
        NOW,
    ),
    "Shopify; it publishes none, SQLPage's documentation of hmac() does": (
        source("shopify", "test-webhook-secret"),
        {"x-shopify-hmac-sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="},
        b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}',
        NOW,
    ),
    "Stripe; it publishes none, so its words: HMAC-SHA-256 of time, dot, body, in hex, beside an older v0": (
        source("stripe", "whsec_test_secret"),
        {
            "stripe-signature": f"t={NOW},v1="
            + hmac.digest(b"whsec_test_secret", f"{NOW}.".encode() + BODY, "sha256").hex()
            + f",v0={'6ffbb59b' * 8}"
        },
        BODY,
        NOW,
    ),
    "RFC 7617 section 2, Basic": (
        source("basic", "Aladdin:open sesame"),
        {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
        b"",
        NOW,
    ),
    "RFC 6750 section 2.1, Bearer": (
        source("bearer", "mF_9.B5f-4.1JqM"),
        {"authorization": "Bearer mF_9.B5f-4.1JqM"},
        b"",
        NOW,
    ),
    "RFC 4231 test case 2, HMAC-SHA-256": (
        source("hmac", "Jefe", hmac={"header": "X-Mac"}),
        {"x-mac": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        b"what do ya want for nothing?",
        NOW,
    ),
    "RFC 4231 test case 2, HMAC-SHA-512 in base64": (
        source("hmac", "Jefe", hmac={"header": "X-Mac", "algorithm": "sha512", "encoding": "base64"}),
        {
            "x-mac": base64.b64encode(
                bytes.fromhex(
                    "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
                )
            ).decode()
        },
        b"what do ya want for nothing?",
        NOW,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vectors_pass(name: str) -> None:
    """What a scheme's author published as right is taken as right."""
    config, headers, body, now = PUBLISHED[name]
    check(config, headers, body, now)


SOURCES = {
    "standard": source("standard", SECRET),
    "standard v1a": source("standard", PUBLIC),
    "github": source("github", "a long shared secret"),
    "gitlab token": source("gitlab", "a long shared secret"),
    "gitlab signed": source("gitlab", SECRET),
    "stripe": source("stripe", "whsec_test_secret"),
    "slack": source("slack", "8f742231b10e8888abcd99yyyzzz85a5"),
    "shopify": source("shopify", "hush"),
    "hmac": source(
        "hmac",
        "a long shared secret",
        hmac={
            "header": "X-Sig",
            "algorithm": "sha512",
            "encoding": "base64",
            "prefix": "sig:",
            "signed": "{timestamp}|{id}|{body}",
            "timestamp_header": "X-Time",
            "id_header": "X-Id",
        },
    ),
    "bearer": source("bearer", "a long shared secret"),
    "basic": source("basic", "shop:a long shared secret"),
    "mtls": source("mtls", "CN=shop,O=Example", proxies=["127.0.0.1"], mtls={"verified_header": "X-Verified"}),
}
BOUND_TO_BODY = [name for name in SOURCES if name not in {"gitlab token", "bearer", "basic", "mtls"}]
TIMED = ["standard", "standard v1a", "gitlab signed", "stripe", "slack", "hmac"]


def signed(name: str, body: bytes = BODY, now: int = NOW) -> dict[str, str]:
    """Headers as the scheme's sender would make them; v1a needs the private half for it."""
    if name == "standard v1a":
        return sign_standard(body, [PRIVATE], "msg_1", now)
    return Verifier(SOURCES[name]).sign(body, "msg_1", now)


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_sender_signs_passes(name: str) -> None:
    """A request signed by the scheme's rules is let in, at the edges of the tolerance too."""
    for now in (NOW, NOW + 300, NOW - 300):
        check(SOURCES[name], signed(name), BODY, now, from_proxy=True)


@pytest.mark.parametrize("name", BOUND_TO_BODY)
def test_a_tampered_body_is_refused(name: str) -> None:
    """One changed byte makes the signature wrong."""
    for body in (BODY + b" ", BODY[:-1], b"", BODY.replace(b"2", b"3", 1)):
        with pytest.raises(BadSignature):
            check(SOURCES[name], signed(name), body)


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("shift", [-301, 301, 86_400, -86_400])
def test_a_replay_is_refused(name: str, shift: int) -> None:
    """A request from long ago, or from the future, is refused although its signature fits."""
    with pytest.raises(BadSignature, match=r"too old|future"):
        check(SOURCES[name], signed(name), BODY, NOW + shift)


@pytest.mark.parametrize("name", TIMED)
def test_a_fresh_timestamp_does_not_help_an_old_signature(name: str) -> None:
    """The timestamp is signed: putting a new one on an old request does not pass."""
    headers = {key: value.replace(str(NOW), str(NOW + 9000)) for key, value in signed(name).items()}
    with pytest.raises(BadSignature, match="no signature fits"):
        check(SOURCES[name], headers, BODY, NOW + 9000)


@pytest.mark.parametrize("name", SOURCES)
def test_a_wrong_secret_is_refused(name: str) -> None:
    """Whoever signs with another secret is not let in."""
    wrong = {
        "standard": OTHER,
        "standard v1a": "whpk_" + base64.b64encode(bytes(31) + b"\x01").decode(),
        "gitlab signed": OTHER,
        "basic": "shop:another",
    }.get(name, "another shared secret")
    config = SOURCES[name]
    with pytest.raises(BadSignature):
        check(
            source(config.scheme, wrong, **config.model_dump(exclude={"scheme", "secrets"})),
            signed(name),
            BODY,
            from_proxy=True,
        )


@pytest.mark.parametrize("name", SOURCES)
def test_a_request_without_the_scheme_s_headers_is_refused(name: str) -> None:
    """Nothing sent proves nothing; each single header that is left out is missed."""
    with pytest.raises(BadSignature):
        check(SOURCES[name], {}, BODY, from_proxy=True)
    headers = signed(name)
    for missing in headers:
        with pytest.raises(BadSignature, match=f"header {missing} is missing"):
            check(SOURCES[name], {k: v for k, v in headers.items() if k != missing}, BODY, from_proxy=True)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "standard v1a"])
def test_secrets_rotate(name: str) -> None:
    """While old and new secret are listed, a sender that knows either one is let in."""
    config = SOURCES[name]
    new = {"standard": OTHER, "gitlab signed": OTHER, "basic": "shop:new"}.get(name, "the new shared secret")
    old = config.secrets[0].get_secret_value()
    both = source(config.scheme, new, old, **config.model_dump(exclude={"scheme", "secrets"}))
    only_new = source(config.scheme, new, **config.model_dump(exclude={"scheme", "secrets"}))
    for signer in (config, only_new):
        check(both, Verifier(signer).sign(BODY, "msg_1", NOW), BODY, from_proxy=True)


def test_a_sender_that_signs_with_two_secrets_is_let_in_by_either() -> None:
    """Standard Webhooks senders list a signature for each of their secrets; v1 and v1a may be mixed."""
    headers = sign_standard(BODY, [OTHER, PRIVATE, SECRET], "msg_1", NOW)
    assert [item.split(",")[0] for item in headers["webhook-signature"].split(" ")] == ["v1", "v1a", "v1"]
    for secret in (OTHER, PUBLIC, SECRET):
        check(source("standard", secret), headers, BODY)
    third = "whsec_" + base64.b64encode(b"a third secret that nobody used.").decode()
    with pytest.raises(BadSignature):
        check(source("standard", third), headers, BODY)


def test_a_public_key_never_serves_as_a_shared_secret() -> None:
    """Who only knows the public key cannot sign with it (algorithm confusion)."""
    forged = sign_standard(BODY, ["whsec_" + PUBLIC.removeprefix("whpk_")], "msg_1", NOW)
    with pytest.raises(BadSignature):
        check(source("standard", PUBLIC), forged, BODY)


def test_a_signed_body_cannot_be_split_anew() -> None:
    """Moving the old timestamp into the id, and the body's first number into the timestamp, does not pass."""
    body = f"{NOW + 5000}.payload".encode()
    headers = sign_standard(body, [SECRET], "msg_1", NOW)
    moved = {**headers, "webhook-id": f"msg_1.{NOW}", "webhook-timestamp": str(NOW + 5000)}
    with pytest.raises(BadSignature, match="could pass for a timestamp"):
        check(source("standard", SECRET), moved, b"payload", NOW + 5000)


def test_only_so_many_signatures_are_looked_at() -> None:
    """A header stuffed with signatures costs a bounded number of tries: the right one behind them is not reached."""
    good = sign_standard(BODY, [SECRET], "msg_1", NOW)
    wrong = sign_standard(BODY, [OTHER], "msg_1", NOW)["webhook-signature"]
    few = " ".join([wrong] * 15 + [good["webhook-signature"]])
    check(source("standard", SECRET), {**good, "webhook-signature": few}, BODY)
    many = " ".join([wrong] * 16 + [good["webhook-signature"]])
    with pytest.raises(BadSignature):
        check(source("standard", SECRET), {**good, "webhook-signature": many}, BODY)


def test_gitlab_takes_a_token_or_a_signature() -> None:
    """A GitLab source with both kinds of secret takes either proof, and never the signing secret as a token."""
    config = source("gitlab", "a long shared secret", SECRET)
    check(config, {"x-gitlab-token": "a long shared secret"}, BODY)
    check(config, sign_standard(BODY, [SECRET], "msg_1", NOW), BODY)
    with pytest.raises(BadSignature):
        check(config, {"x-gitlab-token": SECRET}, BODY)


def test_a_certificate_is_believed_from_the_proxy_only() -> None:
    """The header proves something only when the trusted proxy wrote it and says that it verified the certificate."""
    config = SOURCES["mtls"]
    headers = signed("mtls")
    check(config, headers, BODY, from_proxy=True)
    with pytest.raises(BadSignature, match="did not come through the proxy"):
        check(config, headers, BODY, from_proxy=False)
    with pytest.raises(BadSignature, match="did not verify"):
        check(config, {**headers, "x-verified": "FAILED"}, BODY, from_proxy=True)
    with pytest.raises(BadSignature, match="may not post"):
        check(config, {**headers, "client-cert": "CN=other"}, BODY, from_proxy=True)


def test_a_certificate_is_named_alike_however_it_is_written() -> None:
    """RFC 9440's header, nginx's escaped PEM and a fingerprint with colons all mean the same certificate."""
    der = b"0\x82 not really a certificate, but its bytes are all that counts"
    fingerprint = hashlib.sha256(der).hexdigest()
    config = source("mtls", fingerprint, proxies=["127.0.0.1"])
    encoded = base64.b64encode(der).decode()
    pem = f"-----BEGIN CERTIFICATE-----%0A{encoded.replace('+', '%2B')}%0A-----END CERTIFICATE-----%0A"
    colons = ":".join(fingerprint[i : i + 2].upper() for i in range(0, 64, 2))
    for told in (f":{encoded}:", pem, colons, fingerprint):
        check(config, {"client-cert": told}, BODY, from_proxy=True)
    for told in (f":{encoded[:-4]}:", pem.replace("CERT", "KEY", 1)[:40], colons[:-3], "::", "-----BEGIN"):
        with pytest.raises(BadSignature):
            check(config, {"client-cert": told}, BODY, from_proxy=True)


NAMES = sorted(
    {"webhook-id", "webhook-timestamp", "webhook-signature", "x-hub-signature-256", "x-gitlab-token", "authorization"}
    | {"stripe-signature", "x-slack-signature", "x-slack-request-timestamp", "x-shopify-hmac-sha256", "client-cert"}
    | {"x-sig", "x-time", "x-id", "x-verified"}
)
PIECES = st.sampled_from(
    ["v1,", "v1a,", "v1=", "t=", ",", " ", "=", "sha256=", "v0=", "Bearer ", "Basic ", ":", "%", str(NOW)]
)
VALUES = st.lists(st.one_of(PIECES, st.text(st.characters(max_codepoint=255), max_size=12)), max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.binary(max_size=40), st.sampled_from(sorted(SOURCES)))
def test_malformed_headers_are_refused_and_nothing_else(headers: dict[str, str], body: bytes, name: str) -> None:
    """Whatever the headers hold, the answer is a refusal and never another error."""
    with pytest.raises(BadSignature):
        check(SOURCES[name], headers, body, from_proxy=True)


@given(st.data())
def test_damaged_headers_of_a_right_request_never_crash(data: st.DataObject) -> None:
    """Cutting into the right headers makes them refused, or leaves them right when the damage means nothing."""
    name = data.draw(st.sampled_from(sorted(SOURCES)))
    headers = signed(name)
    victim = data.draw(st.sampled_from(sorted(headers)))
    value = headers[victim]
    start = data.draw(st.integers(0, len(value)))
    headers[victim] = value[:start] + data.draw(VALUES) + value[data.draw(st.integers(start, len(value))) :]
    with contextlib.suppress(BadSignature):
        check(SOURCES[name], headers, BODY, from_proxy=True)


def test_every_scheme_that_can_be_configured_has_its_row() -> None:
    """The settings' list of schemes and the table do not drift apart."""
    configured = WebhookSource.model_json_schema()["properties"]["scheme"]["enum"]
    assert sorted(configured) == sorted(SCHEMES)


def test_scheme_none_takes_everything_and_is_warned_about() -> None:
    """`none` is a choice that `postroom check` points at."""
    check(source("none"), {}, BODY)
    assert "whoever reaches the port" in source("none").warnings()[0]
