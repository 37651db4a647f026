"""`postroom check`: configuration, templates, and every dependency reachable."""

from __future__ import annotations

import contextlib
import imaplib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import httpx

from config.imap import ImapAccount
from config.inbound import is_loopback
from config.outbound import SmtpOut, WebhookEndpoint
from config.routes import Route
from config.settings import Settings
from daemon.console import one_line
from daemon.listeners import imap
from daemon.listeners.imap_clock import Clock
from daemon.listeners.imap_session import ImapSession, LoginRefusedError, RefusedError
from daemon.mailbox_look import known_of
from tasks import alerts, egress
from tasks.app import BROKER_ERRORS, make_app, ping, queues_of
from tasks.canary import workers
from tasks.clock import iso, now_ms
from tasks.configured import routes_of
from tasks.errors import Permanent, PostroomError, Transient
from tasks.ledger import Ledger
from tasks.ledger.imap_messages import Place
from tasks.model import Models
from tasks.outages import standings
from tasks.payload import template_problems
from tasks.stores import open_store

SECONDS = 10.0
RESCUE_SILENCE_MS = 60_000
"""A rescue writes down what it found every ten seconds."""
LONG_STAGE_MS = 3_600_000


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, and what to do when it is not."""

    what: str
    state: str
    """`ok`, `warning` or `failed`."""
    detail: str
    instead: str = ""

    @property
    def sentence(self) -> str:
        """What `postroom check` prints and `systemctl status` shows: one line, whatever a server said."""
        told = f"{self.what}: {self.detail}{f'; {self.instead}' if self.instead else ''}"
        return " ".join(one_line(told).split())


def never_trusted(settings: Settings, routes: Sequence[Route]) -> Iterator[Finding]:
    """Routes that no mail can match, since nothing is configured that a word of their match.trust could come from."""
    told = settings.smtp.authserv_id or any(account.authserv_id for account in settings.imap.values())
    lacking = {
        "dmarc": "" if told else "authserv_id in [smtp] or [imap.NAME]",
        "dkim": ""
        if told or settings.trust.verify_dkim
        else "[trust] verify_dkim, or authserv_id in [smtp] or [imap.NAME]",
        "allowed": "" if settings.trust.allow else "[trust] allow",
        "known": "",
    }
    for route in routes:
        for word in route.match.trust:
            if missing := lacking[word]:
                yield Finding(f"route {route.name}", "warning", f'match.trust = "{word}" never holds: set {missing}')


def dependencies(settings: Settings) -> Iterator[Finding]:
    """Look at each dependency in turn; a finding each."""
    yield ledger(settings)
    yield blobs(settings)
    found = broker(settings)
    yield found
    if found.state == "ok" and (consuming := consumers(settings)):
        yield consuming
    yield from _of_the_ledger(settings, rescues)
    yield from models(settings, routes_of(settings))
    yield smtp_out(settings)
    for name in settings.imap:
        yield mailbox(settings, name)
    for name in settings.endpoint:
        yield endpoint(settings, name)
    yield from _of_the_ledger(settings, _disabled)
    yield from _of_the_ledger(settings, partial(_outages, settings))
    yield from _of_the_ledger(settings, partial(canaries, settings.imap))
    yield from weaknesses(settings)


def of_templates(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the templates of webhooks; replies' are looked at with their routes."""
    for said in (*template_problems(settings), *alerts.template_problems(settings)):
        yield Finding("templates", "failed", said, "mend the template")


def ledger(settings: Settings) -> Finding:
    """Whether the ledger answers, and how many jobs are open."""
    elsewhere = bool(settings.ledger_url) and not settings.ledger_url.startswith("sqlite")
    instead = (
        "start PostgreSQL, or mend ledger_url"
        if elsewhere
        else "make room, or mend ledger_url or the rights on state_dir"
    )
    return _look("ledger", lambda: _ledger(settings), instead)


def blobs(settings: Settings) -> Finding:
    """Whether the store of large messages takes and gives up a few bytes."""
    return _look("blobs", lambda: open_store(settings).check(), "make room, or mend [blobs] or the rights on state_dir")


def smtp_out(settings: Settings) -> Finding:
    """Whether the server that takes our replies greets us."""
    out = settings.smtp_out
    instead = "start it, or set [smtp_out] host and port to the server that takes our replies"
    return _look(f"smtp_out {out.host}:{out.port}", lambda: smtp_answers(out), instead)


def mailbox(settings: Settings, name: str) -> Finding:
    """Whether [imap.NAME] lets us in and shows its folders."""
    account = settings.imap[name]
    what = f"imap.{name} {account.host}:{account.port}"
    instead = f"mend [imap.{name}]; `postroom imap test {name}` tells more"
    return _look(what, lambda: imap_answers(name, account, settings), instead)


def endpoint(settings: Settings, name: str) -> Finding:
    """Whether [endpoint.NAME] takes a connection."""
    one = settings.endpoint[name]
    what = f"endpoint.{name} {urlsplit(one.url).hostname}"
    return _look(what, lambda: endpoint_answers(one), f"start it, or mend [endpoint.{name}] url")


def weaknesses(settings: Settings) -> Iterator[Finding]:
    """What works and is weaker than its admin may think. Nothing is connected to."""
    for kind, sections in (("webhook", settings.webhook), ("endpoint", settings.endpoint)):
        for name, section in sections.items():
            for said in section.warnings():
                yield Finding(f"{kind}.{name}", "warning", said)
    if settings.blobs.endpoint.startswith("http://") and not is_loopback(
        urlsplit(settings.blobs.endpoint).hostname or ""
    ):
        yield Finding("blobs", "warning", "http:// sends messages in the clear", "write https:// in [blobs] endpoint")
    for name, account in settings.imap.items():
        if account.security == "none" and not is_loopback(account.host):
            said = f"password and mail go in clear to {account.host} (allow_plaintext)"
            yield Finding(f"imap.{name}", "warning", said, 'write security = "tls" or "starttls"')
    web = settings.web
    reached = _reached_by_others(settings)
    if not web.enabled or not reached or web.require_token is True:
        return
    if web.require_token is False:
        said = f"require_token = false, and {reached}: whoever reaches it may read and hand in jobs"
        yield Finding("web", "warning", said, "write require_token = true in [web]")
    elif not web.public_url:  # with it, everybody needs a token
        said = (
            f'require_token = "remote", and {reached}: what a proxy on this machine hands on without X-Forwarded-For'
            " or Via passes for a program of this machine, and needs no token"
        )
        yield Finding("web", "warning", said, "write require_token = true in [web]")


def _reached_by_others(settings: Settings) -> str:
    """The setting that says that not only programs on this machine reach the web process; empty when none does."""
    if not is_loopback(settings.web.host):
        return f"host {settings.web.host} is reached by other machines"
    if settings.web.public_url:
        return "public_url tells that others come"
    proxied = next((name for name, source in settings.webhook.items() if source.proxies), "")
    return f"[webhook.{proxied}] names proxies" if proxied else ""


def _of_the_ledger(settings: Settings, findings: Callable[[Ledger], Iterable[Finding]]) -> Iterator[Finding]:
    """What the ledger tells; nothing when it does not answer, for which it has a finding of its own."""
    try:
        ledger = Ledger.open(settings.ledger)
    except PostroomError:
        return
    with contextlib.closing(ledger):
        yield from findings(ledger)


def _disabled(ledger: Ledger) -> Iterator[Finding]:
    """Endpoints to which nothing goes, so that nobody forgets them."""
    for one in ledger.endpoints.all():
        if one.disabled_at:
            said = f"disabled since {iso(one.disabled_at)}: {one.disabled_because}"
            yield Finding(f"endpoint.{one.name}", "warning", said, f"`postroom endpoints enable {one.name}`")


def canaries(accounts: Mapping[str, ImapAccount], ledger: Ledger) -> Iterator[Finding]:
    """How long the last mail of each mailbox to itself was on its way, and whether the next one is overdue."""
    watched = ledger.imap_folders.all()
    for name, account in accounts.items():
        if not account.canary:
            continue
        rows = [watched[name, folder] for folder in account.folders if (name, folder) in watched]
        last = max(rows, key=lambda row: row.canary_at, default=None)
        what, instead = f"imap.{name} canary", "see whether [smtp_out] sends it and which folder it comes back to"
        if last is None or not last.canary_at:
            yield Finding(what, "warning", "no mail to itself has come back yet", instead)
            continue
        said = f"the mail to itself took {last.canary_ms / 1000:.1f} s, the last one at {iso(last.canary_at)}"
        if now_ms() - last.canary_at > (2 * account.canary + account.poll) * 1000:
            yield Finding(what, "warning", f"{said}; none has come since", instead)
        else:
            yield Finding(what, "ok", said)


def _outages(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """What the processes have found away, whatever a look from here says."""
    for one in standings(ledger, settings):
        if one.state in {"failing", "open", "half-open"}:
            said = f"{one.state} since {iso(one.since)}, failed last {iso(one.last_failure_at)}: {one.reason}"
            yield Finding(f"breaker {one.dependency}", "warning", said, "jobs wait for it and go on by themselves")


def _look(what: str, look: Callable[[], str], instead: str) -> Finding:
    try:
        return Finding(what, "ok", look())
    except PostroomError as error:
        return Finding(what, "failed", error.reason, instead)
    except (OSError, smtplib.SMTPException, imaplib.IMAP4.error, httpx.HTTPError, egress.Deadline) as error:
        return Finding(what, "failed", _words(error), instead)


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection: nothing listens there"
    if isinstance(error, TimeoutError):
        return f"does not answer within {SECONDS:g} s"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    return f"{type(error).__name__}: {error}"


def _ledger(settings: Settings) -> str:
    ledger = Ledger.open(settings.ledger)
    try:
        ledger.database.check_writable()
        number, _ = ledger.backlog.waiting()
        return f"{ledger.database.url.get_backend_name()}, {number} open jobs"
    finally:
        ledger.close()


def rescues(ledger: Ledger) -> Iterator[Finding]:
    """Who puts back to work what is due or lost, how long that takes, and what waits."""
    looks, now = ledger.rescues.all(), now_ms()
    if not looks:
        yield Finding("rescue", "ok", "none is running")
        return
    last = looks[0]
    if now - last.at > RESCUE_SILENCE_MS:
        said = f"none has looked since {iso(last.at)}: what is due, new in a flood, or lost waits"
        yield Finding("rescue", "warning", said, "start postroom rescue")
        return
    running = [look for look in looks if now - look.at <= RESCUE_SILENCE_MS]
    waits = f"the oldest for {(now - last.oldest_at) // 1000} s" if last.oldest_at else "none waits"
    said = (
        f"{len(running)} running; {last.open_jobs} open jobs ({waits}), {last.unpublished} not yet in a queue;"
        f" a look takes {last.tick_ms} ms, {last.slowest_ms} ms at most"
    )
    if last.longest_since and now - last.longest_since > LONG_STAGE_MS:
        said += f"; a stage has been running since {iso(last.longest_since)}"
        yield Finding("rescue", "warning", said, "find it with `postroom jobs`; if it hangs, restart its worker")
    else:
        yield Finding("rescue", "ok", said)


def broker(settings: Settings) -> Finding:
    """Whether the broker answers."""
    if not settings.broker_url:
        return Finding("broker", "ok", "none configured: `postroom up` starts an embedded Valkey")
    instead = "start Redis or Valkey, or mend broker_url; without it messages are accepted and wait in the ledger"
    address = settings.broker_url.rpartition("@")[2]
    try:
        ping(make_app(settings))
    except BROKER_ERRORS as error:
        return Finding("broker", "failed", f"{address}: {error}", instead)
    return Finding("broker", "ok", address)


def consumers(settings: Settings) -> Finding | None:
    """Whether workers take from each queue; None where no broker is configured or it does not answer."""
    if not settings.broker_url:
        return None
    try:
        seen = workers(make_app(settings))
    except BROKER_ERRORS:
        return None  # the broker has a finding of its own
    unserved = set(queues_of(settings)) - {queue for one in seen for queue in one["serves"].split(", ")}
    told = (
        f"{len(seen)} consume{'s' * (len(seen) == 1)}: {'; '.join(one['serves'] for one in seen)}"
        if seen
        else "none is running"
    )
    if seen and unserved:
        missing = f"nobody serves {', '.join(sorted(unserved))}"
        return Finding("workers", "failed", f"{told}; {missing}", f"start postroom worker --queues {min(unserved)}")
    return Finding("workers", "ok", told)


def model(settings: Settings) -> Finding:
    """One finding for all servers of models: what the first that is not well needs."""
    found = list(models(settings))
    return next((one for one in found if one.state != "ok"), found[0])


def models(settings: Settings, routes: Sequence[Route] = ()) -> Iterator[Finding]:
    """Whether each server of models answers and has those that the configuration names; a finding each."""
    for server, wanted in Models(settings.model).wanted(routes):
        try:
            have = server.names()
        except Transient as error:
            if server.kind != "ollama" or settings.model.is_given():
                yield Finding("model", "failed", error.reason, f"start it there, or mend {server.where}")
            else:
                said = "no Ollama configured or running: `postroom up` starts the embedded server"
                yield Finding("model", "ok", said)
            continue
        lacking = sorted(name for name in wanted if not have & {name, f"{name}:latest"})
        if lacking:
            use = ", ".join(sorted(have)) or "none"
            said = f"{server.address} has no model {lacking[0]!r}"
            yield Finding("model", "failed", said, f"{server.to_get(lacking[0])}, or use one of: {use}")
        else:
            yield Finding("model", "ok", f"{', '.join(sorted(wanted))} at {server.address}")


def smtp_answers(out: SmtpOut) -> str:
    """Greeting, EHLO (or LHLO), TLS and login as a delivery would; raises what smtplib raises."""
    encrypted = smtplib.SMTP_SSL if out.security == "tls" else smtplib.SMTP
    kind = smtplib.LMTP if out.protocol == "lmtp" else encrypted
    with kind(out.host, out.port, local_hostname=out.helo, timeout=SECONDS) as client:
        if out.security == "starttls":
            client.starttls(context=ssl.create_default_context())
        client.ehlo_or_helo_if_needed()
        if out.user:
            client.login(out.user, out.password.get_secret_value())
        return f"answers, {out.security if out.security != 'none' else 'no TLS'}"


def imap_answers(name: str, account: ImapAccount, settings: Settings) -> str:
    """Login and a look into each folder, as the listener would; raises what imaplib raises, or Permanent."""
    hurried = account.model_copy(update={"timeout": SECONDS})
    tokens = imap.tokens_of(name, account, settings, Clock())
    try:
        with ImapSession(hurried, tokens) as session:
            found = []
            for folder in account.folders:
                validity = session.select(folder, readonly=True)
                _, since = known_of(settings, Place(name, folder, validity), account)
                found.append(f"{folder} has {len(session.search(since))} messages")
            return ", ".join(found)
    except (LoginRefusedError, RefusedError) as error:
        raise Permanent(str(error)) from None


def endpoint_answers(endpoint: WebhookEndpoint) -> str:
    """An address that a delivery may use, and a TCP connection; a request would be an effect."""
    parts = urlsplit(endpoint.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    egress.resolve(parts.hostname or "", port, allow_private=endpoint.allow_private)
    with socket.create_connection((parts.hostname or "", port), timeout=SECONDS):
        return f"port {port} is open"
