"""Who sent a mail, as far as that can be known."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator

import dkim
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from config.routes import Match, Route
from config.settings import Settings
from config.trust import TrustSettings
from daemon.checks import never_trusted
from tasks import authres, dkimcheck
from tasks.dkimcheck import DnsDown
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.mailhead import first
from tasks.models import Extracted, MailFacts, State, Trust
from tasks.routing import matches
from tasks.trust import Believing, aligned, holds
from tests.conftest import envelope
from tests.unit.samples import job

MAIL = b"From: Ann <ann@supplier.test>\r\nTo: in@post.test\r\nSubject: bill\r\nDate: x\r\n\r\nPlease pay.\r\n"
FACTS = MailFacts(from_address="Ann@Supplier.test", headers={"from": ("Ann <ann@supplier.test>",)})
KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
PRIVATE = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def signed(domain: str = "supplier.test", mail: bytes = MAIL, **options: object) -> bytes:
    """A mail with a real signature of ours on top."""
    return dkim.sign(mail, b"s1", domain.encode(), PRIVATE, linesep=b"\r\n", **options) + mail  # type: ignore[no-any-return]


def record(name: str, seconds: float) -> bytes | None:
    """A DNS in which every domain but missing.test has our key."""
    assert seconds > 0
    assert name.startswith("s1._domainkey.")
    return None if "missing" in name else b"v=DKIM1; k=rsa; p=" + PUBLIC


def about(
    raw: bytes = MAIL, told: str = "", facts: MailFacts = FACTS, lookup: dkimcheck.Lookup = record, **settings: object
) -> Trust:
    """What is known about a mail."""
    believing = Believing(TrustSettings(**settings), lambda address, _: address == "old@friend.test", lookup)  # type: ignore[arg-type]
    headers = {authres.HEADER: told} if told else {}
    return believing.about(job(headers=headers), raw, facts)


REAL = [
    (
        "mx.google.com; dkim=pass header.i=@supplier.test header.s=s1 header.b=Ab12; spf=pass (google.com: domain of "
        "ann@supplier.test designates 192.0.2.1 as permitted sender) smtp.mailfrom=ann@supplier.test; "
        "dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=supplier.test",
        ("mx.google.com", "pass", "pass", "pass", True),
    ),
    (
        "spf=fail (sender IP is 192.0.2.1) smtp.mailfrom=supplier.test; dkim=none (message not signed) header.d=none;"
        "dmarc=fail action=oreject header.from=supplier.test;compauth=fail reason=000",
        ("m365", "fail", "fail", "none", False),
    ),
    (
        "mx.y.test 1; dkim=fail header.d=supplier.test; dkim=pass header.d=esp.test; dmarc=none header.from=supplier.test",
        ("mx.y.test", "none", "", "pass", False),
    ),
    ("mx.y.test; none", ("mx.y.test", "", "", "", False)),
    ("dmarc=bestguesspass action=none header.from=supplier.test", ("m365", "bestguesspass", "", "", False)),
]


@pytest.mark.parametrize(("told", "expected"), REAL)
def test_what_servers_write_is_read(told: str, expected: tuple[object, ...]) -> None:
    """Google's, Microsoft's and Postfix milters' ways of writing the field are all understood."""
    found = about(told=told)
    assert (found.by, found.dmarc, found.spf, found.dkim, found.aligned) == expected


@pytest.mark.parametrize(
    "told",
    [
        'mx.y.test; spf=pass smtp.mailfrom="a; dmarc=pass header.from=x"@evil.test; dmarc=fail header.from=supplier.test',
        "mx.y.test; spf=pass (dmarc=pass; (dkim=pass header.d=supplier.test)) smtp.mailfrom=x; dmarc=fail",
        "mx.y.test; spf=pass smtp.mailfrom=(a@evil.test; dmarc=fail header.from=supplier.test",
        'mx.y.test; spf=pass smtp.mailfrom="a\\"; dmarc=pass"@evil.test; dmarc=fail',
        "mx.y.test; dmarc=pass; dmarc=fail",
        "mx.y.test; x-dmarc=pass; dmarc=fail",
    ],
)
def test_what_the_sender_wrote_is_no_result(told: str) -> None:
    """Quoted addresses and comments cannot smuggle a result in, an open bracket cannot hide one."""
    found = about(told=told)
    assert (found.dmarc, found.aligned) == ("fail", False)


@pytest.mark.parametrize(
    ("fields", "believed"),
    [
        (b"Authentication-Results: mx.y.test; dmarc=pass\r\n", True),
        (b"Authentication-Results: MX.Y.test 1; dmarc=pass\r\n", True),
        (b"Authentication-Results: evil.test; dmarc=pass\r\n", False),
        (b"Authentication-Results: dmarc=pass\r\n", False),
        (b"Authentication-Results: evil.test; x=y\r\nAuthentication-Results: mx.y.test; dmarc=pass\r\n", False),
        (b"X-Authentication-Results: mx.y.test; dmarc=pass\r\n", False),
    ],
)
def test_forged_fields_are_not_believed(fields: bytes, believed: bool) -> None:
    """Only the topmost field counts, and only when it carries the configured name (RFC 8601 section 5)."""
    assert bool(authres.trusted(fields + MAIL, "mx.y.test")) is believed
    assert authres.trusted(fields + MAIL, "") == {}


def test_two_senders_are_none() -> None:
    """With two From fields the server may have looked at the other one: nothing is believed."""
    facts = FACTS.model_copy(update={"headers": {"from": ("a", "b")}})
    assert about(signed(), REAL[0][0], facts, verify_dkim=True, allow=("*@*",)) == Trust()


def test_own_verification() -> None:
    """A signature of the domain in From holds, and one changed letter of the body breaks it."""
    found = about(signed(), verify_dkim=True)
    assert (found.verified, found.signed_by, found.aligned) == ("pass", ("supplier.test",), True)
    broken = about(signed().replace(b"Please pay.", b"Please pay!"), verify_dkim=True)
    assert (broken.verified, broken.signed_by, broken.aligned) == ("fail", (), False)
    assert about(signed()).verified == ""
    assert about(verify_dkim=True).verified == "none"


def test_somebody_elses_signature_proves_nothing_about_from() -> None:
    """A good signature of another domain is noted, and speaks for nobody."""
    found = about(signed("evil.test"), verify_dkim=True)
    assert (found.verified, found.signed_by, found.aligned) == ("pass", ("evil.test",), False)


@pytest.mark.parametrize(
    "raw",
    [
        signed("missing.test"),
        signed(length=True),
        signed().replace(b"a=rsa-sha256", b"a=rsa-sha1"),
        signed().replace(b"d=supplier.test", b"d=../supplier.test"),
        signed().replace(b"d=supplier.test", b"d="),
        b"DKIM-Signature: nonsense\r\n" + MAIL,
        b"DKIM-Signature: a=rsa-sha256; d=supplier.test; s=s1; b=!; bh=; h=\r\n" + MAIL,
        b"From: Ann <ann@supplier.test>\r\nDKIM-Signature: " + b"x" * 500_000 + b"\r\n\r\n",
    ],
)
def test_signatures_that_do_not_count(raw: bytes) -> None:
    """No key, a length, SHA-1, and nonsense are failures, not crashes."""
    assert about(raw, verify_dkim=True).verified == "fail"


def test_dns_that_is_down() -> None:
    """Without an answer nothing is known, and that is told apart from a forged signature."""

    def down(name: str, seconds: float) -> bytes | None:
        raise DnsDown(name)

    assert about(signed(), lookup=down, verify_dkim=True).verified == "temperror"


def test_only_some_signatures_are_looked_at() -> None:
    """A mail with a hundred signatures costs four questions."""
    asked: list[str] = []

    def count(name: str, seconds: float) -> bytes | None:
        asked.append(name)
        return None

    head = first(signed(), b"dkim-signature") or b""
    about(b"".join(b"DKIM-Signature: " + head + b"\r\n" for _ in range(100)) + MAIL, lookup=count, verify_dkim=True)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("signer", "domain", "relaxed"),
    [
        ("x.test", "x.test", True),
        ("x.test", "mail.x.test", True),
        ("mail.x.test", "x.test", True),
        ("mail.x.test", "news.x.test", True),
        ("x.co.uk", "news.x.co.uk", True),
        ("evilx.test", "x.test", False),
        ("x.test.evil.test", "x.test", False),
        ("co.uk", "x.co.uk", False),
        ("y.co.uk", "x.co.uk", False),
        ("github.io", "victim.github.io", False),
        ("evil.github.io", "victim.github.io", False),
        ("test", "x.test", False),
        ("test", "test", False),
        ("x..test", "x.test", False),
        ("", "x.test", False),
        ("", "", False),
    ],
)
def test_alignment(signer: str, domain: str, relaxed: bool) -> None:
    """Relaxed, the same organization speaks for From, parent, child or sibling; strict, only the very same domain."""
    assert aligned(signer, domain) is relaxed
    assert aligned(signer, domain, strict=True) is (signer == domain != "")


def test_strict_alignment_is_a_setting() -> None:
    """A signature of the organization's other domain counts, unless the admin wants the very same one."""
    raw = signed("mail.supplier.test")
    assert about(raw, verify_dkim=True).aligned
    assert not about(raw, verify_dkim=True, alignment="strict").aligned
    assert about(signed(), verify_dkim=True, alignment="strict").aligned


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("mx.y.test; dmarc=pass header.from=supplier.test", "pass"),
        ("mx.y.test; dmarc=pass (p=none) header.from=Supplier.TEST", "pass"),
        ("mx.y.test; dmarc=pass header.from=evil.test", "other-from"),
        ("mx.y.test; dmarc=pass", "other-from"),
        ("mx.y.test; dmarc=pass header.from=evil.test; dmarc=pass header.from=supplier.test", "other-from"),
        ("dmarc=pass action=none header.from=evil.test;compauth=pass reason=100", "other-from"),
        ("mx.y.test; dmarc=fail header.from=evil.test", "fail"),
    ],
)
def test_a_pass_counts_for_the_from_that_we_read(told: str, expected: str) -> None:
    """A server that looked at another author than we read, or does not say at which, vouches for nobody."""
    found = about(told=told)
    assert found.dmarc == expected
    assert holds("dmarc", found) is (expected == "pass")


def test_allow_list_and_friends() -> None:
    """The allow-list has patterns, without regard to case; whom we know is asked of the ledger."""
    assert about(allow=("*@SUPPLIER.test",)).allowed
    assert not about(allow=("bob@supplier.test",)).allowed
    assert about(facts=FACTS.model_copy(update={"from_address": "Old@friend.test"})).known
    assert not about().known


@pytest.mark.parametrize(
    ("wanted", "trust", "expected"),
    [
        ("dmarc", Trust(dmarc="pass"), True),
        ("dmarc", Trust(dmarc="bestguesspass", allowed=True), False),
        ("dkim", Trust(dkim="pass", signed_by=("esp.test",)), False),
        ("dkim", Trust(aligned=True), True),
        (["dmarc", "allowed"], Trust(dmarc="pass"), False),
        (["dmarc", "allowed"], Trust(dmarc="pass", allowed=True), True),
        ("known", Trust(known=True), True),
    ],
)
def test_routes_match_by_trust(wanted: object, trust: Trust, expected: bool) -> None:
    """Each word of match.trust has to hold, and no event or file has any."""
    match = Match(trust=wanted)  # type: ignore[arg-type]
    assert matches(match, job(), Extracted(mail=MailFacts(trust=trust)), b"") is expected
    assert not matches(match, job(), Extracted(), b"")


def test_unknown_word_stops_the_start() -> None:
    """A word that nobody knows would make a route that never matches."""
    with pytest.raises(ValidationError, match="dmarc"):
        Match(trust="dmark")  # type: ignore[arg-type]


def test_known_correspondents(intake: Intake, ledger: Ledger) -> None:
    """Somebody is known once an earlier job of theirs is done, whatever the case."""
    first_job = intake.accept(envelope("1", sender="Ann@Supplier.test"), b"one").job_id
    second = intake.accept(envelope("2", sender="ann@supplier.test"), b"two").job_id
    assert not ledger.jobs.known("ann@supplier.test", second)
    with ledger.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET state = '{State.DONE.value}' WHERE id = '{first_job}'")
    assert ledger.jobs.known("ANN@supplier.test", second)
    assert not ledger.jobs.known("ann@supplier.test", first_job)
    assert not ledger.jobs.known("bob@supplier.test", second)
    assert not ledger.jobs.known("", second)


@pytest.mark.sqlite_only  # PostgreSQL reads a table this small without an index
def test_known_correspondents_cost_no_search(ledger: Ledger) -> None:
    """They are found by an index, however large the archive is."""
    with ledger.database.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE state = 'done' AND sender <> '' AND lower(sender) = 'x'"
        ).all()
    assert "ix_jobs_known" in str(plan)


@contextlib.contextmanager
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real name server on loopback: a TXT record in two strings for key.test, silence for slow.test, else no such name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], server.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)

        def serve() -> None:
            while asked := server.recvfrom(4096):
                question = dns.message.from_wire(asked[0])
                name = str(question.question[0].name)
                if name == "end.test.":
                    return
                answer = dns.message.make_response(question)
                if name == "key.test.":
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", '"v=DKIM1; " "p=abc"'))
                elif name == "empty.test.":
                    answer.set_rcode(dns.rcode.NOERROR)
                else:
                    answer.set_rcode(dns.rcode.SERVFAIL if name == "broken.test." else dns.rcode.NXDOMAIN)
                if name != "slow.test.":
                    server.sendto(answer.to_wire(), asked[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            server.sendto(dns.message.make_query("end.test.", "TXT").to_wire(), server.getsockname())
            thread.join(10)


def test_keys_come_from_the_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strings of a record are joined; no record is None; a server that is broken or silent is told, within the time."""
    with name_server(monkeypatch):
        assert dkimcheck.txt_record("key.test", 5) == b"v=DKIM1; p=abc"
        assert dkimcheck.txt_record("nothing.test", 5) is None
        assert dkimcheck.txt_record("empty.test", 5) is None
        for name in ("slow.test", "broken.test"):
            with pytest.raises(DnsDown):
                dkimcheck.txt_record(name, 0.5)


def test_check_warns_of_words_that_never_hold() -> None:
    """`postroom check` names the setting without which a route matches nothing."""
    routes = [Route(name="a", match=Match(trust=["dmarc", "allowed", "known"])), Route(name="b")]  # type: ignore[arg-type]
    said = [f"{finding.what}: {finding.detail}" for finding in never_trusted(Settings(), routes)]
    assert said == [
        'route a: match.trust = "dmarc" never holds: set authserv_id in [smtp] or [imap.NAME]',
        'route a: match.trust = "allowed" never holds: set [trust] allow',
    ]
    settings = Settings(smtp={"authserv_id": "mx.y.test"}, trust={"allow": ("*@x.test",)})  # type: ignore[arg-type]
    assert list(never_trusted(settings, routes)) == []
