"""Who sent a mail, as far as that can be known: what our mail server found, what we verify ourselves, whom we know.

Nothing here says that a sender means well: much phishing carries `dmarc=pass`. It says that From names the true domain;
whom one trusts is the allow-list's matter (`match.trust = ["dmarc", "allowed"]`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from config.routes import TrustName
from config.trust import TrustSettings
from tasks import authres, dkimcheck
from tasks.models import Job, MailFacts, Trust


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
            dmarc=authres.verdict(results, "dmarc"),
            spf=authres.verdict(results, "spf"),
            dkim=authres.verdict(results, "dkim"),
            verified=verified,
            signed_by=tuple(signed),
            aligned=any(aligned(name, domain) for name in signed),
            allowed=any(fnmatchcase(address, pattern.lower()) for pattern in self.settings.allow),
            known=self.known(address, job.id),
        )


def aligned(signer: str, domain: str) -> bool:
    """Whether a signature of `signer` speaks for `domain`: the same, its parent or its child (RFC 7489 section 3.1.1).

    Without the list of public suffixes, a signer without a dot (a top-level domain) speaks for nobody.
    """
    same = signer == domain or signer.endswith("." + domain) or domain.endswith("." + signer)
    return same and "." in signer and "." in domain


def holds(name: TrustName, trust: Trust) -> bool:
    """Whether one word of `match.trust` is true of a sender."""
    return {
        "dmarc": trust.dmarc == "pass",
        "dkim": trust.aligned,
        "allowed": trust.allowed,
        "known": trust.known,
    }[name]
