"""What an admin is told about a webhook section that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import load

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def problem(tmp_path: Path, text: str) -> str:
    """The one line that a configuration with `text` is refused with."""
    file = tmp_path / "postroom.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    (found,) = caught.value.problems
    return str(found).removeprefix(f"{file}:")


def accepted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "postroom.toml"
    file.write_text(text)
    load(file)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('scheme = "standart"', "write 'standard', 'github'"),
        ("", "scheme 'standard' needs at least one entry in `secrets`"),
        ('secrets = ["hunter2"]', "a secret has no known prefix; write whsec_..."),
        ('secrets = ["whsec_c2hvcnQ="]', "holds 5 bytes; make one of 24 to 64 bytes"),
        ('secrets = ["whsec_???"]', "is not base64; copy it whole"),
        (f'secrets = ["{SECRET}", ""]', "an entry of `secrets` is empty; anybody could sign with it"),
        (
            'secrets = ["whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="]',
            "sender's private key; write its public half",
        ),
        ('secrets = ["whpk_AAAA"]', "an ed25519 public key has 32"),
        ('scheme = "gitlab"\nsecrets = ["whsec_c2hvcnQ="]', "holds 5 bytes"),
        ('scheme = "basic"\nsecrets = ["password"]', 'write secrets = ["user:password"]'),
        ('scheme = "mtls"\nsecrets = ["CN=shop"]', 'write proxies = ["127.0.0.1"]'),
        ('scheme = "none"\nkey = "headers:X"', "tells no place; write header:Name, json:$.path or body"),
        ('scheme = "none"\nkey = "header:X Y"', "cannot name a header"),
        ('scheme = "none"\nkey = "json:$.[["', "is no JSON path"),
        ('scheme = "none"\nallow = ["10.0.0.0/33"]', "not a valid IPv4 or IPv6 network"),
        ('scheme = "none"\ntolerance = 0', "greater than 0"),
        ('scheme = "none"\nrates = 5', "unknown key; did you mean `rate`?"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.signed = "{timestamp}"', "signed leaves out the body"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.signed = "{timestamp}.{body}"', "set timestamp_header"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.signed = "{id}.{body}"', "set id_header"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.signed = "{bodies}"', "use {body}, {id} and {timestamp} only"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.signed = "{body}}"', "use {body}, {id} and {timestamp} only"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.timestamp_header = "X-T"', "timestamp_header is not signed"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.algorithm = "md5"', "write 'sha256'"),
        ('scheme = "hmac"\nsecrets = ["s"]\nhmac.header = "X:Y"', "cannot name a header"),
        ('scheme = "none"\nfetch.hosts = ["https://files.example"]', "is no host; write files.example"),
        ('scheme = "none"\nfetch.hosts = [""]', "is no host"),
        ('scheme = "none"\nfetch.headers.X-Token = "hunter2"', 'sent to any host; write hosts = ["files.example"]'),
        ('scheme = "none"\nfetch.hosts = ["h"]\nfetch.headers.Host = "hunter2"', "is written by Postroom itself"),
        ('scheme = "none"\nfetch.hosts = ["h"]\nfetch.headers.X-A = "hunter2\\n"', "use plain ASCII on one line"),
        ('scheme = "none"\nfetch.hosts = ["h"]\nfetch.headers.X-A = "hunter2 "', "begins or ends with a blank"),
        ('scheme = "none"\nfetch.allow_private = true', 'every private address; write hosts = ["files.internal"]'),
        ('scheme = "none"\nfetch.max_files = 101', "less than or equal to 100"),
        ('scheme = "none"\nfetch.timout = 5', "unknown key; did you mean `timeout`?"),
    ],
)
def test_a_source_that_cannot_work_stops_the_start(tmp_path: Path, lines: str, said: str) -> None:
    """One line that says where and what to write instead, without any secret in it."""
    told = problem(tmp_path, f"[webhook.shop]\n{lines}\n")
    assert said in told
    assert told.split(":")[0].isdecimal()
    assert "webhook.shop" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "ftp://host/"', "write https://host/path"),
        ('url = "https://"', "write https://host/path"),
        ('url = "https://host:99999/"', "write https://host/path"),
        ('url = "https://a b/"', "write https://host/path"),
        ('url = "https://user:hunter2@host/"', 'write basic = "user:password"'),
        ("timeout = 5", "is missing"),
        ('url = "https://h/"\nsecrets = ["hunter2"]', "a secret has no known prefix"),
        (f'url = "https://h/"\nsecrets = ["{SECRET.replace("whsec_M", "whpk_")}"]', "whpk_"),
        ('url = "https://h/"\nheaders.Webhook-Id = "x"', "is written by Postroom itself"),
        ('url = "https://h/"\nheaders.Host = "x"', "is written by Postroom itself"),
        ('url = "https://h/"\nheaders.X-A = "a\\r\\nX-B: b"', "use plain ASCII on one line"),
        ('url = "https://h/"\nbearer = "a"\nbasic = "b:c"', "bearer and basic all write the Authorization header"),
        ('url = "https://h/"\nbearer = "hunter2 "', "bearer holds characters that HTTP forbids"),
        ('url = "https://h/"\nbearer = "hünter2"', "bearer holds characters that HTTP forbids"),
        ('url = "https://h/"\nheaders.X-A = " hunter2"', "begins or ends with a blank"),
        ('url = "https://h/"\nbasic = "hunter2"', 'write basic = "user:password"'),
        ('url = "https://h/"\nclient_key = "/k.pem"', "client_key needs client_cert"),
    ],
)
def test_an_endpoint_that_cannot_work_stops_the_start(tmp_path: Path, lines: str, said: str) -> None:
    """The same for the ways out."""
    told = problem(tmp_path, f"[endpoint.books]\n{lines}\n")
    assert said in told
    assert "endpoint.books" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "text",
    [
        f'[webhook.shop]\nsecrets = ["{SECRET}"]',
        '[webhook.shop]\nscheme = "none"\nallow = ["10.0.0.0/8", "2001:db8::/32"]\nkey = "json:$.a.b[0]"',
        '[webhook.shop]\nscheme = "hmac"\nsecrets = ["s"]\n[webhook.shop.hmac]\nheader = "X-Sig"\n'
        'signed = "{timestamp}.{body}"\ntimestamp_header = "X-Time"',
        f'[endpoint.books]\nurl = "https://h:8443/in?x=1"\nsecrets = ["{SECRET}"]\nheaders.X-Tenant = "north"',
        '[endpoint.books]\nurl = "http://[::1]:80/"\nallow_private = true',
    ],
)
def test_right_sections_are_taken(tmp_path: Path, text: str) -> None:
    """The forms that docs/webhooks.md shows are accepted."""
    accepted(tmp_path, text)
