"""Who sent a mail, as far as that can be known: what our mail server found, what we verify ourselves, whom we know.

Nothing here says that a sender means well: much phishing carries `dmarc=pass`. It says that From names the true domain;
whom one trusts is the allow-list's matter (`match.trust = ["dmarc", "allowed"]`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from publicsuffixlist import PublicSuffixList

from config.routes import TrustName
from config.trust import TrustSettings
from tasks import authres, dkimcheck
from tasks.models import Job, MailFacts, Trust

OTHER_FROM = "other-from"
"""What a DMARC pass comes to that is not about the domain in From, as we read it."""


@dataclass(frozen=True)
class Believing:
    """What is asked about a sender."""

    settings: TrustSettings
    known: Callable[[str, str], bool]
    """(address, id of a job) -> whether an earlier job of that sender is done."""
    lookup: dkimcheck.Lookup = dkimcheck.txt_record

    def about(self, job: Job, raw: bytes, facts: MailFacts) -> Trust:
        """All that is known about a mail's sender. Never raises on what a mail says; DNS faults are `temperror`."""
        address = facts.from_address.lower()
        domain = address.rpartition("@")[2]
        if not domain or len(facts.headers.get("from", ())) > 1:
            return Trust()  # two From fields: the server may have looked at the other one
        told = job.headers.get(authres.HEADER, "")
        results = authres.results_of(told)
        signed = [
            (result.properties.get("header.d") or result.properties.get("header.i", "")).rpartition("@")[2]
            for result in results
            if (result.method, result.value) == ("dkim", "pass")
        ]
        verified = ""
        if self.settings.verify_dkim:
            verified, own = dkimcheck.check(raw, self.lookup, self.settings.dns_timeout)
            signed += own
        signed = sorted({name for name in signed if name})
        return Trust(
            by=authres.writer_of(told) if told else "",
            dmarc=_dmarc(results, domain),
            spf=authres.verdict(results, "spf"),
            dkim=authres.verdict(results, "dkim"),
            verified=verified,
            signed_by=tuple(signed),
            aligned=any(aligned(name, domain, strict=self.settings.alignment == "strict") for name in signed),
            allowed=any(fnmatchcase(address, pattern.lower()) for pattern in self.settings.allow),
            known=self.known(address, job.id),
        )


def aligned(signer: str, domain: str, *, strict: bool = False) -> bool:
    """Whether a signature of `signer` speaks for `domain` (RFC 7489 section 3.1.1), both in lower case.

    Relaxed: both belong to the same organization. Strict: they are the same.
    """
    if strict:
        return signer == domain != ""
    organization = _organization(signer)
    return bool(organization) and organization == _organization(domain)


def _dmarc(results: list[authres.Result], domain: str) -> str:
    """What DMARC came to. A pass counts for the domain that the server looked at, which has to be the one in From.

    A mail may name its author so that two programs read two addresses; `header.from` says what the server read.
    """
    verdict = authres.verdict(results, "dmarc")
    about = {result.properties.get("header.from", "") for result in results if result.method == "dmarc"}
    return OTHER_FROM if verdict == "pass" and about != {domain} else verdict


def _organization(domain: str) -> str:
    """The part of a domain that somebody registered (RFC 7489 section 3.2); empty for a public suffix such as `co.uk`."""
    return _suffixes().privatesuffix(domain) or ""


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def holds(name: TrustName, trust: Trust) -> bool:
    """Whether one word of `match.trust` is true of a sender."""
    return {
        "dmarc": trust.dmarc == "pass",
        "dkim": trust.aligned,
        "allowed": trust.allowed,
        "known": trust.known,
    }[name]
